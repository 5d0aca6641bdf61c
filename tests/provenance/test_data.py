"""Digests of prepared cases tell any changed voxel, and no change of compression."""

import shutil

import numpy as np
import pytest

from inflate3d.errors import DataError
from inflate3d.preparation.arrays import write_slices
from inflate3d.preparation.prepare import prepare
from inflate3d.preparation.store import Store, case_file
from inflate3d.provenance import data
from inflate3d.provenance.data import check_data, data_origin, digest_case


@pytest.fixture
def own_store(phantom_store, tmp_path) -> Store:
    shutil.copytree(phantom_store.folder, tmp_path / "store")
    return Store(tmp_path / "store")


def slices_of(store, case):
    return list(range(store.cases[case].shape[0]))


def test_digests_do_not_depend_on_how_slices_are_read(phantom_store, monkeypatch):
    case = min(phantom_store.cases)
    digest = digest_case(phantom_store, case)
    monkeypatch.setattr(data, "SLICES_AT_ONCE", 3)
    assert digest_case(phantom_store, case) == digest
    assert len({digest_case(phantom_store, name) for name in phantom_store.cases}) == len(phantom_store.cases)


def test_a_store_that_is_prepared_anew_by_two_processes_has_the_same_digests(phantoms, phantom_store, tmp_path):
    again = prepare(phantoms, tmp_path / "again", workers=2)
    assert data_origin(again, again.cases) == data_origin(phantom_store, phantom_store.cases)


def test_the_same_voxels_in_other_bytes_are_the_same(own_store):
    case = min(own_store.cases)
    path, before = case_file(own_store.folder, case, "image"), digest_case(own_store, case)
    old = path.read_bytes()
    write_slices(path, own_store.image_slices(case, slices_of(own_store, case)), "label")  # compressed in another way
    assert path.read_bytes() != old
    assert digest_case(own_store, case) == before


@pytest.mark.parametrize("kind", ["image", "label"])
def test_one_changed_voxel_is_told_with_its_case(own_store, kind):
    before = data_origin(own_store, own_store.cases)
    case = sorted(own_store.cases)[1]
    read = own_store.image_slices if kind == "image" else own_store.label_slices
    array = np.array(read(case, slices_of(own_store, case)))
    array[..., 5, 7, 9] += 1
    write_slices(case_file(own_store.folder, case, kind), array, kind)
    now = data_origin(own_store, own_store.cases)
    with pytest.raises(DataError) as caught:
        check_data(before, now, own_store)
    assert caught.value.case == case
    assert f"1 of 5 cases differ: {case}" in str(caught.value.got)
    assert before.sha256 in str(caught.value.expected)
    check_data(before, before, own_store)


def test_a_changed_value_range_is_told(own_store):
    case = min(own_store.cases)
    before = digest_case(own_store, case)
    own_store.cases[case] = own_store.cases[case].model_copy(update={"ranges": ((0.0, 1.0),)})
    assert digest_case(own_store, case) != before


def test_a_damaged_case_and_a_missing_one(own_store):
    case = min(own_store.cases)
    path = case_file(own_store.folder, case, "image")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="prepared case can't be read"):
        digest_case(own_store, case)
    with pytest.raises(DataError, match="lacks a case"):
        data_origin(own_store, ["nobody"])


def test_figures_of_the_cases_that_were_learned_from(phantom_store):
    case = min(phantom_store.cases)
    origin = data_origin(phantom_store, [case])
    measured = next(each for each in phantom_store.fingerprint.cases if each.case == case)
    assert origin.spacing.least == origin.spacing.median == origin.spacing.most == measured.spacing
    assert origin.shape.median == measured.shape
