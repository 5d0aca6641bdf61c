"""What ``inflate3d init`` proposes about a folder: its cases, modalities and classes, and their ``dataset.yaml``."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from inflate3d.atomic import write_text
from inflate3d.datasets.case_table import TABLE, Row, write_table
from inflate3d.datasets.classes import map_labels
from inflate3d.datasets.file_names import escaped
from inflate3d.datasets.folder import LISTING, class_name
from inflate3d.datasets.masks import Combination, combine_masks, combine_objects, overlay_masks, overlay_objects
from inflate3d.errors import truncate
from inflate3d.io import write_labels
from inflate3d.io.segments import plain_name
from inflate3d.volume import Volume


@dataclass(frozen=True)
class Proposal:
    """What was found out about a folder.

    Attributes:
        modalities: Name of each channel.
        label_files: Number of label maps in which each value occurs.
        left_out: Files that could not be used, with the reason.
        has_table: Whether the cases come from an existing ``cases.csv``.
        source: Where they come from otherwise.
        masks: The mask of each class, by case, for label maps that have yet to be written.
        objects: The same of DICOM objects of a series, if there are several or their structures overlap.
        overlaps: Number of voxels in several masks, by case; the class with fewer voxels is kept.
        combinations: The value of each combination of overlapping masks, if they are kept.
    """

    folder: Path
    rows: tuple[Row, ...]
    modalities: tuple[str, ...]
    modality_reason: str
    label_files: dict[int, int]
    left_out: tuple[tuple[str, str], ...]
    has_table: bool
    masks: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    objects: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    class_names: Mapping[int, str] = field(default_factory=dict)
    source: str = "the names of the files"
    overlaps: Mapping[str, int] = field(default_factory=dict)
    combinations: Mapping[Combination, int] = field(default_factory=dict)

    @property
    def regions(self) -> dict[str, list[int]]:
        """The values of each class, if some overlap and all of it is kept."""
        if all(len(names) < 2 for names in self.combinations):
            return {}
        names = sorted({name for names in self.combinations for name in names})
        return {name: sorted(value for held, value in self.combinations.items() if name in held) for name in names}

    @property
    def classes(self) -> dict[int, str]:
        """Name or placeholder of every value; the background is included even if no file contains it."""
        return {value: self.class_names.get(value, class_name(value)) for value in sorted({0, *self.label_files})}

    @property
    def groups(self) -> set[str]:
        """The groups of cases that a split keeps together."""
        return {row.group for row in self.rows if row.group}

    def write(self) -> list[Path]:
        """Writes ``dataset.yaml``, ``cases.csv`` unless it existed, and label maps made of masks.

        Returns:
            The paths of the first two.
        """
        values = {name: value for value, name in self.class_names.items()}
        for row in self.rows:
            masks = {name: self.folder / path for name, path in self.masks.get(row.case, {}).items()}
            objects = self.objects.get(row.case, ())
            if not masks and not objects:
                continue
            if self.combinations:
                if masks:
                    overlaid, numbers = overlay_masks(masks, case=row.case)
                else:
                    names = {name for names in self.combinations for name in names}
                    overlaid, numbers = overlay_row(self.folder, row, objects, names)
                to_values = {number: self.combinations[names] for names, number in numbers.items()}
                labels = map_labels(overlaid.array[0], to_values)
            elif masks:
                labels = combine_masks(masks, values, case=row.case)[0].array[0]
            else:
                labels = combine_row(self.folder, row, objects, self.class_names)[0].array[0]
            like = next(iter(masks.values())) if masks else self.folder / str(row.images[0])
            write_labels(self.folder / row.label, labels, like=like)
        written = [self.folder / LISTING]
        if not self.has_table:
            written.insert(0, self.folder / TABLE)
            write_table(self.folder / TABLE, self.rows)
        write_text(self.folder / LISTING, self.listing())
        return written

    def overlap_note(self) -> str:
        """Where masks overlap, in one sentence."""
        cases = [f"{case} ({count} voxels)" for case, count in self.overlaps.items()]
        return (
            f"Masks overlap in {truncate(cases, 3)}; there the class with fewer voxels is kept "
            "(--overlaps regions keeps both)."
        )

    def listing(self) -> str:
        """The text of ``dataset.yaml``, with comments that say what was guessed."""
        lines = [
            "# Proposed by `inflate3d init`. Correct what is wrong, then run `inflate3d verify`.",
            "",
            f"name: {_quoted(self.folder.resolve().name)}",
            "",
            f"# One name for each image column of {TABLE}, or for each channel where a file holds all.",
            f"# Guess: {self.modality_reason}.",
            "# CT is clipped to one range for all cases; anything else is normalized case by case.",
            "modalities:",
            *(f"  - {_quoted(name)}" for name in self.modalities),
            "",
            "# Label value and name; 0 is the background. Name the classes. Say left or right where it matters: scans",
            "# are then never mirrored.",
            "classes:",
            *(f"  {value}: {_quoted(name)}" + self._count_of(value) for value, name in self.classes.items()),
            "",
            *self._region_lines(),
            *self._class_hints(),
            *self._table_hints(),
            f"cases: {TABLE}",
        ]
        if self.overlaps:
            lines += ["", f"# {self.overlap_note()}"]
        if self.left_out:
            lines += ["", "# Not used:", *(f"# - {escaped(file)}: {why}" for file, why in self.left_out)]
        return "\n".join(lines) + "\n"

    def _count_of(self, value: int) -> str:
        """In how many label maps a value is; nothing where that was not counted, as for the background of objects."""
        count = self.label_files.get(value)
        return "" if count is None else f"  # in {count} of {len(self.rows)} label maps"

    def _region_lines(self) -> list[str]:
        """The regions, where masks overlap and all of them are kept."""
        if not self.regions:
            return []
        listed = [f"  {_quoted(name)}: {values}" for name, values in self.regions.items()]
        return ["# What to segment: structures that overlap, each with its label values.", "regions:", *listed, ""]

    def _table_hints(self) -> list[str]:
        """What was guessed for the optional columns of the table."""
        if self.has_table:
            return []
        hints = []
        if self.groups:
            patient = min(self.groups)
            hints.append(f"# Guess: the column group names the patient, such as {patient} of the cases {patient}...")
        if any(row.part for row in self.rows):
            hints.append("# Guess: the column split, from the names of the folders.")
        return hints

    def _class_hints(self) -> list[str]:
        """What else can be declared about the classes."""
        if self.regions:
            return []
        last = max(self.classes)
        hints = [
            "# If needed (and take the value out of the classes):",
            f"# merge: {{{last}: {min(set(self.classes) - {0})}}}  # voxels of the one value count as the other",
            f"# ignore: {last}  # voxels without a label, neither trained on nor scored",
            "",
        ]
        return hints if len(self.classes) > 2 else []


def combine_row(folder: Path, row: Row, objects: Sequence[str], class_names: Mapping[int, str]) -> tuple[Volume, int]:
    """The label map of a case with several DICOM objects, and how many voxels are in several of them."""
    values = {plain_name(name): value for value, name in class_names.items()}
    paths = [folder / path for path in objects]
    return combine_objects(paths, values, scan=folder / str(row.images[0]), case=row.case)


def overlay_row(
    folder: Path, row: Row, objects: Sequence[str], names: Collection[str]
) -> tuple[Volume, dict[Combination, int]]:
    """The combinations of structures in the DICOM objects of a case, see `overlay_objects`."""
    paths = [folder / path for path in objects]
    return overlay_objects(paths, names, scan=folder / str(row.images[0]), case=row.case)


def _quoted(text: str) -> str:
    """The text as YAML, quoted where it would be read as something else."""
    plain = yaml.safe_dump(text, allow_unicode=True, width=1000).removesuffix("\n...\n").strip()
    is_safe = "\n" not in plain and not plain.startswith(("'", '"'))
    return plain if is_safe else json.dumps(text)
