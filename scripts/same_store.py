"""Does one dataset make one store, whatever layout and format it is stored in? Prints a Markdown table.

    python scripts/same_store.py DATASET FOLDER

DATASET is converted into every layout and into several formats, in FOLDER, and prepared each time. The stored arrays
and all that the plan decides are compared with those of the original's store.
"""

import argparse
from pathlib import Path

import numpy as np

from inflate3d import Store, prepare, read_dataset
from inflate3d.datasets.writing import write_dataset

WRITTEN = (
    ("msd", ".nii.gz"),
    ("nnunet", ".nii.gz"),
    ("nnunet", ".nrrd"),
    ("folder", ".nii.gz"),
    ("folder", ".hdr"),
    ("folder", ".nrrd"),
    ("folder", ".mha"),
)
RENUMBERED = {"dataset", "classes", "merged", "ignore", "reasons"}
"""What a layout may say in its own way: nnU-Net numbers classes without gaps."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="a dataset of any layout")
    parser.add_argument("folder", type=Path, help="where the copies and their stores go, empty")
    options = parser.parse_args()
    dataset = read_dataset(options.dataset)
    own = prepare(dataset, options.folder / "own")
    print("| layout | format | cases | arrays equal | plan equal |\n| --- | --- | --- | --- | --- |")
    for target, suffix in WRITTEN:
        name = f"{target}{suffix.replace('.', '_')}"
        copy = write_dataset(dataset, options.folder / name, target, suffix=suffix).dataset
        store = prepare(copy, options.folder / f"store_{name}")
        equal = sum(_equal(own, store, case) for case in own.cases)
        plan = _decided(store) == _decided(own)
        print(f"| {target} | {suffix} | {len(own.cases)} | {equal} | {'yes' if plan else 'no'} |", flush=True)


def _equal(own: Store, other: Store, case: str) -> bool:
    """Whether a case's image and labels are equal in both stores, and what is known of them."""
    if own.cases[case].model_dump(exclude={"group"}) != other.cases[case].model_dump(exclude={"group"}):
        return False
    slices = list(range(own.cases[case].shape[0]))
    labels = all(np.array_equal(own.label_slice(case, index), other.label_slice(case, index)) for index in slices)
    return labels and np.array_equal(own.image_slices(case, slices), other.image_slices(case, slices))


def _decided(store: Store) -> dict[str, object]:
    return store.plan.model_dump(exclude=RENUMBERED)


if __name__ == "__main__":
    main()
