"""Two folders of label maps of any program, through the library and the command."""

import csv
import json
import unicodedata

import nibabel
import numpy as np
import pytest

from inflate3d.cli import main
from inflate3d.errors import ConfigError, DataError
from inflate3d.evaluation.groups import read_groups
from inflate3d.evaluation.label_maps import pair_label_maps, score_label_maps
from inflate3d.evaluation.scores import Scores
from inflate3d.io import read_labels, read_volume, write_labels, write_volume
from inflate3d.io.segments import Segments

AFFINE = np.diag([2.0, 1.0, 1.0, 1.0])


def save(path, values, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(values, affine).to_filename(path)


def label_map(case):
    """A liver of value 2 and a tumor of value 5."""
    values = np.zeros((10, 12, 14), np.uint8)
    values[2:8, 2:8, 2 : 8 + case] = 2
    values[4:6, 4:6, 4:6] = 5
    return values


@pytest.fixture
def folders(tmp_path):
    """Four label maps, of which three are predicted: exactly, one voxel off, and without the tumor."""
    for case in range(4):
        save(tmp_path / f"labels/case{case}.nii.gz", label_map(case))
    save(tmp_path / "predictions/case0.nii", label_map(0))
    save(tmp_path / "predictions/case1.nii", np.roll(label_map(1), 1, axis=0))
    save(tmp_path / "predictions/case2.nii", np.where(label_map(2) == 5, 2, label_map(2)).astype(np.uint8))
    return tmp_path


def scored(folders, **options):
    return score_label_maps(folders / "predictions", folders / "labels", **options)


def test_values_found_are_the_classes(folders):
    scores = scored(folders)
    assert (scores.cases, scores.classes) == (("case0", "case1", "case2"), ("2", "5"))
    assert scores.dice[0].tolist() == [1, 1]
    assert scores.dice[1, 1] == pytest.approx(0.5)
    assert scores.dice[2, 1] == 0
    assert scores.measured["hd100"][1].tolist() == [2, 2]  # one voxel of 2 mm
    assert scores.measured["volume_difference_ml"][2].tolist() == pytest.approx([8 * 0.002, -8 * 0.002])
    assert scores.micro_dice is None
    assert scores.groups == {"spacing": ("1 to 2 mm",) * 3}


def test_named_classes_and_ignored_voxels(folders):
    for case in range(3):
        save(folders / f"predictions/case{case}.nii", np.where(label_map(case) == 2, 2, 0).astype(np.uint8))
    scores = scored(folders, classes={2: "liver"}, ignore=5)
    assert scores.classes == ("liver",)
    assert scores.dice.tolist() == [[1], [1], [1]]


def test_axes_in_another_order_are_the_same_grid(folders):
    turned = np.ascontiguousarray(label_map(0)[::-1])
    affine = AFFINE @ np.array([[-1, 0, 0, 9], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    save(folders / "predictions/case0.nii", turned, affine)
    assert scored(folders).dice[0].tolist() == [1, 1]


def test_names_of_slicer_and_of_macos_are_those_of_the_case(tmp_path):
    """`.seg.nrrd`, and letters like ü as two characters."""
    composed, decomposed = "labels/Müller.nii.gz", unicodedata.normalize("NFD", "predictions/Müller.seg.nrrd")
    for name in (composed, decomposed):
        save(tmp_path / "whole.nii.gz", label_map(0))
        path = tmp_path / name
        path.parent.mkdir()
        write_labels(path, label_map(0), like=tmp_path / "whole.nii.gz")
    assert scored(tmp_path).cases == ("Müller",)
    cropped = read_volume(path)[:, 1:9, 1:9, 1:9]
    path.unlink()
    write_volume(path, cropped)
    with pytest.raises(DataError) as caught:
        scored(tmp_path)
    assert "minimum extent" in str(caught.value.hint)


def test_another_grid_is_refused(folders):
    save(folders / "predictions/case1.nii", label_map(1), np.eye(4))
    with pytest.raises(DataError) as caught:
        scored(folders)
    assert caught.value.case == "case1"
    assert str(caught.value.file).endswith("predictions/case1.nii")


def test_other_values_are_background(folders, caplog):
    scores = scored(folders, classes={5: "tumor"})
    assert scores.classes == ("tumor",)
    assert scores.dice[:, 0].tolist() == [1, 0.5, 0]
    assert [record.args for record in caplog.records if "background" in record.message] == [("2",)]


def test_predictions_of_many_classes_against_labels_of_one(tmp_path):
    both = np.zeros((8, 8, 4), np.uint8)
    both[1:3], both[5:7] = 5, 1
    save(tmp_path / "predictions/a.nii.gz", both)
    save(tmp_path / "labels/a.nii.gz", np.where(both == 5, 5, 0).astype(np.uint8))
    assert scored(tmp_path, classes={5: "liver"}).dice.tolist() == [[1]]


@pytest.mark.parametrize("classes", [None, {1: "tumor"}])
def test_masks_of_255_and_of_1_are_refused(tmp_path, classes):
    mask = np.zeros((8, 8, 4), np.uint8)
    mask[2:6] = 1
    save(tmp_path / "labels/a.nii.gz", mask)
    save(tmp_path / "predictions/a.nii.gz", mask * 255)
    with pytest.raises(DataError) as caught:
        scored(tmp_path, classes=classes)
    assert (caught.value.expected, caught.value.got) == ("1", "255")
    assert "0 and 1" in str(caught.value.hint)


def test_empty_predictions_are_scored_0(tmp_path):
    mask = np.zeros((8, 8, 4), np.uint8)
    mask[2:6] = 1
    save(tmp_path / "labels/a.nii.gz", mask)
    save(tmp_path / "predictions/a.nii.gz", mask * 0)
    assert scored(tmp_path).dice.tolist() == [[0]]


def test_classes_that_no_label_map_has(folders, caplog):
    with pytest.raises(DataError) as caught:
        scored(folders, classes={7: "spleen"})
    assert (caught.value.expected, caught.value.got) == ("7 (spleen)", "2, 5")
    scored(folders, classes={2: "liver", 7: "spleen"})
    assert any(record.args == ("prediction or label map", "spleen", "7") for record in caplog.records)


@pytest.mark.parametrize(
    ("classes", "ignore", "got"),
    [
        ({0: "background", 2: "liver"}, None, "background=0"),
        ({-1: "nothing", 2: "liver"}, None, "nothing=-1"),
        ({2: "liver", 5: "tumor"}, 5, "tumor=5"),
    ],
)
def test_value_that_can_not_be_a_class(folders, classes, ignore, got):
    with pytest.raises(ConfigError) as caught:
        scored(folders, classes=classes, ignore=ignore)
    assert caught.value.got == got


@pytest.mark.slow
@pytest.mark.parametrize("count", [254, 255, 300])
def test_as_many_classes_as_a_byte_can_number(tmp_path, count):
    values = np.zeros((16, 20, 2), np.uint16)
    values.flat[:count] = np.arange(count) + 1
    for folder in ("predictions", "labels"):
        save(tmp_path / folder / "case.nii.gz", values)
    if count > 254:
        with pytest.raises(ConfigError):
            scored(tmp_path)
    else:
        assert (scored(tmp_path).dice == 1).all()


@pytest.mark.parametrize(("kind", "value"), [(np.float32, 1e9), (np.uint32, 2**32 - 1)])
def test_large_label_values_take_no_memory(tmp_path, kind, value):
    values = label_map(1).astype(kind)
    values[0, 0, 0] = value
    for folder in ("predictions", "labels"):
        save(tmp_path / folder / "case.nii.gz", values)
    assert scored(tmp_path).dice.tolist() == [[1, 1, 1]]
    assert scored(tmp_path, classes={2: "liver", 5: "tumor"}).dice.tolist() == [[1, 1]]


def test_prediction_without_a_label(folders):
    save(folders / "predictions/other.nii", label_map(0))
    with pytest.raises(DataError) as caught:
        pair_label_maps(folders / "predictions", folders / "labels")
    assert caught.value.case == "other"


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: None,
        lambda folder: folder.mkdir(),
        lambda folder: [save(folder / f"a.{end}", label_map(0)) for end in ("nii", "nii.gz")],
    ],
)
def test_missing_empty_and_ambiguous_folders(folders, make):
    make(folders / "given")
    with pytest.raises(DataError) as caught:
        pair_label_maps(folders / "given", folders / "labels")
    assert caught.value.file == str(folders / "given")


def test_names_that_spreadsheets_would_run(tmp_path):
    for folder in ("predictions", "labels"):
        save(tmp_path / folder / "=cmd.nii.gz", label_map(0))
    scores = scored(tmp_path, classes={2: "+liver", 5: "tumor"})
    scores.write(tmp_path)
    for name in ("scores.csv", "summary.csv", "groups.csv"):
        cells = [cell for row in csv.reader((tmp_path / name).read_text(encoding="utf-8").splitlines()) for cell in row]
        assert not any(cell.startswith(("=", "+", "@")) for cell in cells)
    assert scores.cases == ("=cmd",)


def test_command(folders, capsys, caplog):
    (folders / "sites.csv").write_text("case,site\ncase0,Ulm\ncase1,Ulm\ncase2,Bern\n")
    words = ["evaluate", "--predictions", folders / "predictions", "--labels", folders / "labels"]
    words += ["--classes", "liver=2", "tumor=5", "--tolerance", "1.5", "--groups", folders / "sites.csv"]
    assert main([*map(str, words), "--metrics", "dice", "assd"]) == 0
    shown = capsys.readouterr()
    assert "ASSD in mm" in shown.out and "HD95" not in shown.out and "micro" not in shown.out
    assert "by site" in shown.out and "by spacing" not in shown.out
    assert any(record.args is not None and "case3" in record.args for record in caplog.records)
    written = folders / "predictions/evaluation"
    assert {path.name for path in written.iterdir()} == {"scores.csv", "scores.json", "summary.csv", "groups.csv"}
    with (written / "scores.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    dice = {(row["case"], row["class"]): float(row["value"]) for row in rows if row["measure"] == "dice"}
    assert dice["case1", "tumor"] == 0.5 and len(dice) == 6
    assert main([*map(str, words), "--out", str(folders / "out"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["unpredicted"] == ["case3"]
    assert document["nsd_tolerance_mm"] == 1.5
    means = {(row["group"], row["class"]): row["mean"] for row in document["group_means"] if row["measure"] == "dice"}
    assert means["Ulm", "tumor"] == pytest.approx(0.75)
    assert (folders / "out/scores.json").exists()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--predictions", "p"],
        ["run", "--labels", "l"],
        ["run", "--classes", "liver=1"],
        ["--predictions", "p", "--labels", "l", "--classes", "liver"],
        ["--predictions", "p", "--labels", "l", "--classes", "a=1", "b=1"],
        ["--predictions", "p", "--labels", "l", "--classes", "a=1", "a=2"],
        ["--predictions", "p", "--labels", "l"],
    ],
)
def test_command_lines_that_cannot_be_followed(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", *words]) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("text", ["", "case\na\n", "name,site\na,b\n"])
def test_table_without_groups(text, tmp_path):
    (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(DataError):
        read_groups(tmp_path / "groups.csv")


@pytest.mark.parametrize("text", ["case,site\na,Ulm\na,Bonn\n", "case,spacing\na,fine\n"])
def test_table_of_groups_that_is_not_clear(text, tmp_path):
    (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(DataError):
        read_groups(tmp_path / "groups.csv")


def test_table_of_other_cases(folders):
    with pytest.raises(DataError) as caught:
        scored(folders, groups={"site": {"case0.nii.gz": "Ulm"}})
    assert "case0" in str(caught.value.expected)
    assert set(scored(folders, groups={"site": {"case0": "Ulm", "other": "Bonn"}}).groups) == {"site", "spacing"}


def test_table_of_groups(tmp_path):
    (tmp_path / "groups.csv").write_text("\ufeffcase, site,fold\na, Ulm,0\nb ,,1\n", encoding="utf-8")
    assert read_groups(tmp_path / "groups.csv") == {"site": {"a": "Ulm"}, "fold": {"a": "0", "b": "1"}}
    with pytest.raises(DataError):
        read_groups(tmp_path / "missing.csv")


@pytest.fixture(scope="module")
def dicom(tmp_path_factory, write_series):
    """Two cases, labeled and predicted with a shift, in each format: NIfTI, SEG, RTSTRUCT."""
    root = tmp_path_factory.mktemp("dicom")
    for case in range(2):
        series = root / f"scans/case{case}"
        write_series(series, np.zeros((14, 12, 10), np.int16), modality="CT", uid=f"1.2.{case}")
        segments = Segments({2: "Liver", 5: "tumor"})
        for folder, labels in (("labels", label_map(case)), ("predictions", np.roll(label_map(case), 1, axis=2))):
            for kind in ("nii.gz", "seg.dcm", "rtstruct.dcm"):
                file = root / f"{folder}.{kind}/case{case}.{kind}"
                file.parent.mkdir(exist_ok=True)
                write_labels(file, labels, like=series, segments=segments)
    return root


@pytest.mark.slow
@pytest.mark.parametrize(
    ("predicted", "labeled"),
    [("seg.dcm", "nii.gz"), ("rtstruct.dcm", "nii.gz"), ("seg.dcm", "seg.dcm"), ("nii.gz", "rtstruct.dcm")],
)
def test_dicom_objects_score_as_the_label_maps_in_them(dicom, predicted, labeled):
    classes = {2: "liver", 5: "tumor"}
    scores = score_label_maps(dicom / f"predictions.{predicted}", dicom / f"labels.{labeled}", classes=classes)
    expected = score_label_maps(dicom / "predictions.nii.gz", dicom / "labels.nii.gz", classes=classes)
    assert 0.5 < expected.mean() < 1
    for name in ("dice", "hd95", "volume_difference_ml"):
        np.testing.assert_allclose(scores.measured[name], expected.measured[name], rtol=1e-5)


@pytest.mark.slow
def test_structures_of_dicom_objects_are_classes_by_name(dicom):
    scores = score_label_maps(dicom / "predictions.seg.dcm", dicom / "labels.seg.dcm")
    assert scores.classes == ("Liver", "tumor")
    with pytest.raises(DataError, match="rasterized"):
        score_label_maps(dicom / "predictions.seg.dcm", dicom / "labels.rtstruct.dcm")
    with pytest.raises(ConfigError, match="number them"):
        score_label_maps(dicom / "predictions.seg.dcm", dicom / "labels.nii.gz")


def test_regions_are_unions_of_values(folders, capsys):
    words = ["--predictions", str(folders / "predictions"), "--labels", str(folders / "labels")]
    assert main(["evaluate", *words, "--classes", "organ=2+5", "tumor=5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == ["organ", "tumor"]
    scores = Scores.read(folders / "predictions" / "evaluation")
    alone = scored(folders, classes={2: "liver", 5: "tumor"})
    for measure in scores.measures:
        assert np.array_equal(scores.measured[measure][:, 1], alone.measured[measure][:, 1], equal_nan=True)
    for case in range(3):
        file = next((folders / "predictions").glob(f"case{case}.nii*"))
        ours, truth = (read_labels(path).array > 0 for path in (file, folders / f"labels/case{case}.nii.gz"))
        assert scores.dice[case, 0] == pytest.approx(2 * (ours & truth).sum() / (ours.sum() + truth.sum()))
    assert main(["evaluate", *words, "--classes", "organ=2+2", "tumor=5"]) == 2
