"""Write a dataset in another layout or file format, such as for nnU-Net."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.datasets import read_dataset
from inflate3d.datasets.conversion import check_suffix
from inflate3d.datasets.writing import Target, check_free, write_dataset
from inflate3d.preparation.examine import check_cases


class Options(CommandOptions):
    """Options of ``convert``."""

    dataset: Positional[Path]
    """The dataset's folder."""
    out: Positional[Path]
    """Where the new one goes: a folder that is empty or not there yet."""
    to: Target
    """The layout: folder (dataset.yaml and cases.csv), msd (the Decathlon's) or nnunet (nnU-Net's raw data)."""
    suffix: str = ".nii.gz"
    """Format of the new files, such as .nii.gz, .nrrd or .mha."""
    jobs: int | None = None
    """Processes that check the cases; as many as cores if not given."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    """Converts."""
    dataset = read_dataset(options.dataset)
    check_free(options.out)
    check_suffix(options.suffix)
    check_cases(dataset, workers=options.jobs, progress=terminal.progress)
    written = write_dataset(dataset, options.out, options.to, suffix=options.suffix, progress=terminal.progress)
    terminal.print(f"{len(written.dataset.cases)} cases of {dataset.name} are in {options.out}")
    changed = {old: new for old, new in written.values.items() if old != new}
    if changed:
        terminal.print(f"label values changed: {', '.join(f'{old} to {new}' for old, new in changed.items())}")
    if written.split_files:
        terminal.print("splits that the layout has no place for, to be given with --split:")
        terminal.print("\n".join(f"  {path}" for path in written.split_files))
    groups_kept = {case.id: case.group for case in dataset.cases} == {
        case.id: case.group for case in written.dataset.cases
    }
    if not groups_kept:
        terminal.print("the layout has no place for groups of cases: folds that are made anew may tear them apart")
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
    """What to run."""
    if options.to != "nnunet":
        return f"Next: inflate3d verify {options.out}"
    name = options.out.resolve().name
    numbered = re.fullmatch(r"Dataset(\d{3})_\w+", name)
    advice = [] if numbered else [f"nnU-Net wants a name like Dataset123_{name} for the folder: rename it"]
    return "\n".join(
        [
            *advice,
            f"Next: nnUNetv2_plan_and_preprocess -d {numbered[1] if numbered else '123'} --verify_dataset_integrity",
            "with the folder in nnUNet_raw; for the same split, copy its splits_final.json to its folder in "
            "nnUNet_preprocessed before training",
        ]
    )
