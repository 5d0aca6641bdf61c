"""Maps of uncertainty: their values, where they lie, and that a scan whose label map is there is finished."""

# pyright: reportOptionalMemberAccess=false, reportCallIssue=false, reportArgumentType=false

import json
import math
import shutil
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from inflate3d.cli import main
from inflate3d.datasets.case import Case
from inflate3d.errors import ConfigError, DataError, OutputError
from inflate3d.inference.batch import PredictorRecipe, predict_files
from inflate3d.inference.predictor import Predictor
from inflate3d.io import read_volume, write_volume
from inflate3d.volume import Volume


@pytest.fixture
def scans(phantoms, tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    for name, case in zip("ab", phantoms.cases, strict=False):
        shutil.copy(case.scan, folder / f"{name}.nii.gz")
    return [Case(name, (folder / f"{name}.nii.gz",), label=None) for name in "ab"]


@pytest.fixture(scope="module")
def predictor(tiny_run):
    return Predictor.load(tiny_run.root, device="cpu")


def opened(file) -> Any:
    return nibabel.Nifti1Image.from_filename(file)


def test_values_are_the_normalized_entropy_of_the_probabilities(sums, tmp_path):
    """By the direct formula, on logits that are taken to the scan's own pixels at once and not band by band."""
    array = np.random.default_rng(3).integers(-200, 400, (1, 31, 37, 9)).astype(np.int16)
    write_volume(tmp_path / "a.nii.gz", Volume(array, np.diag([-0.9, 0.8, 2.5, 1.0])))
    scan, predictor, reported = Case("a", (tmp_path / "a.nii.gz",), label=None), Predictor(sums(4), device="cpu"), []
    predict_files(predictor, [scan], tmp_path / "out", uncertainty_maps=True, report=reported.append)
    framed = predictor._to_model_space(read_volume(scan.scan))
    pixels, slices = predictor._own_pixels(framed, predictor._grids(framed)), []
    for logits in predictor._slice_logits(framed):
        probabilities = pixels.resampled(logits, 0, slice(0, framed.own_shape[1])).double().softmax(0)
        slices.append(torch.special.entr(probabilities).sum(0) / math.log(4))
    expected = framed.orientation.undo(torch.stack(slices).numpy())
    stored = opened(tmp_path / "out/uncertainty/a.nii.gz").get_fdata()
    assert np.abs(stored - expected).max() < 0.00501
    assert expected.max() - expected.min() > 0.1
    assert 0 <= stored.min() < stored.max() <= 1
    assert reported[0].uncertainty == tmp_path / "out/uncertainty/a.nii.gz"
    assert reported[0].confidence.kind == "soft dice"


def test_map_lies_where_its_scan_does(predictor, scans, tmp_path):
    predict_files(predictor, scans, tmp_path / "out", uncertainty_maps=True)
    for scan in scans:
        source, found = opened(scan.scan), opened(tmp_path / f"out/uncertainty/{scan.id}.nii.gz")
        assert found.shape == source.shape
        assert np.array_equal(found.affine, source.affine)
        for name in ("qform_code", "sform_code", "xyzt_units", "pixdim"):
            assert np.array_equal(found.header[name], source.header[name])
        assert found.get_data_dtype() == np.uint8
        assert found.dataobj.slope == pytest.approx(0.01)
        values = read_volume(tmp_path / f"out/uncertainty/{scan.id}.nii.gz").array
        assert 0 < values.min() <= values.max() <= 1


def test_scan_in_another_format_has_a_nifti_map(predictor, scans, tmp_path):
    volume = read_volume(scans[0].scan)
    write_volume(tmp_path / "a.nrrd", volume)
    predict_files(predictor, [Case("a", (tmp_path / "a.nrrd",), label=None)], tmp_path / "nrrd", uncertainty_maps=True)
    predict_files(predictor, scans[:1], tmp_path / "nifti", uncertainty_maps=True)
    assert (tmp_path / "nrrd/a.nrrd").is_file()
    one, other = (read_volume(tmp_path / form / "uncertainty/a.nii.gz") for form in ("nrrd", "nifti"))
    assert np.array_equal(one.array, other.array)
    np.testing.assert_allclose(one.affine, volume.affine, atol=1e-5)


@pytest.mark.slow
def test_label_maps_are_the_same_without(predictor, scans, tmp_path):
    predict_files(predictor, scans, tmp_path / "plain")
    predict_files(predictor, scans, tmp_path / "out", uncertainty_maps=True)
    assert not (tmp_path / "plain/uncertainty").exists()
    for scan in scans:
        name = f"{scan.id}.nii.gz"
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


@pytest.mark.slow
def test_map_is_there_before_the_label_map(predictor, scans, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OutputError("killed")

    with monkeypatch.context() as patched:
        patched.setattr("inflate3d.inference.pipeline.write_percent", fail)
        with pytest.raises(OutputError):
            predict_files(predictor, scans, tmp_path / "out", uncertainty_maps=True)
    assert not list((tmp_path / "out").rglob("*.nii.gz"))
    with monkeypatch.context() as patched:
        patched.setattr("inflate3d.inference.pipeline.write_labels", fail)
        with pytest.raises(OutputError):
            predict_files(predictor, scans, tmp_path / "out", uncertainty_maps=True)
    assert [path.name for path in (tmp_path / "out").rglob("*.nii.gz")] == ["a.nii.gz"]
    assert (tmp_path / "out/uncertainty/a.nii.gz").is_file()


def test_finished_scans_are_skipped_and_those_without_a_map_are_not(predictor, scans, tmp_path):
    def states(**how):
        results = predict_files(predictor, scans, tmp_path / "out", skip_existing=True, **how)
        return [result.state for result in results]

    assert states(uncertainty_maps=True) == ["done", "done"]
    assert states(uncertainty_maps=True) == ["skipped", "skipped"]
    (tmp_path / "out/uncertainty/b.nii.gz").unlink()
    assert states(uncertainty_maps=True) == ["skipped", "done"]
    assert (tmp_path / "out/uncertainty/b.nii.gz").is_file()
    (tmp_path / "out/uncertainty/b.nii.gz").unlink()
    assert states() == ["skipped", "skipped"]


@pytest.mark.slow
def test_machines_of_an_engine_write_the_same_maps(tiny_run, predictor, scans, tmp_path):
    recipe = PredictorRecipe.of(tiny_run.root, (), {"device": "cpu"})
    results = predict_files(recipe, scans, tmp_path / "there", uncertainty_maps=True, engine=map)
    predict_files(predictor, scans, tmp_path / "here", uncertainty_maps=True)
    assert [result.case for result in results] == ["a", "b"]
    for result in results:
        assert result.uncertainty.read_bytes() == (tmp_path / "here/uncertainty" / result.uncertainty.name).read_bytes()


def test_bucket_is_refused(predictor, scans):
    with pytest.raises(ConfigError) as caught:
        predict_files(predictor, scans, "memory://bucket/out", uncertainty_maps=True)
    assert caught.value.got == "memory://bucket/out"


def test_maps_that_would_overwrite_are_refused(predictor, scans, tmp_path):
    other = Case("a", (tmp_path / "a.nrrd",), label=None)
    with pytest.raises(DataError, match="duplicate scan name"):
        predict_files(predictor, [scans[0], other], tmp_path / "out", uncertainty_maps=True)
    (tmp_path / "out/uncertainty").mkdir(parents=True)
    inside = shutil.copy(scans[0].scan, tmp_path / "out/uncertainty/a.nii.gz")
    with pytest.raises(DataError, match="would overwrite its scan"):
        predict_files(predictor, [Case("a", (inside,), label=None)], tmp_path / "out", uncertainty_maps=True)


def test_command_writes_maps_and_names_them(tiny_run, scans, tmp_path, capsys):
    words = ["predict", str(tiny_run.root), str(scans[0].scan.parent), str(tmp_path / "out"), "--uncertainty-maps"]
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    files = [str(tmp_path / f"out/uncertainty/{name}.nii.gz") for name in "ab"]
    assert [scan["uncertainty"] for scan in document["scans"]] == files
    assert [scan["confidence"]["kind"] for scan in document["scans"]] == ["soft dice"] * 2
    summary = json.loads((tmp_path / "out/summary.json").read_text(encoding="utf-8"))
    assert [scan["uncertainty"] for scan in summary["scans"]] == files
