"""The store: every prepared case in a pair of files, read slice by slice.

A case's image and labels are in model space, with slices on their own pixel grid: they are not resized in-plane or
normalized, so that the store is as small as the dataset and serves every image size. Voxel values are the scan's own
unless the plan resamples slices.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Integer, Shaped
from pydantic import Field

from inflate3d.atomic import write_text
from inflate3d.datasets.case import Case, CaseId, Dataset
from inflate3d.datasets.splits import Split
from inflate3d.documents import DAMAGED_JSON, parse_json, read_text
from inflate3d.errors import ConfigError, DataError, OutputError
from inflate3d.orientation import Orientation
from inflate3d.preparation.arrays import READ_ERRORS, StoredSlices, write_slices
from inflate3d.preparation.fingerprint import Fingerprint
from inflate3d.preparation.model_space import ModelSpaceScan, to_model_space
from inflate3d.preparation.plan import ModelSpace, Normalization, Plan
from inflate3d.preparation.plan_options import PlanOptions
from inflate3d.settings import FrozenModel, parse_settings, read_json
from inflate3d.volume import Volume

STORE_VERSION = 5

ArrayKind = Literal["image", "label"]
ARRAY_KINDS: tuple[ArrayKind, ...] = ("image", "label")
"""A case's two files."""


class StoredCase(FrozenModel):
    """A case's entry in the index.

    Attributes:
        shape: ``(D, H, W)`` in voxels.
        spacing: Millimeters along ``(D, H, W)``.
        ranges: The voxel values that become 0 and 1, for each modality.
        slices: The slices with each foreground class.
        rows: The same for rows: slices along the second axis.
        columns: The same for columns.
        group: Cases of one group stay on the same side of a split.
    """

    case: CaseId
    group: str | None = None
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    ranges: tuple[tuple[float, float], ...]
    slices: dict[int, tuple[int, ...]]
    rows: dict[int, tuple[int, ...]] = Field(default_factory=dict)
    columns: dict[int, tuple[int, ...]] = Field(default_factory=dict)

    def slices_along(self, axis: int) -> dict[int, tuple[int, ...]]:
        """For each class but the background, the slices along an axis (depth, rows, columns) that hold it."""
        return (self.slices, self.rows, self.columns)[axis]


class _Index(FrozenModel):
    version: Literal[5] = STORE_VERSION
    source: str
    options: PlanOptions
    splits: dict[str, tuple[Split, ...]]
    cases: tuple[StoredCase, ...]

    def write(self, folder: Path) -> None:
        write_text(folder / "store.json", self.model_dump_json() + "\n")


def write_case(folder: Path, case: Case, volume: Volume, labels: Volume, space: ModelSpace) -> StoredCase:
    """Writes one case's file pair, each file atomically; the caller flushes them (see `flush_files`).

    Args:
        volume: Its scan ``(C, I, J, K)``, checked.
        labels: Its label map ``(1, I, J, K)``, checked.
        space: The plan, or its part that is decided first.

    Returns:
        Its entry in the index, with its own percentiles as value ranges.
    """
    scan = to_model_space(volume, space)
    numbered = space.number_classes(scan.labels(labels.array[0]))
    slices, rows, columns = (_slices_with(numbered.swapaxes(0, axis), len(space.classes)) for axis in range(3))
    write_slices(case_file(folder, case.id, "image"), scan.image(), "image")
    write_slices(case_file(folder, case.id, "label"), numbered, "label")
    return StoredCase(
        case=case.id,
        group=case.group,
        shape=numbered.shape,
        spacing=scan.spacing,
        ranges=scan.value_ranges((Normalization(kind="case"),) * len(scan.voxels)),
        slices=slices,
        rows=rows,
        columns=columns,
    )


def _slices_with(numbered: Integer[np.ndarray, "d h w"], classes: int) -> dict[int, tuple[int, ...]]:
    """For each foreground class that occurs, the slices that contain it."""
    present = np.array([np.bincount(plane.ravel(), minlength=classes)[1:classes] > 0 for plane in numbered])
    found = {k: tuple(np.flatnonzero(where).tolist()) for k, where in enumerate(present.T, start=1)}
    return {k: slices for k, slices in found.items() if slices}


class Store:
    """A prepared dataset, opened for reading.

    Args:
        folder: The folder that ``prepare`` wrote.

    Raises:
        DataError: The store is missing or incomplete, or another version wrote it.

    Examples:
        >>> import inflate3d as i3d
        >>> i3d.prepare(i3d.read_dataset("data/Liver"), Path("prepared/Liver"), workers=1).plan.depth_axis
        'axial'
        >>> Store(Path("prepared/Liver")).image_slices("toy0", [2, 3]).shape  # (modalities, slices, rows, columns)
        (1, 2, 20, 24)
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index = _read_index(folder)
        self.source = Path(index.source)
        self.options = index.options
        self.splits = index.splits
        self.cases = {case.case: case for case in index.cases}

    @property
    def groups(self) -> dict[str, str | None]:
        """The group of each case, such as its patient; None where unknown."""
        return {name: case.group for name, case in self.cases.items()}

    @cached_property
    def plan(self) -> Plan:
        """The plan by which the cases were prepared."""
        return Plan.read(self.folder / "plan.json")

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """The measurements from which the plan was made."""
        path = self.folder / "fingerprint.json"
        return parse_settings(Fingerprint, read_json(path), file=path)

    def take_splits(self, dataset: Dataset) -> None:
        """Updates the splits and groups to the dataset's current ones, which prepared cases do not depend on.

        Args:
            dataset: The dataset that the store was made from.

        Raises:
            OutputError: The index can't be written (it is written only if something has changed).
        """
        splits, groups = dict(dataset.splits), {case.id: case.group for case in dataset.cases}
        if (splits, groups) == (self.splits, self.groups):
            return
        self.splits = splits
        self.cases = {name: case.model_copy(update={"group": groups[name]}) for name, case in self.cases.items()}
        cases = tuple(self.cases.values())
        _Index(source=str(self.source), options=self.options, splits=splits, cases=cases).write(self.folder)

    def scan(self, case: str) -> ModelSpaceScan:
        """Reads a whole scan in model space, as `to_model_space` returns it.

        If the plan resamples slices, only the resampled ones are stored, and count as the scan's own.
        """
        stored = self.cases[case]
        voxels = self._read(case, "image", 0, stored.shape[0] - 1)
        as_stored = Orientation((0, 1, 2), (False, False, False))
        return ModelSpaceScan(as_stored, voxels, stored.shape[0], stored.spacing, stored.ranges)

    def labels(self, case: str) -> Integer[np.ndarray, "d h w"]:
        """Reads a whole label map in model space, class numbers ``(D, H, W)``."""
        return self._read(case, "label", 0, self.cases[case].shape[0] - 1)

    def check_source(self, dataset: Dataset, options: PlanOptions) -> None:
        """Checks that the store matches the dataset's current files and the options.

        The dataset's folder may have been moved since: its files are compared by name, size and time.

        Splits and groups may differ, see :meth:`take_splits`.

        Args:
            dataset: The dataset.
            options: Requested options of the plan; the stride is not checked.

        Raises:
            DataError: It was prepared from another folder or other cases, or files, modalities or classes have changed
                since.
            ConfigError: It was prepared with other options.
        """
        again: dict[str, Any] = {
            "hint": "run `inflate3d prepare` again, or choose another --store",
            "file": self.folder,
        }
        cases, root = {case.id for case in dataset.cases}, dataset.root.resolve()
        has_moved = self.source != root and not self.source.exists()
        if (self.source != root and not has_moved) or set(self.cases) != cases:
            raise DataError(
                "the store was prepared from another dataset, or from other cases of it",
                expected=f"{len(cases)} cases of {root}",
                got=f"{len(self.cases)} cases of {self.source}",
                **again,
            )
        if changed := self.fingerprint.changed_files(dataset):
            what = "files have changed since the dataset was prepared"
            raise DataError(what, got=f"{len(changed)}, such as {changed[0]}", **again)
        what = "the dataset's description has changed since it was prepared"
        try:
            chosen = self.options.choose_classes(dataset)
        except ConfigError as error:  # a class that the store's options name is there no more
            raise DataError(what, expected=error.expected, got=error.got, **again) from error
        pairs = {
            "modalities": (list(self.plan.modalities), list(chosen.modalities)),
            "classes": (self.plan.classes, chosen.classes),
            "merge": (self.plan.merged, dict(chosen.merged)),
            "ignore": (self.plan.ignore, chosen.ignore),
            "regions": (self.plan.regions, chosen.regions),
        }
        if differing := {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}:
            before, now = (", ".join(f"{name} {pair[at]}" for name, pair in differing.items()) for at in (0, 1))
            raise DataError(what, expected=before, got=now, **again)
        asked = options.model_dump(exclude_defaults=True, exclude={"stride"})
        if others := [name for name, value in asked.items() if value != getattr(self.options, name)]:
            raise ConfigError(
                "the dataset was prepared with other options",
                expected=options.as_flags(others),
                got=self.options.as_flags(others),
                **again,
            )

    def image_slices(self, case: str, slices: list[int], axis: int = 0) -> Shaped[np.ndarray, "c d h w"]:
        """Reads slices of a scan, ``(C, len(slices), H, W)``; indices may be repeated.

        Args:
            case: Its id.
            slices: Ascending indices.
            axis: The axis of model space that they refer to; the others are returned whole, in their order.
        """
        return _taken(self._read(case, "image", slices[0], slices[-1], axis), slices, axis)

    def label_slice(self, case: str, index: int) -> Integer[np.ndarray, "h w"]:
        """Reads one slice of a label map, class numbers ``(H, W)``."""
        return self._read(case, "label", index, index)[0]

    def label_slices(self, case: str, slices: list[int], axis: int = 0) -> Integer[np.ndarray, "d h w"]:
        """Reads slices of a label map, class numbers ``(len(slices), H, W)``, as :meth:`image_slices` does."""
        return _taken(self._read(case, "label", slices[0], slices[-1], axis), slices, axis)

    def _read(self, case: str, kind: ArrayKind, first: int, last: int, axis: int = 0) -> Shaped[np.ndarray, "*c d h w"]:
        path = case_file(self.folder, case, kind)
        try:
            block = StoredSlices(path).read(first, last, axis)
            if block.shape[axis - 3] != last - first + 1:
                raise RuntimeError(f"no slices {first} to {last}")
            return block
        except READ_ERRORS as error:
            raise DataError(
                "cannot read prepared case",
                got=error,
                hint="prepare the dataset again",
                case=case,
                file=path,
            ) from error


def _taken(block: Shaped[np.ndarray, "*c d h w"], slices: list[int], axis: int) -> Shaped[np.ndarray, "*c _ _ _"]:
    """Some slices of a block that starts with the first of them; copied only if they are not all of it."""
    indices = [index - slices[0] for index in slices]
    return block if indices == list(range(block.shape[axis - 3])) else block.take(indices, axis - 3)


def default_store(dataset: Path) -> Path:
    """Default folder of a dataset's store: ``prepared/`` and the name of the dataset's folder."""
    return Path("prepared") / dataset.resolve().name


def write_index(
    folder: Path, dataset: Dataset, options: PlanOptions, cases: list[StoredCase], plan: Plan, fingerprint: Fingerprint
) -> None:
    """Writes the index, the plan and the fingerprint, which completes the store."""
    write_text(folder / "fingerprint.json", fingerprint.model_dump_json(indent=1) + "\n")
    plan.write(folder / "plan.json")
    index = _Index(
        source=str(dataset.root.resolve()),
        options=options,
        splits=dict(dataset.splits),
        cases=tuple(sorted(cases, key=lambda stored: stored.case)),
    )
    index.write(folder)


def remove_other_cases(folder: Path, cases: Iterable[str]) -> None:
    """Removes case files that an older store left in the folder."""
    kept = {case_file(folder, case, kind) for case in cases for kind in ARRAY_KINDS}
    for path in sorted({path for kind in ARRAY_KINDS for path in folder.glob(f"*.{kind}.b2nd")} - kept):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError("cannot remove an old prepared case", got=error.strerror, file=path) from error


def case_file(folder: Path, case: str, kind: ArrayKind) -> Path:
    """The file of one of a case's two arrays."""
    return folder / f"{case}.{kind}.b2nd"


def _read_index(folder: Path) -> _Index:
    path = folder / "store.json"
    try:
        values = parse_json(read_text(path))
    except FileNotFoundError as error:
        raise DataError("prepared dataset not found", file=folder, hint="run `inflate3d prepare` first") from error
    except (OSError, *DAMAGED_JSON) as error:
        raise DataError("cannot read prepared dataset", file=path, got=error) from error
    version = values.get("version") if isinstance(values, dict) else None
    if version != STORE_VERSION:
        raise DataError(
            "prepared by another version of inflate3d",
            expected=f"store version {STORE_VERSION}",
            got=version,
            file=path,
            hint="prepare the dataset again",
        )
    return parse_settings(_Index, values, file=path)
