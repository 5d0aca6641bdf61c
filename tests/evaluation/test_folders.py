"""Two folders of label maps of any program, through the library and the command."""

import csv
import json

import nibabel
import numpy as np
import pytest

from inflate3d.cli import main
from inflate3d.errors import ConfigError, DataError
from inflate3d.evaluation.folders import pair_label_maps, score_label_maps
from inflate3d.evaluation.groups import read_groups

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
    return score_label_maps(pair_label_maps(folders / "predictions", folders / "labels"), **options)


def test_values_found_are_the_classes(folders):
    scores = scored(folders)
    assert (scores.cases, scores.classes) == (("case0", "case1", "case2"), ("2", "5"))
    assert scores.native_dice[0].tolist() == [1, 1]
    assert scores.native_dice[1, 1] == pytest.approx(0.5)
    assert scores.native_dice[2, 1] == 0
    assert scores.measured["hd100"][1].tolist() == [2, 2]  # one voxel of 2 mm
    assert scores.measured["volume_difference_ml"][2].tolist() == pytest.approx([8 * 0.002, -8 * 0.002])
    assert np.isnan(scores.pooled_dice).all()
    assert scores.groups == {"spacing": ("1 to 2 mm",) * 3}


def test_named_classes_and_ignored_voxels(folders):
    for case in range(3):
        save(folders / f"predictions/case{case}.nii", np.where(label_map(case) == 2, 2, 0).astype(np.uint8))
    scores = scored(folders, classes={2: "liver"}, ignore=5)
    assert scores.classes == ("liver",)
    assert scores.native_dice.tolist() == [[1], [1], [1]]


def test_axes_in_another_order_are_the_same_grid(folders):
    turned = np.ascontiguousarray(label_map(0)[::-1])
    affine = AFFINE @ np.array([[-1, 0, 0, 9], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    save(folders / "predictions/case0.nii", turned, affine)
    assert scored(folders).native_dice[0].tolist() == [1, 1]


def test_another_grid_is_refused(folders):
    save(folders / "predictions/case1.nii", label_map(1), np.eye(4))
    with pytest.raises(DataError, match="differ in place") as caught:
        scored(folders)
    assert caught.value.case == "case1"
    assert str(caught.value.file).endswith("predictions/case1.nii")


def test_values_that_are_no_class_are_refused(folders):
    with pytest.raises(DataError, match="unknown label values") as caught:
        scored(folders, classes={2: "liver"})
    assert (caught.value.got, caught.value.case) == ("5", "case0")


@pytest.mark.parametrize(
    ("classes", "ignore", "got"),
    [
        ({0: "background", 2: "liver"}, None, "background=0"),
        ({-1: "nothing", 2: "liver"}, None, "nothing=-1"),
        ({2: "liver", 5: "tumor"}, 5, "tumor=5"),
    ],
)
def test_value_that_can_not_be_a_class(folders, classes, ignore, got):
    with pytest.raises(ConfigError, match="can't be a class") as caught:
        scored(folders, classes=classes, ignore=ignore)
    assert caught.value.got == got


@pytest.mark.parametrize("count", [254, 255, 300])
def test_as_many_classes_as_a_byte_can_number(tmp_path, count):
    values = np.zeros((16, 20, 2), np.uint16)
    values.flat[:count] = np.arange(count) + 1
    for folder in ("predictions", "labels"):
        save(tmp_path / folder / "case.nii.gz", values)
    if count > 254:
        with pytest.raises(ConfigError, match="too many label values"):
            scored(tmp_path)
    else:
        assert (scored(tmp_path).native_dice == 1).all()


@pytest.mark.parametrize(("kind", "value"), [(np.float32, 1e9), (np.uint32, 2**32 - 1)])
def test_large_label_values_take_no_memory(tmp_path, kind, value):
    values = label_map(1).astype(kind)
    values[0, 0, 0] = value
    for folder in ("predictions", "labels"):
        save(tmp_path / folder / "case.nii.gz", values)
    assert scored(tmp_path).native_dice.tolist() == [[1, 1, 1]]
    with pytest.raises(DataError, match="unknown label values"):
        scored(tmp_path, classes={2: "liver", 5: "tumor"})


def test_prediction_without_a_label(folders):
    save(folders / "predictions/other.nii", label_map(0))
    with pytest.raises(DataError, match="no label map of their name") as caught:
        pair_label_maps(folders / "predictions", folders / "labels")
    assert caught.value.case == "other"


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda folder: None, "does not exist"),
        (lambda folder: folder.mkdir(), "no label maps here"),
        (lambda folder: [save(folder / f"a.{end}", label_map(0)) for end in ("nii", "nii.gz")], "have one name"),
    ],
)
def test_folder_that_cannot_be_used(folders, make, what):
    make(folders / "given")
    with pytest.raises(DataError, match=what):
        pair_label_maps(folders / "given", folders / "labels")


def test_command(folders, capsys):
    (folders / "sites.csv").write_text("case,site\ncase0,Ulm\ncase1,Ulm\ncase2,Bern\n")
    words = ["evaluate", "--predictions", folders / "predictions", "--labels", folders / "labels"]
    words += ["--classes", "liver=2", "tumor=5", "--class-tolerance", "tumor=1", "--groups", folders / "sites.csv"]
    assert main([*map(str, words), "--metrics", "dice", "assd"]) == 0
    shown = capsys.readouterr()
    assert "ASSD in mm" in shown.out and "HD95" not in shown.out and "pooled" not in shown.out
    assert "by site" in shown.out and "by spacing" not in shown.out
    assert "1 label maps have no prediction and are not scored: case3" in shown.err
    written = folders / "predictions/evaluation"
    assert {path.name for path in written.iterdir()} == {"scores.csv", "scores.json", "summary.csv", "groups.csv"}
    with (written / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["class"], row["site"]) for row in rows][:3] == [
        ("case0", "liver", "Ulm"),
        ("case0", "tumor", "Ulm"),
        ("case1", "liver", "Ulm"),
    ]
    assert main([*map(str, words), "--out", str(folders / "out"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["unpredicted"] == ["case3"]
    assert document["nsd"]["tolerances_mm"] == {"liver": 2.0, "tumor": 1.0}
    assert document["groups"]["site"]["Ulm"]["dice"]["class_means"]["tumor"] == pytest.approx(0.75)
    assert (folders / "out/scores.json").exists()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ([], "it is not clear what to evaluate"),
        (["--predictions", "p"], "it is not clear what to evaluate"),
        (["run", "--labels", "l"], "it is not clear what to evaluate"),
        (["run", "--classes", "liver=1"], "--classes goes with --predictions"),
        (["--predictions", "p", "--labels", "l", "--classes", "liver"], "--classes can't be understood"),
        (["--predictions", "p", "--labels", "l", "--classes", "a=1", "b=1"], "--classes gives one value two names"),
        (["--predictions", "p", "--labels", "l", "--class-tolerance", "a=1", "a=2"], "--class-tolerance can't be"),
        (["--predictions", "p", "--labels", "l", "--metrics", "hd96"], "hd96"),
        (["--predictions", "p", "--labels", "l"], "the folder of label maps does not exist"),
    ],
)
def test_command_lines_that_cannot_be_followed(words, what, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", *words]) == 2
    assert what in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "case\na\n", "name,site\na,b\n"])
def test_table_without_groups(text, tmp_path):
    (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(DataError, match="names no groups"):
        read_groups(tmp_path / "groups.csv")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("case,site\na,Ulm\na,Bonn\n", "lists a case twice"),
        ("case,spacing\na,fine\n", "groups called spacing"),
    ],
)
def test_table_of_groups_that_is_not_clear(text, what, tmp_path):
    (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(DataError, match=what):
        read_groups(tmp_path / "groups.csv")


def test_table_of_other_cases(folders):
    with pytest.raises(DataError, match="to none of the cases") as caught:
        scored(folders, groups={"site": {"case0.nii.gz": "Ulm"}})
    assert "case0" in str(caught.value.expected)
    assert set(scored(folders, groups={"site": {"case0": "Ulm", "other": "Bonn"}}).groups) == {"site", "spacing"}


def test_table_of_groups(tmp_path):
    (tmp_path / "groups.csv").write_text("\ufeffcase, site,fold\na, Ulm,0\nb ,,1\n", encoding="utf-8")
    assert read_groups(tmp_path / "groups.csv") == {"site": {"a": "Ulm"}, "fold": {"a": "0", "b": "1"}}
    with pytest.raises(DataError, match="can't be read"):
        read_groups(tmp_path / "missing.csv")
