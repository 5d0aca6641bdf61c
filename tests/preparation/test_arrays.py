from typing import Any

import blosc2
import numpy as np
import pytest

from inflate3d.preparation.arrays import READ_ERRORS, StoredSlices, write_slices

RANDOM = np.random.default_rng(0)
ARRAYS = {
    "bytes": RANDOM.integers(0, 255, (1, 9, 30, 20)).astype(np.uint8),
    "words": RANDOM.integers(-1000, 3000, (2, 9, 30, 20)).astype(np.int16),
    "floats": RANDOM.normal(size=(1, 9, 130, 120)).astype(np.float32),
    "both zeros": np.array([0.0, -0.0, 1.5, -1.5], np.float32).reshape(1, 1, 2, 2),
    "one value": np.full((1, 3, 2, 2), 7.25, np.float32),
    "a view": RANDOM.integers(0, 9, (20, 30, 9)).astype(np.uint8).T[None, :, ::-1],
}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("kind", ["image", "label"])
def test_what_is_read_is_what_was_written_to_the_bit(tmp_path, name, kind):
    array = ARRAYS[name]
    write_slices(tmp_path / "a.b2nd", array, kind)
    stored = StoredSlices(tmp_path / "a.b2nd")
    whole = stored.read(0, array.shape[1] - 1)
    assert whole.dtype == array.dtype
    assert whole.tobytes() == array.tobytes()
    assert np.array_equal(stored.read(1, 1), array[:, 1:2]) or array.shape[1] == 1


@pytest.mark.parametrize("mark", [b"b2o", b"LazyArray", b"proxy-source"])
def test_voxels_may_hold_any_bytes(tmp_path, mark):
    array = RANDOM.integers(0, 256, 4 * 3 * 100, np.uint8)  # too random to be compressed
    array[500 : 500 + len(mark)] = np.frombuffer(mark, np.uint8)
    array = array.reshape(1, 4, 3, 100)
    write_slices(tmp_path / "a.b2nd", array, "label")
    assert mark in (tmp_path / "a.b2nd").read_bytes()
    assert np.array_equal(StoredSlices(tmp_path / "a.b2nd").read(0, 3), array)


@pytest.mark.parametrize("mark", ["b2o", "LazyArray", "proxy-source", "vlarray", "b2nd2"])
def test_marked_files_are_refused_before_they_are_opened(tmp_path, mark, monkeypatch):
    zeros: Any = np.zeros((2, 3, 4), np.uint8)
    blosc2.asarray(zeros, urlpath=str(tmp_path / "a.b2nd"), meta={mark: {"kind": "lazyexpr"}})
    monkeypatch.setattr(blosc2, "open", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(READ_ERRORS, match=mark):
        StoredSlices(tmp_path / "a.b2nd")


@pytest.mark.parametrize("length", [0, 5, 14, 15, 40, 87, 100])
def test_cut_files_are_refused(tmp_path, length):
    write_slices(tmp_path / "a.b2nd", ARRAYS["bytes"], "image")
    (tmp_path / "a.b2nd").write_bytes((tmp_path / "a.b2nd").read_bytes()[:length])
    with pytest.raises(READ_ERRORS):
        StoredSlices(tmp_path / "a.b2nd")
