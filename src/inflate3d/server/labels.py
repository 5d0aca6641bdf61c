"""The label maps of a case by version: each save adds one, and none is ever changed or removed.

A version is two files: the label map, written first, and a record beside it, whose writing makes it count. Both are
written atomically, so that after a kill at any time each version is there as a whole or not at all.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from inflate3d.atomic import write_text
from inflate3d.errors import Inflate3dError
from inflate3d.settings import FrozenModel, parse_settings, read_json

Tag = Literal["final", "draft", "predicted"]
"""``final``: a person finished it. ``draft``: a person began it. ``predicted``: a model made it."""

TAGS: tuple[Tag, ...] = ("final", "draft", "predicted")

PERSON: tuple[Tag, ...] = ("final", "draft")
"""The tags of label maps that a person saved."""

_RECORD = re.compile(r"(\d{4,})\.json")
_NUMBERED = re.compile(r"(\d{4,})\..+")
_TEMPORARY = re.compile(r"\.[0-9a-f]{8}-.+")
"""What a killed process leaves of a file that it was writing, see `inflate3d.atomic`."""


class LabelVersion(FrozenModel):
    """One saved label map.

    Attributes:
        number: Counts the versions of a case, from 1 on; 0 is the label map of the dataset.
        tag: Whose it is and whether it is finished, see `Tag`.
        file: Name of the label map in the case's folder; None for version 0, and where the label map of this tag was
            withdrawn.
        saved: When it was saved, in UTC; None for version 0.
        by: Who saved it, as far as the client says; for a prediction the model's name.
        model: Version of the model that predicted it, or that a person corrected.
        confidence: For a prediction, its confidence for each class by name; NaN is left out.
        info: What the client said besides; for a prediction, its confidence and warnings.
    """

    number: int = Field(ge=0)
    tag: Tag
    file: str | None = None
    saved: datetime | None = None
    by: str | None = None
    model: int | None = None
    confidence: dict[str, float] | None = None
    info: dict[str, Any] = Field(default_factory=dict)

    @property
    def withdrawn(self) -> bool:
        return self.number > 0 and self.file is None


@dataclass
class LabelHistory:
    """All label maps of a case; safe to use from several threads of one process.

    Attributes:
        folder: The case's folder, which is created with the first version.
        original: The dataset's own label map, version 0, which is never written to.
    """

    folder: Path
    original: Path | None = None
    _versions: list[LabelVersion] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @classmethod
    def open(cls, folder: Path, original: Path | None = None) -> LabelHistory:
        """Reads the versions, and removes what a killed process left of one that did not count yet."""
        history = cls(folder, original)
        if original is not None:
            history._versions.append(LabelVersion(number=0, tag="final"))
        if not folder.is_dir():
            return history
        names = sorted(path.name for path in folder.iterdir())
        records = [name for name in names if _RECORD.fullmatch(name)]
        read = (parse_settings(LabelVersion, read_json(folder / name), file=folder / name) for name in records)
        history._versions += sorted(read, key=lambda version: version.number)
        counted = {version.number for version in history._versions}
        for name in names:
            number = _NUMBERED.fullmatch(name)
            if _TEMPORARY.fullmatch(name) or (number and int(number[1]) not in counted):
                (folder / name).unlink(missing_ok=True)
        return history

    def versions(self) -> list[LabelVersion]:
        """All versions, oldest first."""
        with self._lock:
            return list(self._versions)

    def newest(self, *tags: Tag) -> LabelVersion | None:
        """The newest version with one of these tags (any if none is given), unless it was withdrawn."""
        for tag_version in reversed(self.versions()):
            if not tags or tag_version.tag in tags:
                return None if tag_version.withdrawn else tag_version
        return None

    def current(self) -> LabelVersion | None:
        """What to show and to correct: the newest that a person saved, or else the newest prediction."""
        return self.newest(*PERSON) or self.newest("predicted")

    def get(self, number: int) -> LabelVersion | None:
        return next((version for version in self.versions() if version.number == number), None)

    def path(self, version: LabelVersion) -> Path:
        """The file of a version's label map."""
        if version.number == 0:
            assert self.original is not None
            return self.original
        assert version.file is not None, "it was withdrawn"
        return self.folder / version.file

    def add(
        self,
        write: Callable[[Path], object],
        suffix: str,
        *,
        tag: Tag,
        by: str | None = None,
        model: int | None = None,
        confidence: dict[str, float] | None = None,
        info: dict[str, Any] | None = None,
    ) -> LabelVersion:
        """Adds a version.

        Args:
            write: Writes the label map to a path, atomically.
            suffix: Of that path, such as ``.nii.gz``.

        Raises:
            OutputError: It can't be written; then there is no new version.
        """
        with self._lock:
            number = self._next_number()
            file = f"{number:04d}{suffix}"
            version = LabelVersion(
                number=number,
                tag=tag,
                file=file,
                saved=datetime.now(UTC),
                by=by,
                model=model,
                confidence=confidence,
                info=info or {},
            )
            try:
                write(self.folder / file)
                self._record(version)
            except Inflate3dError:
                (self.folder / file).unlink(missing_ok=True)
                raise
            self._versions.append(version)
            return version

    def withdraw(self, tag: Tag, *, by: str | None = None) -> LabelVersion:
        """Makes the newest label map with this tag not count any more; its file stays."""
        with self._lock:
            version = LabelVersion(number=self._next_number(), tag=tag, saved=datetime.now(UTC), by=by)
            self._record(version)
            self._versions.append(version)
            return version

    def annotate(self, version: LabelVersion, info: dict[str, Any]) -> LabelVersion:
        """Adds to what a version's record says besides; not for the dataset's own label map."""
        with self._lock:
            changed = version.model_copy(update={"info": {**version.info, **info}})
            self._record(changed)
            self._versions = [changed if each.number == version.number else each for each in self._versions]
            return changed

    def _next_number(self) -> int:
        return max((version.number for version in self._versions), default=0) + 1

    def _record(self, version: LabelVersion) -> None:
        write_text(self.folder / f"{version.number:04d}.json", version.model_dump_json(indent=1) + "\n")


def as_tag(name: str) -> Tag | None:
    """The tag of a name; MONAI Label's clients call predictions ``original``."""
    known: dict[str, Tag] = {"original": "predicted", **{tag: tag for tag in TAGS}}
    return known.get(name)


def count_tags(histories: Sequence[LabelHistory]) -> dict[str, int]:
    """How many cases have a label map with each tag."""
    counts = {tag: sum(history.newest(tag) is not None for history in histories) for tag in TAGS}
    return {tag: count for tag, count in counts.items() if count}
