"""Write a dataset in another layout or file format, such as for nnU-Net."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.datasets import read_dataset
from inflate3d.datasets.writing import LayoutName, check_empty, check_suffix, write_dataset
from inflate3d.preparation.examine import check_cases


class Options(CommandOptions):
    """Options of ``convert``."""

    dataset: Positional[Path]
    """The dataset's folder."""
    out: Positional[Path]
    """The new dataset's folder; it must be empty or not exist."""
    to: LayoutName
    """Layout: folder (dataset.yaml and cases.csv), msd (Decathlon) or nnunet (nnU-Net's raw data)."""
    suffix: str = ".nii.gz"
    """Format of the new files, such as .nii.gz, .nrrd or .mha; with --to folder also .seg.dcm, .labelmap.dcm or
    .rtstruct.dcm: label maps of DICOM series become DICOM objects beside copies of the series."""
    jobs: int | None = None
    """Processes that check the cases (default: one per core)."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    dataset = read_dataset(options.dataset)
    check_empty(options.out)
    check_suffix(options.suffix, options.to)
    check_cases(dataset, workers=options.jobs, progress=terminal.progress)
    written = write_dataset(dataset, options.out, options.to, suffix=options.suffix, progress=terminal.progress)
    terminal.print(f"{len(written.dataset.cases)} cases of {dataset.name} are in {options.out}")
    changed = {old: new for old, new in written.values.items() if old != new}
    if changed:
        terminal.print(f"label values changed: {', '.join(f'{old} to {new}' for old, new in changed.items())}")
    if written.split_files:
        terminal.print("splits that the layout can't express; use them with --split:")
        terminal.print("\n".join(f"  {path}" for path in written.split_files))
    groups_kept = {case.id: case.group for case in dataset.cases} == {
        case.id: case.group for case in written.dataset.cases
    }
    if not groups_kept:
        terminal.print("the layout has no groups: new folds may put cases of one group (patient) on both sides")
    terminal.print(_next(options))
    return {
        "dataset": dataset.name,
        "written": str(options.out),
        "layout": options.to,
        "cases": len(written.dataset.cases),
        "label_values": {str(old): new for old, new in written.values.items()},
        "split_files": [str(path) for path in written.split_files],
        "groups_kept": groups_kept,
    }


def _next(options: Options) -> str:
    """The command to run next."""
    if options.to != "nnunet":
        return f"Next: inflate3d verify {options.out}"
    name = options.out.resolve().name
    numbered = re.fullmatch(r"Dataset(\d{3})_\w+", name)
    advice = [] if numbered else [f"nnU-Net requires a folder name like Dataset123_{name}: rename it"]
    return "\n".join(
        [
            *advice,
            f"Next: nnUNetv2_plan_and_preprocess -d {numbered[1] if numbered else '123'} --verify_dataset_integrity",
            "with the folder in nnUNet_raw. For the same folds, copy splits_final.json to the dataset's folder in "
            "nnUNet_preprocessed before training.",
        ]
    )
