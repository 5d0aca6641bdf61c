"""How often `predict` warns that a scan is unlike the training cases: of held-out cases, and of other scans.

    python scripts/unlike_training.py STORE OTHER_SCAN ...

For training sets of 4, 8, 16 and 32 cases and of four fifths of them, 20 draws each: the share of the other cases of
the store that are flagged, and of the other scans, as they are and in disguise: cropped to the shape of a case, with
its spacing in the header, so that only their intensities differ.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from inflate3d.io import read_volume
from inflate3d.preparation.fingerprint import CaseFingerprint
from inflate3d.preparation.store import Store
from inflate3d.preparation.typical import TypicalScans
from inflate3d.volume import Volume

DRAWS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("others", type=Path, nargs="+")
    options = parser.parse_args()
    store = Store(options.store)
    cases, modalities = store.fingerprint.cases, store.plan.modalities
    others = [read_volume(file) for file in options.others]
    print("| training cases | other cases flagged | other scans flagged | in disguise |\n| --- | --- | --- | --- |")
    for size in (4, 8, 16, 32, len(cases) * 4 // 5):
        own, strange, disguised = [], [], []
        for draw in range(DRAWS):
            order = np.random.default_rng(draw).permutation(len(cases))
            training, rest = [cases[n] for n in order[:size]], [cases[n] for n in order[size:]]
            typical = TypicalScans.of(training, modalities)
            own += [bool(_unusual(typical, case, modalities)) for case in rest]
            strange += [bool(typical.unusual(scan, modalities)) for scan in others]
            disguised += [bool(typical.unusual(_disguised(scan, training[0]), modalities)) for scan in others]
        print(
            f"| {size} | {100 * np.mean(own):.2f} % of {len(own)} | {np.mean(strange):.0%} | {np.mean(disguised):.0%} |"
        )


def _unusual(typical: TypicalScans, case: CaseFingerprint, modalities: tuple[str, ...]) -> bool:
    """Whether a case of the store is flagged, by its fingerprint alone."""
    alone = TypicalScans.of([case], modalities)
    own = {(each.kind, each.what): each.low for each in alone.ranges}
    return any(each.distance(own[each.kind, each.what]) > 1 for each in typical.ranges if (each.kind, each.what) in own)


def _disguised(scan: Volume, case: CaseFingerprint) -> Volume:
    """The middle of a scan as if it had the spacing and, where it is large enough, the shape of a case."""
    turned = scan.reorient("RAS").array
    sizes = [min(own, wanted) for own, wanted in zip(turned.shape[1:], case.shape, strict=True)]
    middle = tuple(
        slice((own - size) // 2, (own - size) // 2 + size) for own, size in zip(turned.shape[1:], sizes, strict=True)
    )
    return Volume(np.ascontiguousarray(turned[(slice(None), *middle)]), np.diag([*case.spacing, 1.0]))


if __name__ == "__main__":
    main()
