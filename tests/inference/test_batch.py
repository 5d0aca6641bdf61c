# pyright: reportOptionalMemberAccess=false, reportCallIssue=false, reportArgumentType=false

import errno
import json
import os
import shutil
import threading
from pathlib import Path

import nibabel
import numpy as np
import pytest

from inflate3d.cli import main
from inflate3d.datasets.case import Dataset
from inflate3d.errors import ConfigError, DataError, DatasetProblems, OutputError
from inflate3d.inference import pipeline, targets
from inflate3d.inference.batch import predict_files
from inflate3d.inference.predictor import Predictor
from inflate3d.inference.scan_result import ScanResult
from inflate3d.inference.scans import find_scans
from inflate3d.io import read_volume
from inflate3d.io.dicom import reading
from inflate3d.models.oom import MemoryBudgetError
from inflate3d.preparation.dataset_warnings import value_warnings
from inflate3d.preparation.plan import Normalization
from inflate3d.volume import Volume

OBLIQUE = np.array([[-0.9, 0.1, 0.3, 12.5], [0.1, 0.95, 0.2, -7.25], [0.02, -0.1, 3.0, 99.0], [0, 0, 0, 1]])


def files_of(results):
    return [Path(result.file) for result in results if result.file]


def names_in(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.fixture(scope="module")
def predictor(tiny_run):
    return Predictor.load(tiny_run.root, device="cpu")


@pytest.fixture
def scan(tmp_path):
    array = np.random.default_rng(0).integers(-200, 400, (20, 24, 6)).astype(np.int16)
    image = nibabel.Nifti1Image(array, OBLIQUE)
    image.header.set_sform(OBLIQUE, code=2)
    image.header.set_qform(OBLIQUE, code=1, strip_shears=True)
    image.header.set_xyzt_units("mm")
    path = tmp_path / "in" / "scan.nii.gz"
    path.parent.mkdir()
    image.to_filename(path)
    return path


def test_label_map_lies_where_the_scan_does_to_the_bit(predictor, scan, tmp_path):
    (written,) = files_of(predict_files(predictor, scan, tmp_path / "out"))
    assert written == tmp_path / "out" / "scan.nii.gz"
    source, result = nibabel.Nifti1Image.load(scan), nibabel.Nifti1Image.load(written)
    assert result.shape == source.shape
    assert result.get_data_dtype() == np.uint8
    assert np.array_equal(result.affine, source.affine)  # type: ignore[arg-type]
    for form in ("get_sform", "get_qform"):
        expected, found = (getattr(image.header, form)(coded=True) for image in (source, result))
        assert found[1] == expected[1] > 0
        assert np.array_equal(found[0], expected[0])
    fields = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "srow_x", "srow_y", "srow_z", "pixdim", "xyzt_units")
    for name in fields:
        assert result.header[name].tobytes() == source.header[name].tobytes(), name
    assert np.array_equal(np.asarray(result.dataobj), predictor.predict(read(scan)).labels)


def read(path):
    return read_volume(path)


def test_every_scan_of_a_folder(predictor, scan, tmp_path):
    plain = scan.with_name("other.nii")
    nibabel.Nifti1Image.load(scan).to_filename(plain)
    scan.with_name("notes.txt").write_text("")
    scan.with_name("._scan.nii.gz").write_text("")
    cases = find_scans(scan.parent, predictor.plan).cases
    assert [case.id for case in cases] == ["other", "scan"]
    written = files_of(predict_files(predictor, cases, tmp_path / "out"))
    assert [path.name for path in written] == ["other.nii", "scan.nii.gz"]
    first, second = (np.asarray(nibabel.Nifti1Image.load(path).dataobj) for path in written)
    assert np.array_equal(first, second)


def test_folder_without_scans(predictor, tmp_path):
    with pytest.raises(DataError) as caught:
        find_scans(tmp_path, predictor.plan)
    assert caught.value.file == str(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
def test_label_maps_in_another_format(predictor, scan, tmp_path, suffix):
    voxels = np.asarray(nibabel.Nifti1Image.load(scan).dataobj)
    nibabel.Nifti1Image(voxels, np.diag([-0.9, 0.95, 3.0, 1.0])).to_filename(scan)  # without the shear
    (own,) = files_of(predict_files(predictor, scan, tmp_path / "own"))
    (other,) = files_of(predict_files(predictor, scan, tmp_path / "other", suffix=suffix))
    assert other.name == f"scan{suffix}"
    assert np.array_equal(read(other).array, read(own).array)
    np.testing.assert_allclose(read(other).affine, read(own).affine, atol=1e-4)


def test_scans_of_one_name_do_not_overwrite_each_other(predictor, scan, tmp_path):
    nibabel.Nifti1Image.load(scan).to_filename(scan.with_name("scan.nii"))
    scans = find_scans(scan.parent, predictor.plan)
    assert len(predict_files(predictor, scans, tmp_path / "own")) == 2
    with pytest.raises(DataError) as caught:
        predict_files(predictor, scans, tmp_path / "other", suffix=".nrrd")
    assert caught.value.case == "scan"
    assert not (tmp_path / "other").exists()


def two_modalities(predictor, *, allow=False):
    return predictor.plan.model_copy(update={"modalities": ("T1", "T2"), "allow_missing_modality": allow})


def test_files_of_several_modalities_make_one_scan(predictor, tmp_path):
    for name in ("a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nrrd", "b_0001.nrrd"):
        (tmp_path / name).write_bytes(b"")
    cases = find_scans(tmp_path, two_modalities(predictor)).cases
    assert [(case.id, [image and image.name for image in case.images]) for case in cases] == [
        ("a", ["a_0000.nii.gz", "a_0001.nii.gz"]),
        ("b", ["b_0000.nrrd", "b_0001.nrrd"]),
    ]
    assert len(find_scans(tmp_path, predictor.plan).cases) == 4  # a model of one modality has four scans here


@pytest.mark.parametrize(("names", "said"), [(["a_0001.nii"], "no T1"), (["a_0000.nii", "a_0002.nii"], "no T2")])
def test_missing_modality(predictor, tmp_path, names, said):
    for name in names:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError) as caught:
        find_scans(tmp_path, two_modalities(predictor))
    assert (caught.value.case, caught.value.got) == ("a", said)


def test_missing_modality_that_is_allowed(predictor, tmp_path):
    (tmp_path / "a_0001.nii").write_bytes(b"")
    (case,) = find_scans(tmp_path, two_modalities(predictor, allow=True)).cases
    assert case.images == (None, tmp_path / "a_0001.nii")


def test_scan_is_never_overwritten(predictor, scan):
    before = scan.read_bytes()
    for overwrite in (False, True):
        with pytest.raises(DataError) as caught:
            predict_files(predictor, scan, scan.parent, overwrite=overwrite)
        assert caught.value.file == str(scan)
    assert scan.read_bytes() == before


def test_writing_that_fails_leaves_nothing(predictor, scan, tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left on device"):
        predict_files(predictor, scan, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_scan_that_does_not_fit_is_named(predictor, scan, tmp_path, monkeypatch):
    def refuse(volume, **_):
        raise DataError("scan has fewer slices than the model's window")

    monkeypatch.setattr(predictor, "predict", refuse)
    with pytest.raises(DataError) as caught:
        predict_files(predictor, scan, tmp_path / "out")
    assert (caught.value.case, caught.value.file) == ("scan", str(scan))
    assert not (tmp_path / "out").exists()


def test_bad_scan_stops_none_of_the_others(predictor, scan, tmp_path):
    scan.with_name("damaged.nii.gz").write_bytes(b"no scan")
    nibabel.Nifti1Image(np.zeros((20, 24, 2), np.int16), OBLIQUE).to_filename(scan.with_name("flat.nii.gz"))
    scans = find_scans(scan.parent, predictor.plan)
    assert [case.id for case in scans.cases] == ["damaged", "flat", "scan"]
    with pytest.raises(DatasetProblems) as caught:
        predict_files(predictor, scans, tmp_path / "out")
    assert caught.value.what == "2 of 3 scans could not be predicted"
    assert [(problem.case, problem.what) for problem in caught.value.problems] == [
        ("damaged", "the file can't be read"),
        ("flat", "scan has fewer slices than the model's window"),
    ]
    assert caught.value.written == [tmp_path / "out" / "scan.nii.gz"]
    assert names_in(tmp_path / "out") == ["scan.nii.gz"]


@pytest.mark.slow
def test_failures_are_reported_beside_what_was_written(tiny_run, scan, tmp_path, capsys):
    scan.with_name("damaged.nii.gz").write_bytes(b"no scan")
    words = ["predict", str(tiny_run.root), str(scan.parent), str(tmp_path / "out"), "--device", "cpu"]
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1] == str(tmp_path / "out" / "scan.nii.gz")
    assert "error: 1 of 2 scans could not be predicted\n- the file can't be read\n  case:     damaged" in shown.err
    assert main([*words, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["written"] == [str(tmp_path / "out" / "scan.nii.gz")]
    assert [problem["case"] for problem in error["problems"]] == ["damaged"]


def test_sheared_scan_is_refused_before_it_is_predicted(predictor, scan, tmp_path, monkeypatch):
    monkeypatch.setattr(predictor, "predict", lambda volume, **_: pytest.fail("predicted"))
    with pytest.raises(DataError, match="the grid is sheared") as caught:
        predict_files(predictor, scan, tmp_path / "out", suffix=".nrrd")
    assert caught.value.case == "scan"


# --- DICOM -----------------------------------------------------------------------------------------------


@pytest.fixture
def study(tmp_path, write_series):
    voxels = np.random.default_rng(0).integers(-200, 400, (6, 24, 20)).astype(np.int16)
    write_series(tmp_path / "study" / "portal", voxels)
    return tmp_path / "study"


@pytest.mark.parametrize(("inside", "given", "name"), [("portal", ".", "portal"), ("portal/deep", "..", "portal")])
def test_folder_that_is_named_by_dots(predictor, study, monkeypatch, tmp_path, inside, given, name):
    (study / inside).mkdir(exist_ok=True)
    monkeypatch.chdir(study / inside)
    (written,) = files_of(predict_files(predictor, given, tmp_path / "out"))
    assert written == tmp_path / "out" / f"{name}.nii.gz"


def test_series_that_are_no_volumes_are_passed_over(predictor, study, write_series):
    voxels = np.zeros((3, 24, 20), np.int16)
    write_series(study / "scout", voxels, uid="1.2.5", tags={"0008|0008": "ORIGINAL\\PRIMARY\\LOCALIZER"})
    write_series(study / "single", voxels[:1], uid="1.2.6")
    write_series(study / "views", voxels, uid="1.2.7")
    write_series(study / "views", voxels, uid="1.2.7", directions=((0, 1, 0), (0, 0, -1)), names=["a", "b", "c"])
    gap = write_series(study / "gap", np.zeros((7, 24, 20), np.int16), uid="1.2.8")
    gap[3].unlink()
    found = find_scans(study, predictor.plan)
    assert [case.id for case in found.cases] == ["gap", "portal"]  # a scan that lacks a slice is no localizer
    reported = {Path(str(warning.file)).name: str(warning.got).partition(": ")[0] for warning in found.warnings}
    assert reported == {
        "scout": "its images are a localizer's",
        "single": "it has a single image",
        "views": "its images lie in several directions",
    }


def test_folder_of_nothing_but_localizers(predictor, tmp_path, write_series):
    for name in ("a", "b"):
        write_series(tmp_path / name, np.zeros((1, 24, 20), np.int16), uid=f"1.2.{ord(name)}")
    with pytest.raises(DatasetProblems, match="none of the DICOM series is a volume"):
        find_scans(tmp_path, predictor.plan)
    with pytest.raises(DataError, match="a single slice"):
        predict_files(predictor, tmp_path / "a", tmp_path / "out")


# --- nnU-Net's names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["a_0000.nii.gz", "b_0000.nii.gz"], ["a", "b"]),
        (["a_0000.nii.gz", "a_0001.nii.gz"], ["a_0000", "a_0001"]),
        (["a_0000.nii.gz", "b.nii.gz"], ["a_0000", "b"]),
        (["_0000.nii.gz"], ["_0000"]),
    ],
)
def test_only_modality_has_no_number(predictor, tmp_path, names, ids):
    for name in names:
        (tmp_path / name).write_bytes(b"")
    assert [case.id for case in find_scans(tmp_path, predictor.plan).cases] == ids


def test_wrong_number_of_modalities_has_a_hint(predictor, scan, tmp_path):
    nibabel.Nifti1Image(np.zeros((20, 24, 6, 2), np.int16), OBLIQUE).to_filename(scan)
    with pytest.raises(DataError, match="wrong number of modalities") as caught:
        predict_files(predictor, scan, tmp_path / "out")
    assert "CASE_0000, CASE_0001" in (caught.value.hint or "")


# --- one after another, and beside each other ------------------------------------------------------------


@pytest.fixture
def three(scan):
    for name in ("a", "b"):
        nibabel.Nifti1Image.load(scan).to_filename(scan.with_name(f"{name}.nii.gz"))
    return scan.parent


def test_seconds_of_every_stage_are_reported_in_order(predictor, three, tmp_path):
    reported: list[ScanResult] = []
    assert predict_files(predictor, three, tmp_path / "out", report=reported.append) == reported
    assert [scan.case for scan in reported] == ["a", "b", "scan"]
    assert all(set(scan.seconds) == {"reading", "predicting", "writing"} for scan in reported)
    assert all(min(scan.seconds.values()) > 0 for scan in reported)


def test_next_scan_is_read_and_last_one_written_meanwhile(predictor, three, tmp_path, monkeypatch):
    """While a scan is predicted the next one is read, and none behind it."""
    scans = find_scans(three, predictor.plan).cases
    reading = [threading.Event() for _ in scans]
    real = targets.read_images

    def read(images, case):
        reading[[scan.id for scan in scans].index(case)].set()
        return real(images, case=case)

    monkeypatch.setattr(targets, "read_images", read)
    numbers = iter(range(3))
    predict = predictor.predict

    def wait(volume, **_):
        number = next(numbers)
        assert reading[min(number + 1, 2)].wait(60)
        assert not any(event.is_set() for event in reading[number + 2 :])
        return predict(volume)

    monkeypatch.setattr(predictor, "predict", wait)
    assert len(predict_files(predictor, scans, tmp_path / "out")) == 3


def test_label_map_that_cannot_be_written_is_its_own_scans_problem(predictor, three, tmp_path, monkeypatch):
    real = pipeline.write_labels

    def write(path, labels, like, segments=None):
        if path.name.startswith("a"):
            raise DataError("the labels don't lie on the scan's grid")
        real(path, labels, like=like, segments=segments)

    monkeypatch.setattr(pipeline, "write_labels", write)
    (three / "b.nii.gz").write_bytes(b"damaged")
    with pytest.raises(DatasetProblems) as caught:
        predict_files(predictor, three, tmp_path / "out")
    assert [problem.case for problem in caught.value.problems] == ["a", "b"]
    assert caught.value.written == [tmp_path / "out" / "scan.nii.gz"]


def test_scan_that_needs_more_memory_than_allowed_stops_none_of_the_others(predictor, three, tmp_path, monkeypatch):
    calls, predict, reported = iter(range(3)), predictor.predict, []

    def refuse(volume, **_):
        if next(calls) == 1:
            raise MemoryBudgetError("the memory is too little to predict with")
        return predict(volume)

    monkeypatch.setattr(predictor, "predict", refuse)
    with pytest.raises(DatasetProblems) as caught:
        predict_files(predictor, three, tmp_path / "out", report=reported.append)
    assert [problem.case for problem in caught.value.problems] == ["b"]
    assert [scan.case for scan in reported if scan.state == "done"] == ["a", "scan"]


def test_ctrl_c_leaves_whole_files_alone(predictor, three, tmp_path, monkeypatch):
    reported: list[ScanResult] = []
    calls = iter(range(3))
    predict = predictor.predict

    def stop(volume, **_):
        if next(calls) == 1:
            raise KeyboardInterrupt
        return predict(volume)

    monkeypatch.setattr(predictor, "predict", stop)
    with pytest.raises(KeyboardInterrupt):
        predict_files(predictor, three, tmp_path / "out", report=reported.append)
    assert [scan.case for scan in reported] == ["a"]
    assert names_in(tmp_path / "out") == ["a.nii.gz"]


def test_disk_that_is_full_stops_the_work(predictor, three, tmp_path, monkeypatch):
    def full(path, labels, like, segments=None):
        raise OutputError("the file can't be written", file=path)

    monkeypatch.setattr(pipeline, "write_labels", full)
    with pytest.raises(OutputError) as caught:
        predict_files(predictor, three, tmp_path / "out")
    assert caught.value.file == str(tmp_path / "out" / "a.nii.gz")


@pytest.mark.slow
def test_existing_label_maps_are_skipped_on_request(predictor, three, tmp_path):
    first, second, third = files_of(predict_files(predictor, three, tmp_path / "out"))
    os.utime(three / "b.nii.gz", ns=(0, second.stat().st_mtime_ns + 1))  # the scan is newer
    third.unlink()
    results = predict_files(predictor, three, tmp_path / "out", skip_existing=True)
    assert [result.state for result in results] == ["skipped", "done", "done"]
    assert files_of(results) == [second, third]
    assert files_of(predict_files(predictor, three, tmp_path / "out")) == [first, second, third]


def test_single_label_map_goes_into_the_file_that_is_given(predictor, scan, three, tmp_path):
    assert files_of(predict_files(predictor, scan, tmp_path / "out/seg.nii")) == [tmp_path / "out/seg.nii"]
    assert names_in(tmp_path / "out") == ["seg.nii"]
    for scans, how in ((three, {}), (scan, {"suffix": ".nrrd"})):
        with pytest.raises(ConfigError) as caught:
            predict_files(predictor, scans, tmp_path / "out/other.nii", **how)
        assert caught.value.got == "other.nii"
    (tmp_path / "folder.nii").mkdir()
    assert files_of(predict_files(predictor, scan, tmp_path / "folder.nii")) == [tmp_path / "folder.nii/scan.nii.gz"]


def test_files_of_others_are_not_replaced(predictor, scan, tmp_path):
    """Neither a ground truth of the same name, nor our own label map once somebody has corrected it."""
    labels = tmp_path / "labels/scan.nii.gz"
    labels.parent.mkdir()
    labels.write_bytes(b"ground truth")
    with pytest.raises(OutputError) as caught:
        predict_files(predictor, scan, labels.parent)
    assert (caught.value.file, labels.read_bytes()) == (str(labels), b"ground truth")
    predict_files(predictor, scan, labels.parent, overwrite=True)
    written = labels.read_bytes()
    predict_files(predictor, scan, labels.parent)  # its own
    assert labels.read_bytes() == written
    labels.write_bytes(written + b"corrected")
    with pytest.raises(OutputError):
        predict_files(predictor, scan, labels.parent)
    assert labels.read_bytes() == written + b"corrected"


def test_label_maps_beside_scans_are_passed_over(predictor, tmp_path):
    for name in (
        *("a_0000.nii.gz", "a.nii.gz", "b_0000.nii.gz", "c.nii", "c_seg.nii", "c-label.nii", "mask.nii"),
        *("labelsTr/d.nii.gz", "deep/e.nii.gz", "deep/f.nrrd"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = find_scans(tmp_path, predictor.plan)
    assert [case.id for case in found.cases] == ["a_0000", "b_0000", "c", "e", "f", "mask"]
    (warning,) = found.warnings
    assert warning.got == "4 skipped: a.nii.gz, c-label.nii, c_seg.nii, labelsTr/d.nii.gz"


def test_a_folder_of_label_maps_is_not_predicted_without_a_word(predictor, tmp_path):
    (tmp_path / "labelsTr").mkdir()
    (tmp_path / "labelsTr" / "c.nii.gz").write_bytes(b"")
    (warning,) = find_scans(tmp_path / "labelsTr", predictor.plan).warnings
    assert warning.file == str(tmp_path / "labelsTr")


def test_values_that_the_model_was_not_trained_on(predictor, tmp_path, caplog):
    def warned(modality, low, high, rule):
        plan = predictor.plan.model_copy(update={"modalities": (modality,), "normalization": (rule,)})
        array = np.full((1, 4, 4, 4), low, np.int16)
        array[0, 0, 0, 0] = high
        return [warning.what for warning in value_warnings(Volume(array, np.eye(4)), plan)]

    tissue, by_case = Normalization(kind="clip", low=-160, high=240), Normalization(kind="case")
    assert warned("CT", -1000, 900, tissue) == warned("MR", 0, 900, by_case) == []
    assert warned("CT", 0, 255, by_case) == []  # the model was trained on such
    assert warned("CT", 0, 2048, tissue) == ["the modality is CT, but the values are not Hounsfield units"]
    assert warned("MR", -1024, 900, by_case) == ["the values look like CT"]
    nibabel.Nifti1Image(np.full((20, 24, 6), 7, np.int16), OBLIQUE).to_filename(tmp_path / "flat.nii")
    (result,) = predict_files(predictor, tmp_path / "flat.nii", tmp_path / "out")
    flat, unlike = (warning.what for warning in result.warnings)
    assert flat == "all voxels have the same value"
    assert unlike.startswith("scan is unlike the training scans")
    assert {warning.case for warning in result.warnings} == {"flat"} and not caplog.records  # shown by its caller
    prediction = predictor.predict(read_volume(tmp_path / "flat.nii"))
    assert [warning.what for warning in prediction.warnings] == [flat, unlike]
    assert [record.message.splitlines()[0] for record in caplog.records] == [flat, unlike]
    assert {record.name.partition(".")[0] for record in caplog.records} == {"inflate3d"}


def test_own_label_maps_are_not_predicted(predictor, three, tmp_path):
    predict_files(predictor, three, three / "predicted")
    found = find_scans(three, predictor.plan)
    assert [case.scan.parent for case in found.cases] == [three] * 3


def test_every_format_and_level_of_a_folder_is_predicted(predictor, scan, study):
    shutil.copytree(study, scan.parent / "patient7")
    found = find_scans(scan.parent, predictor.plan)
    assert [case.id for case in found.cases] == ["patient7_portal", "scan"]
    assert found.warnings == []


def test_files_of_one_name_in_several_folders_are_named_by_them(predictor, tmp_path):
    for name in ("p1/ct.nii.gz", "p2/ct.nii.gz"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    assert [case.id for case in find_scans(tmp_path, predictor.plan).cases] == ["p1_ct", "p2_ct"]


def test_modalities_by_name(predictor, tmp_path):
    for name in ("a_T1.nii.gz", "a_t2.nii.gz", "b-T1.nii.gz", "b-T2.nii.gz"):
        (tmp_path / name).write_bytes(b"")
    cases = find_scans(tmp_path, two_modalities(predictor)).cases
    assert [(case.id, [image.name for image in case.images]) for case in cases] == [
        ("a", ["a_T1.nii.gz", "a_t2.nii.gz"]),
        ("b", ["b-T1.nii.gz", "b-T2.nii.gz"]),
    ]


def test_two_files_of_one_modality_are_refused(predictor, tmp_path):
    for name in ("c1_0000.nii", "c1_0001.nii", "c1_0001.nii.gz"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError) as caught:
        find_scans(tmp_path, two_modalities(predictor))
    assert (caught.value.case, caught.value.got) == ("c1", "c1_0001.nii, c1_0001.nii.gz")


def test_odd_file_is_a_scan_of_its_own_among_several_modalities(predictor, tmp_path):
    """It may hold all modalities; if not, it fails alone."""
    for name in ("a_0000.nii", "a_0001.nii", "whole.nii"):
        (tmp_path / name).write_bytes(b"")
    cases = find_scans(tmp_path, two_modalities(predictor)).cases
    assert [(case.id, len(case.images)) for case in cases] == [("a", 2), ("whole", 1)]


def test_series_is_decoded_once(predictor, study, tmp_path, monkeypatch):
    """From scan to label map and map of uncertainty: the pixels of each slice are read once."""
    read = []
    real = reading.read
    monkeypatch.setattr(reading, "read", lambda path, **how: read.append(path) or real(path, **how))
    predict_files(predictor, study, tmp_path / "out", uncertainty_maps=True)
    assert len(read) == 1


@pytest.mark.slow
def test_options_of_the_command_line(tiny_run, three, tmp_path, capsys):
    words = ["predict", str(tiny_run.root), str(three), str(tmp_path / "out"), "--device", "cpu", "--json"]
    words += ["--ensemble", str(tiny_run.model), "--slice-step", "2", "--max-memory", "1", "--skip-existing"]
    assert main(words) == 0
    document = json.loads(capsys.readouterr().out)
    assert [scan["case"] for scan in document["scans"]] == ["a", "b", "scan"]
    assert (len(document["written"]), document["skipped"]) == (3, [])
    assert main(words[:-1]) == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == []
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == ["a", "b", "scan"]
    assert main([*words, "--max-memory", "0.0000001"]) == 0  # nothing is left to predict
    assert json.loads(capsys.readouterr().out)["written"] == []


def test_classes_whose_masks_would_have_one_file_name(scan, tmp_path):
    found, out = find_scans(scan, Dataset("Toy", tmp_path, ("CT",), {0: "background"}, ())), tmp_path / "out"
    destination = targets.Destination.of(out, found.cases, None)
    wanted = {"skip_existing": False, "overwrite": False, "uncertainty_maps": False}
    with pytest.raises(ConfigError, match="masks of several classes") as caught:
        targets.find_jobs(found, destination, masks=("lobe, left", "lobe (left)", "lobe"), **wanted)
    assert str(caught.value.got).startswith("lobe, left and lobe (left)")


@pytest.mark.parametrize("name", ["seg.txt", "seg.PNG", "seg.h5", "seg.gz"])
def test_no_folder_is_made_in_the_name_of_a_file_of_another_format(scan, name, tmp_path):
    found = find_scans(scan, Dataset("Toy", tmp_path, ("CT",), {0: "background"}, ()))
    with pytest.raises(ConfigError, match="can't be written in this format") as caught:
        targets.Destination.of(tmp_path / name, found.cases, None)
    assert caught.value.got == name
    (tmp_path / name).mkdir()
    for folder in (name, "out.v1", "2024.12"):
        assert targets.Destination.of(tmp_path / folder, found.cases, None).folder == tmp_path / folder
