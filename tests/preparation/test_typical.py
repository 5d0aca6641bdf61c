"""Whether a scan is like those of a training: by hand, and on the phantoms, which are CT."""

import numpy as np
import pytest

from inflate3d.preparation.typical import TypicalRange, TypicalScans
from inflate3d.volume import Volume


def scan(seed=0, shape=(20, 24, 12), spacing=(1.0, 1.0, 3.0), low=0.0, scale=1.0):
    values = np.random.default_rng(seed).gamma(2.0, 100.0, shape)
    return Volume((scale * (values + low))[None].astype(np.float32), np.diag([*spacing, 1.0]))


@pytest.fixture(scope="module")
def typical():
    """Of eight scans."""
    from inflate3d.preparation.fingerprint import measure_case

    empty = np.zeros((20, 24, 12), np.uint8)
    return TypicalScans.of([measure_case(f"c{n}", scan(n), empty) for n in range(8)], ("MR",))


def test_distance_is_in_widths_of_the_range():
    found = TypicalRange(kind="intensities", what="median", low=0.2, high=0.4)
    assert [found.distance(value) for value in (0.3, 0.4, 0.6, 0.0)] == pytest.approx([0, 0, 1, 1])
    narrow = TypicalRange(kind="intensities", what="median", low=0.3, high=0.3)
    assert narrow.distance(0.5) == pytest.approx(2)  # no range is narrower than a tenth


def test_new_scans_of_the_same_kind_are_usual_in_any_orientation_and_unit(typical):
    for seed in range(20, 30):
        assert typical.unusual(scan(seed)) == []
    assert typical.unusual(scan(20, scale=1000.0)) == []
    turned = scan(20)
    flipped = Volume(turned.array[:, ::-1].copy(), np.diag([-1.0, 1.0, 3.0, 1.0]))
    assert typical.unusual(flipped) == []


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"spacing": (1.0, 1.0, 6.0)}, "spacing down-up"),
        ({"shape": (80, 24, 12)}, "field of view left-right"),
        ({"low": -1000.0}, "intensities black level"),  # air in Hounsfield units
    ],
)
def test_what_is_unlike_is_named_with_its_usual_range(typical, other, named):
    found = typical.unusual(scan(20, **other))
    assert named in [name for name, _, _ in found]
    usual, own = next(rest for name, *rest in found if name == named)
    assert " to " in usual
    assert own not in usual


def test_a_missing_modality_is_not_held_against_a_scan():
    from inflate3d.preparation.fingerprint import measure_case

    both = Volume(np.concatenate([scan(1).array, scan(2).array]), scan(1).affine)
    typical = TypicalScans.of([measure_case("c", both, np.zeros(both.shape, np.uint8))], ("T1", "T2"))
    lacking = Volume(np.stack([both.array[0], np.zeros_like(both.array[0])]), both.affine)
    assert typical.unusual(lacking, ("T1", "T2")) == []
    strange = Volume(np.stack([both.array[0], -both.array[1]]), both.affine)
    assert any("T2" in name for name, _, _ in typical.unusual(strange, ("T1", "T2")))
