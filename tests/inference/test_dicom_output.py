"""Predictions of DICOM series that are written as DICOM objects."""

import numpy as np
import pydicom
import pytest

from inflate3d.cli.predict import Options
from inflate3d.errors import ConfigError, DataError
from inflate3d.inference.batch import predict_files
from inflate3d.inference.predictor import Predictor
from inflate3d.io import read_labels, read_volume, write_volume


@pytest.fixture
def predictor(tiny_run):
    return Predictor.load(tiny_run.root, device="cpu")


def test_predictions_are_written_as_dicom(predictor, tmp_path, write_series):
    values = np.random.default_rng(0).integers(-200, 400, (6, 24, 20)).astype(np.int16)
    write_series(tmp_path / "ct", values, modality="CT")
    scan = read_volume(tmp_path / "ct")
    expected = predictor.predict(scan).labels
    assert expected.any()
    names = predictor.plan.classes
    structures = {name: value for value, name in names.items() if value}
    for suffix in (".seg.dcm", ".labelmap.dcm", ".rtstruct.dcm"):
        (result,) = predict_files(predictor, tmp_path / "ct", tmp_path / "out", suffix=suffix)
        file = tmp_path / "out" / f"ct{suffix}"
        assert result.file == str(file)
        assert np.array_equal(read_labels(file, on=scan.grid, structures=structures).array[0], expected)
    predict_files(predictor, tmp_path / "ct", tmp_path / "out" / "seg.dcm")
    image = pydicom.dcmread(tmp_path / "out" / "seg.dcm")
    assert [item.SegmentLabel for item in image.SegmentSequence] == list(names.values())[1:]
    assert image.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3.4"
    skipped = predict_files(predictor, tmp_path / "ct", tmp_path / "out" / "seg.dcm", skip_existing=True)
    assert skipped[0].state == "skipped"


def test_only_series_have_dicom_labels(predictor, tmp_path, write_series):
    write_series(tmp_path / "ct", np.zeros((6, 24, 20), np.int16))
    write_volume(tmp_path / "scan.nii.gz", read_volume(tmp_path / "ct"))
    with pytest.raises(DataError, match="need the DICOM series"):
        predict_files(predictor, tmp_path / "scan.nii.gz", tmp_path / "out", suffix=".seg.dcm")
    assert not list((tmp_path / "out").glob("*"))


def test_one_option_names_the_format():
    options = Options(model="runs/x", scans="scans", out="out", format="dicom-seg", suffix=".nrrd")
    with pytest.raises(ConfigError, match="--format and --suffix"):
        options.label_suffix()
