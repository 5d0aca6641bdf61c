"""What the page shows of a project, and the label maps that it sends."""

from __future__ import annotations

import math
import threading
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt8

from inflate3d.annotation.strategies import DEFAULT_STRATEGY, STRATEGIES
from inflate3d.errors import DataError
from inflate3d.report.sheet import ClassEntry
from inflate3d.server.cases import AnnotatedCase
from inflate3d.server.faults import ConflictError, NotFoundError
from inflate3d.server.labels import PERSON, LabelVersion, Tag
from inflate3d.server.service import Service
from inflate3d.viewer.page import case_details, class_entries, labels_file, labels_of_file, scan_file
from inflate3d.viewer.thumbnail import thumbnail
from inflate3d.volume import Volume

_STATES: dict[Tag, str] = {"final": "final", "draft": "corrected", "predicted": "predicted"}
_NAMES: dict[Tag, str] = {"final": "final", "draft": "draft", "predicted": "prediction"}

_AGREEMENT = "dice_with_prediction"
"""In the record of a label map that a person saved: its Dice with the newest prediction, mean over the classes."""

_GZIP = 31
"""zlib's number for gzip with the largest window."""


@dataclass
class PageData:
    """The page's side of a service; safe to use from several threads."""

    service: Service
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _scan: tuple[AnnotatedCase, Volume] | None = None
    _thumbnails: dict[str, tuple[AnnotatedCase, int | None, bytes]] = field(default_factory=dict)

    def room(self) -> dict[str, Any]:
        """What stays the same while the server runs.

        Raises:
            DataError: There are more classes than the page can show.
        """
        coding = self.service.cases.coding
        pairs = zip(coding.values[1:], coding.names, strict=True)
        classes = [ClassEntry(value, name, number) for number, (value, name) in enumerate(pairs, start=1)]
        shown = {"title": self.service.project.name, "classes": class_entries(classes)}
        return {**shown, "draw": True, "list": True, "train": self.service.name}

    def cases(self) -> dict[str, Any]:
        """All cases, and the model in service."""
        model = self.service.models.in_service
        held_out = {} if model is None else model.held_out
        text = "no model yet" if model is None else f"model {model.number}"
        if model is not None and model.dice is not None:
            text += f" · held-out Dice {model.dice:.3f}"
        entries = [_entry(case, held_out) for case in self.service.cases]
        usable = {name: each for name, each in STRATEGIES.items() if model is not None or not each.needs_predictions}
        first = "random" if model is None else DEFAULT_STRATEGY
        names = sorted(usable, key=lambda name: name != first)
        strategies = [{"name": name, "about": usable[name].about} for name in names]
        return {"cases": entries, "model": text, "predict": model is not None, "strategies": strategies}

    def models(self) -> dict[str, Any]:
        """All versions of the model, newest first, and which of them is in service."""
        current = self.service.models.in_service
        versions = [
            {**version.model_dump(mode="json", exclude={"held_out"}), "held_out": len(version.held_out)}
            for version in reversed(self.service.models.versions())
        ]
        return {"in_service": None if current is None else current.number, "versions": versions}

    def case(self, name: str) -> dict[str, Any]:
        """What the page needs to know of a case."""
        case = self.service.cases[name]
        details = case_details(name, self._read(case), self.service.cases.dataset.modalities)
        current = case.history.current()
        return {**details, **_versions(case), "opened": [] if current is None else [str(current.number)]}

    def scan(self, name: str, modality: int) -> bytes:
        """A modality's file; see `inflate3d.viewer.page`."""
        scan = self._read(self.service.cases[name])
        if not 0 <= modality < len(scan.array):
            raise NotFoundError("modality not found", got=modality)
        return scan_file(scan, modality)

    def labels(self, name: str, number: int) -> bytes:
        """A version's label map; see `inflate3d.viewer.page`."""
        case = self.service.cases[name]
        labels = self.service.cases.read_labels(name, _version(case, number))
        return labels_file(self._numbers(labels.array[0]), labels)

    def thumbnail(self, name: str) -> bytes:
        """A picture of the case as it is now."""
        case = self.service.cases[name]
        current = case.history.current()
        number = None if current is None else current.number
        known = self._thumbnails.get(name)
        if known is not None and known[0] is case and known[1] == number:
            return known[2]
        labels = None if current is None else self._numbers(self.service.cases.read_labels(name, current).array[0])
        picture = thumbnail(case.read_scan(), labels)
        self._thumbnails[name] = (case, number, picture)
        return picture

    def save(
        self, name: str, content: bytes, *, base: int | None, newest: int, tag: Tag, by: str | None
    ) -> dict[str, Any]:
        """Adds a label map that a person drew as a new version, on the scan's own grid.

        Where nothing was drawn, the voxels keep the values of the version that was drawn on.

        Args:
            content: As the page sends it; see `inflate3d.viewer.page`.
            base: The version that was drawn on; None if it was empty.
            newest: The newest version that the page knows.

        Raises:
            ConflictError: Another label map was saved meanwhile.
            DataError: It is no label map of this scan.
        """
        case, coding = self.service.cases[name], self.service.cases.coding
        last = case.history.newest(*PERSON)
        if last is not None and last.number > newest:
            by_whom = f" by {last.by}" if last.by else ""
            raise ConflictError(
                "another label map was saved in the meantime",
                got=f"version {last.number}{by_whom}",
                hint="compare, and save again",
            )
        scan = case.read_grid()
        numbers = labels_of_file(_unpack(content, scan.array.size), scan, len(coding.names))
        version = None if base is None else _version(case, base)
        labels = np.array(coding.values)[numbers]
        if version is not None:
            before = self.service.cases.read_labels(name, version).array[0]
            labels = np.where(numbers == self._numbers(before), before, labels)
        saved = self.service.cases.save_labels(
            name,
            labels,
            tag=tag,
            by=by,
            model=None if version is None else version.model,
            info=self._agreement(case, numbers),
        )
        return {"version": str(saved.number), "case": _versions(case)}

    def predict(self, name: str) -> dict[str, Any]:
        """Labels a case by the model in service."""
        case = self.service.cases[name]
        version, _ = self.service.predict_case(case)
        warnings = [warning["what"] for warning in version.info.get("warnings", [])]
        return {"version": str(version.number), "case": _versions(case), "warnings": warnings}

    def _read(self, case: AnnotatedCase) -> Volume:
        """A case's scan; the last one is kept, since the page asks for its parts in turn."""
        with self._lock:
            if self._scan is None or self._scan[0] is not case:
                self._scan = None  # never two of them
                self._scan = (case, case.read_scan())
            return self._scan[1]

    def _numbers(self, labels: Integer[np.ndarray, "i j k"]) -> UInt8[np.ndarray, "i j k"]:
        return self.service.cases.coding.encode(labels).astype(np.uint8)

    def _agreement(self, case: AnnotatedCase, numbers: UInt8[np.ndarray, "i j k"]) -> dict[str, Any]:
        from inflate3d.server.scoring import mean_dice  # which loads torch

        predicted = case.history.newest("predicted")
        if predicted is None:
            return {}
        other = self._numbers(self.service.cases.read_labels(case.id, predicted).array[0])
        value = mean_dice(other, numbers, len(self.service.cases.coding.values))
        return {} if math.isnan(value) else {_AGREEMENT: value}


def _entry(case: AnnotatedCase, held_out: dict[str, float]) -> dict[str, Any]:
    """A row of the list of cases."""
    current = case.history.current()
    entry: dict[str, Any] = {
        "id": case.id,
        "name": case.id,
        "state": "unlabeled" if current is None else _STATES[current.tag],
    }
    if current is None:
        return {**entry, "version": None}
    entry["version"] = current.number
    if current.tag == "predicted":
        values = list((current.confidence or {}).values())
        return {**entry, "confidence": float(np.mean(values)) if values else None}
    return {**entry, "dice": current.info.get(_AGREEMENT, held_out.get(case.id))}


def _versions(case: AnnotatedCase) -> dict[str, Any]:
    """A case's state and its label maps, newest first."""
    current = case.history.current()
    kept = [version for version in reversed(case.history.versions()) if not version.withdrawn]
    return {
        "state": "unlabeled" if current is None else _STATES[current.tag],
        "newest": max((version.number for version in kept), default=0),
        "versions": [
            {
                "id": str(version.number),
                "name": _name(version),
                "who": None if version.tag == "predicted" else version.by,
                "when": version.saved and version.saved.isoformat(),
            }
            for version in kept
        ],
    }


def _name(version: LabelVersion) -> str:
    if version.number == 0:
        return "the dataset's label map"
    if version.tag == "predicted" and version.model is not None:
        return f"prediction of model {version.model}"
    return _NAMES[version.tag]


def _version(case: AnnotatedCase, number: int) -> LabelVersion:
    version = case.history.get(number)
    if version is None or version.withdrawn:
        raise NotFoundError("label map not found", got=f"version {number}", case=case.id)
    return version


def _unpack(content: bytes, size: int) -> bytes:
    """What gzip compressed, if it is of this size."""
    unpacker = zlib.decompressobj(_GZIP)
    try:
        unpacked = unpacker.decompress(content, size + 1)
    except zlib.error as error:
        raise DataError("label map is not compressed by gzip", got=error) from error
    if len(unpacked) == size and not unpacker.eof:
        raise DataError("label map is not complete", expected=f"{size} voxels, compressed by gzip")
    return unpacked
