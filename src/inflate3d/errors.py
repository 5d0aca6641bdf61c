"""The errors that a user can cause, and the one form in which they are told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MOST_ALIKE = 3
"""Problems of one kind that are told in full."""

MOST_NAMED = 10
"""Cases with the same problem that are named besides."""


_UNSHOWN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters that steer a terminal, or are none: files and names from elsewhere may hold them."""

_LONGEST_PART = 10_000


class Inflate3dError(Exception):
    """A mistake that the user can mend.

    The command line prints it without a traceback and exits with 2.

    Args:
        what: What is wrong, as one sentence without a full stop.
        expected: What would have been right.
        got: What was found instead.
        hint: What the user can do.
        case: Id of the case (one scan with its labels) that it concerns.
        file: The file that it concerns.
    """

    def __init__(
        self,
        what: str,
        *,
        expected: object = None,
        got: object = None,
        hint: str | None = None,
        case: str | None = None,
        file: str | Path | None = None,
    ) -> None:
        self.what = plain_text(what)
        self.expected = expected
        self.got = got
        self.hint = hint
        self.case = case
        self.file = None if file is None else str(file)
        super().__init__(self.what)

    def __reduce__(self) -> tuple[object, ...]:
        """Crosses process borders whole, keyword arguments included."""
        return _rebuild, (type(self), self._parts())

    def about(self, *, case: str, file: str | Path) -> Inflate3dError:
        """The same error, with the case and the file that its caller knows."""
        parts = {"case": case, "file": str(file), **self._parts()}
        return _rebuild(type(self), parts)

    def to_dict(self) -> dict[str, Any]:
        """Everything that is known of the mistake, as plain strings, for ``--json``."""
        return dict(self._parts())

    def _parts(self) -> dict[str, str]:
        parts = {
            "what": self.what,
            "case": self.case,
            "file": self.file,
            "expected": self.expected,
            "got": self.got,
            "hint": self.hint,
        }
        return {name: plain_text(str(value)) for name, value in parts.items() if value is not None}

    def __str__(self) -> str:
        details = [f"  {name + ':':<10}{text}" for name, text in self._parts().items() if name != "what"]
        return "\n".join([self.what, *details])


def plain_text(text: str) -> str:
    """A text that any terminal and any file takes, cut short where it is longer than a person reads."""
    if len(text) > _LONGEST_PART:
        kept = _LONGEST_PART - 40  # with what is said of the others, it is short enough to be left alone next time
        text = f"{text[:kept]} ... and {len(text) - kept} characters more"
    return _UNSHOWN.sub(lambda found: ascii(found[0])[1:-1], text)


class ConfigError(Inflate3dError):
    """An option or a configuration file that can't be used."""


class DataError(Inflate3dError):
    """A scan, a label map or a dataset that can't be used."""


class ModelError(Inflate3dError):
    """A backbone, a weight file or a model folder that can't be used."""


class OutputError(Inflate3dError):
    """A result that can't be written."""


class DatasetProblems(DataError):  # noqa: N818 - it is a list of errors
    """All that is wrong with a dataset, or with some of many scans, told at once.

    Args:
        problems: The single errors, at least one.
        warnings: What is odd besides, but would stop nobody.
        what: What is wrong in one sentence; the number of problems if not given.
        written: Files that were made all the same, or their addresses; none if making some was not the work.
    """

    def __init__(
        self,
        problems: Sequence[Inflate3dError],
        *,
        warnings: Sequence[Inflate3dError] = (),
        what: str | None = None,
        written: Sequence[Path | str] | None = None,
    ) -> None:
        self.problems = list(problems)
        self.warnings = list(warnings)
        self.written: list[Path | str] | None = None if written is None else list(written)
        super().__init__(what or f"{len(self.problems)} problem(s) in the dataset")

    def __reduce__(self) -> tuple[object, ...]:
        """Crosses process borders with every single error."""
        return _rebuild_problems, (self.problems, self.warnings, self.what, self.written)

    def about(self, *, case: str, file: str | Path) -> DatasetProblems:
        """The same errors, each with the case and the file where it has none."""
        return DatasetProblems(
            [problem.about(case=case, file=file) for problem in self.problems],
            warnings=[warning.about(case=case, file=file) for warning in self.warnings],
            what=self.what,
            written=self.written,
        )

    def to_dict(self) -> dict[str, Any]:
        """Every single error under ``problems``, every warning under ``warnings``, files made under ``written``."""
        return {
            **super().to_dict(),
            "problems": [problem.to_dict() for problem in self.problems],
            "warnings": [warning.to_dict() for warning in self.warnings],
            **({} if self.written is None else {"written": [str(file) for file in self.written]}),
        }

    def __str__(self) -> str:
        """Problems of one kind stand together, the first few in full."""
        kinds: dict[str, list[Inflate3dError]] = {}
        for problem in self.problems:
            kinds.setdefault(problem.what, []).append(problem)
        lines = [self.what]
        for alike in kinds.values():
            lines.extend(f"- {problem}" for problem in alike[:MOST_ALIKE])
            if len(alike) > MOST_ALIKE:
                lines.append(_others(alike[MOST_ALIKE:]))
        return "\n".join(lines)


def _others(problems: Sequence[Inflate3dError]) -> str:
    """Problems of one kind in one line."""
    cases = [plain_text(problem.case) for problem in problems if problem.case]
    named = ", ".join(cases[:MOST_NAMED]) + (", ..." if len(cases) > MOST_NAMED else "")
    return f"- {problems[0].what}: {len(problems)} more" + (f" ({named})" if named else "") + "; --json tells all"


def _rebuild(kind: type[Inflate3dError], parts: dict[str, str]) -> Inflate3dError:
    return kind(parts.pop("what"), **parts)  # type: ignore[arg-type]


def _rebuild_problems(
    problems: list[Inflate3dError], warnings: list[Inflate3dError], what: str, written: list[Path | str] | None
) -> DatasetProblems:
    return DatasetProblems(problems, warnings=warnings, what=what, written=written)


def some_of(names: Sequence[str], most: int = 5) -> str:
    """The first of many names, and how many more there are, for a message."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
