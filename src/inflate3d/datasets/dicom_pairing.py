"""DICOM series with the SEG and RTSTRUCT objects that were made from them, matched by the UIDs in the objects."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from inflate3d.datasets.case_table import Row
from inflate3d.datasets.pairing import COMBINED
from inflate3d.errors import truncate
from inflate3d.io import Series, find_series
from inflate3d.io.dicom.labels import LabelObject, find_label_objects
from inflate3d.io.segments import plain_name


@dataclass(frozen=True)
class DicomPairing:
    """The cases of a folder of DICOM studies.

    Attributes:
        rows: A series and its label object each, sorted by id, with paths below the folder.
        class_names: Label value to the structure's name, as the first object spells it; the background is left out.
        label_files: In how many objects each of them is.
        unpaired: Objects without a series and the like, each with the reason.
        objects: For cases with several objects of different structures: their paths, by case. The label maps in their
            rows have yet to be written.
    """

    rows: tuple[Row, ...]
    class_names: dict[int, str]
    label_files: dict[int, int]
    unpaired: tuple[tuple[str, str], ...]
    objects: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def pair_dicom(folder: Path) -> DicomPairing | None:
    """Finds the series of a folder and its subfolders that have a label object; None if none has one.

    Only headers are read: whether contours lie on slices, and structures overlap, shows when labels are read.
    """
    objects = find_label_objects(folder)
    if not objects:
        return None
    series = {each.uid: each for each in find_series(folder) if not each.flaw}
    by_series: defaultdict[str, list[LabelObject]] = defaultdict(list)
    unpaired: list[tuple[str, str]] = []
    for each in objects:
        if each.series in series:
            by_series[each.series].append(each)
        else:
            unpaired.append((_within(folder, each.path), f"its series, {each.series or 'not named'}, is not here"))
    for uid, several in list(by_series.items()):
        counts = Counter(name for each in several for name in {*map(plain_name, each.names)})
        if repeated := [name for name, count in counts.items() if count > 1]:
            reason = f"{truncate(repeated, 3)} is in several label objects of the series {uid}; list one by hand"
            unpaired += [(_within(folder, each.path), reason) for each in several]
            del by_series[uid]
    if not by_series:
        return None
    classes = _classes([each for several in by_series.values() for each in several])
    rows, objects = _rows(folder, [series[uid] for uid in by_series], by_series)
    counts = Counter(
        name for several in by_series.values() for each in several for name in {*map(plain_name, each.names)}
    )
    return DicomPairing(
        rows=rows,
        class_names=classes,
        label_files={value: counts[plain_name(name)] for value, name in classes.items()},
        unpaired=tuple(sorted(unpaired)),
        objects=objects,
    )


def _classes(objects: Sequence[LabelObject]) -> dict[int, str]:
    """A value for each structure, by the alphabet."""
    spelled: dict[str, str] = {}
    for each in objects:
        for name in each.names:
            spelled.setdefault(plain_name(name), name)
    return dict(enumerate((spelled[plain] for plain in sorted(spelled)), start=1))


def _rows(
    folder: Path, series: Sequence[Series], paired: Mapping[str, Sequence[LabelObject]]
) -> tuple[tuple[Row, ...], dict[str, tuple[str, ...]]]:
    """The rows of the cases, and the objects of those that have several."""
    tops = Counter(each.path.relative_to(folder).parts[:1] for each in series)
    patients: defaultdict[str, list[str]] = defaultdict(list)
    names: dict[str, str] = {}
    for each in series:
        parts = each.path.relative_to(folder).parts
        names[each.uid] = parts[0] if parts and tops[parts[:1]] == 1 else "_".join(parts) or folder.resolve().name
        patients[each.patient].append(names[each.uid])
    rows: list[Row] = []
    objects: dict[str, tuple[str, ...]] = {}
    for each in series:
        same = sorted(patients[each.patient]) if each.patient else []
        name, labels = names[each.uid], tuple(_within(folder, own.path) for own in paired[each.uid])
        group = same[0] if len(same) > 1 else None  # named by a case: the patient's id stays in the headers
        label = labels[0]
        if len(labels) > 1:
            objects[name], label = labels, combined_name(name)
        rows.append(Row(name, (_within(folder, each.path),), label, None, group))
    if any(row.group for row in rows):
        rows = [Row(row.case, row.images, row.label, None, row.group or row.case) for row in rows]
    return tuple(sorted(rows, key=lambda row: row.case)), objects


def combined_name(case: str) -> str:
    """The file of a label map that is combined from several objects, below the folder."""
    return f"{COMBINED}/{case}.nii.gz"


def _within(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()
