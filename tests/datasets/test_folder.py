import dataclasses
import re
import unicodedata
from pathlib import Path

import nibabel
import numpy as np
import pytest

from inflate3d.datasets import read_dataset
from inflate3d.datasets.case import Case, Dataset
from inflate3d.datasets.folder import read_folder
from inflate3d.datasets.splits import Split
from inflate3d.datasets.writing import write_dataset
from inflate3d.errors import ConfigError, DataError, DatasetProblems
from inflate3d.io import read_labels, read_volume

AFFINE = np.array([[-0.7, 0.1, 0, 90], [0.1, 0.7, 0, -120], [0, 0, 3, 40], [0, 0, 0, 1.0]])

LISTING = """
modalities: [T1w, FLAIR]
classes: {0: background, 2: left hippocampus, 5: right hippocampus}
"""

TABLE = """\
case,image,image2,label,split,group
b,b_t1.nii.gz,b_flair.nii.gz,b.nii.gz,train,Q
c,c_t1.nii.gz,,c.nii.gz,test,R
a,sub/a_t1.nii.gz,a_flair.nii.gz,a.nii.gz,val,P
"""


@pytest.fixture
def folder(tmp_path):
    """A description with a split, groups and a missing modality; the files' contents are never looked at."""
    folder = tmp_path / "Heads"
    (folder / "sub").mkdir(parents=True)
    (folder / "dataset.yaml").write_text(LISTING)
    (folder / "cases.csv").write_text(TABLE)
    for name in ("sub/a_t1", "a_flair", "a", "b_t1", "b_flair", "b", "c_t1", "c"):
        (folder / f"{name}.nii.gz").touch()
    return folder


def test_all_that_is_described(folder):
    assert read_dataset(folder) == Dataset(
        name="Heads",
        root=folder,
        modalities=("T1w", "FLAIR"),
        classes={0: "background", 2: "left hippocampus", 5: "right hippocampus"},
        cases=(
            Case("a", (folder / "sub/a_t1.nii.gz", folder / "a_flair.nii.gz"), folder / "a.nii.gz", "P"),
            Case("b", (folder / "b_t1.nii.gz", folder / "b_flair.nii.gz"), folder / "b.nii.gz", "Q"),
            Case("c", (folder / "c_t1.nii.gz", None), folder / "c.nii.gz", "R"),
        ),
        splits={"own": (Split(("b",), ("a",), ("c",), "the column split of cases.csv"),)},
        structures={"left hippocampus": 2, "right hippocampus": 5},
    )


def test_optional_lines(folder):
    (folder / "mine.csv").write_text((folder / "cases.csv").read_text(encoding="utf-8"))
    (folder / "cases.csv").unlink()
    (folder / "dataset.yaml").write_text(
        "\ufeffname: Zoë's\nmodalities: [A, B]\nclasses: [5, 0, 1]\nmerge: {3: 1}\nignore: 255\ncases: mine.csv\n",
        encoding="utf-8",
    )
    dataset = read_dataset(folder)
    assert dataset.name == "Zoë's"
    assert list(dataset.classes.items()) == [(0, "background"), (1, "class 1"), (5, "class 5")]
    assert (dataset.merged, dataset.ignore) == ({3: 1}, 255)
    assert dataset.label_values == {0, 1, 3, 5, 255}


def test_files_may_lie_elsewhere(folder, tmp_path):
    (folder / "a_flair.nii.gz").rename(tmp_path / "a.nii.gz")
    (folder / "cases.csv").write_text(
        TABLE.replace("a_flair.nii.gz", "../a.nii.gz").replace(",b.nii.gz", f",{tmp_path / 'a.nii.gz'}")
    )
    cases = read_dataset(folder).cases
    assert cases[0].images[1] == folder / "../a.nii.gz"
    assert cases[1].label == tmp_path / "a.nii.gz"


def test_paths_with_backslashes(folder):
    (folder / "cases.csv").write_text(TABLE.replace("sub/a_t1", "sub\\a_t1").replace(",b.nii", ",.\\b.nii"))
    cases = read_dataset(folder).cases
    assert cases[0].images[0] == folder / "sub/a_t1.nii.gz"
    assert cases[1].label == folder / "b.nii.gz"
    (folder / "sub\\a_t1.nii.gz").touch()
    assert read_dataset(folder).cases[0].images[0] == folder / "sub\\a_t1.nii.gz"


def test_one_column_may_name_files_of_all_modalities(folder):
    (folder / "cases.csv").write_text("case,image,label\na,a_flair.nii.gz,a.nii.gz\n")
    assert read_dataset(folder).cases[0].images == (folder / "a_flair.nii.gz",)


@pytest.mark.parametrize(
    ("listing", "message"),
    [
        ("", "invalid configuration"),
        ("[", "configuration is not YAML"),
        ("modalities: [CT]", "invalid classes"),
        ("modalities: CT\nclasses: [0, 1]", "invalid modalities"),
        ("modalities: []\nclasses: [0, 1]", "invalid modalities"),
        ("modalities: [CT]\nclasses: {0: background, 1: no}", "invalid classes.1"),
        ("modalities: [CT]\nclasses: {background: 0}", "invalid classes.background.[key] (and 1 more)"),
        ("modalities: [CT]\nclasses: [0, 1]\nlabels: x", "invalid labels"),
        ("modalities: [CT]\nclasses: [0, 1.5]", "invalid classes"),
        ("modalities: [CT]\nclasses: [0, 1, 1]", "invalid classes"),
        ("modalities: [CT]\nclasses: {0: background, 1: liver, 1: spleen}", "configuration is not YAML"),
        ("modalities: [CT]\nclasses: {0: background, 1: liver, 0x1: spleen}", "configuration is not YAML"),
        ("modalities: [CT]\nclasses: [0, 1]\nclasses: [0, 2]", "configuration is not YAML"),
        ("- " * 50_000, "configuration is not YAML"),
        ("#" * 200_000, "configuration can't be read"),
        ("modalities: [CT]\nclasses: [0: background, 1: liver]", "invalid classes"),
    ],
)
def test_listing_that_makes_no_sense(folder, listing, message):
    (folder / "dataset.yaml").write_text(listing)
    with pytest.raises(DataError) as caught:
        read_dataset(folder)
    assert caught.value.what == f"dataset.yaml does not describe a dataset: {message}"
    assert caught.value.file == str(folder / "dataset.yaml")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("classes: [1, 2]", "they must hold 0"),
        ("classes: [0]", "they must hold 0"),
        ("classes: [-1, 0, 1]", "they must hold 0"),
        ("classes: {0: background, 1: liver, 2: Liver}", "repeated"),
        ("classes: {0: background, 1: ''}", "a name is empty"),
        ("classes: [0, 1, 2]\nmerge: {2: 1}", "2 counts as another value"),
        ("classes: [0, 1]\nmerge: {2: 3}", "3, which others count as, is not a class"),
        ("classes: [0, 1]\nignore: 1", "1 is a class"),
    ],
)
def test_classes_that_contradict_one_another(folder, lines, message):
    (folder / "dataset.yaml").write_text(f"modalities: [A, B]\n{lines}\n")
    with pytest.raises(DataError, match="invalid classes") as caught:
        read_dataset(folder)
    assert message in str(caught.value.got)


@pytest.mark.parametrize("names", ["[A, a]", "[A, '']", "[A, 'A ']"])
def test_modalities_need_names_of_their_own(folder, names):
    (folder / "dataset.yaml").write_text(f"modalities: {names}\nclasses: [0, 1]\n")
    with pytest.raises(DataError, match="modality's name is empty or repeated"):
        read_dataset(folder)


def test_number_of_modalities_differs_between_the_files(folder):
    (folder / "dataset.yaml").write_text("modalities: [A, B, C]\nclasses: [0, 1]\n")
    with pytest.raises(DataError, match="number of image columns differs") as caught:
        read_dataset(folder)
    assert caught.value.expected == "3 (A, B, C), or one for files that hold all"


def test_split_without_validation(folder):
    (folder / "cases.csv").write_text(TABLE.replace(",val,", ",train,"))
    with pytest.raises(DataError, match="split does not fit") as caught:
        read_dataset(folder)
    assert caught.value.got == "no case to validate on"


def test_missing_files_are_reported_at_once(folder):
    for name in ("c_t1", "a"):
        (folder / f"{name}.nii.gz").unlink()
    with pytest.raises(DatasetProblems) as caught:
        read_dataset(folder)
    assert [(problem.what, problem.case, problem.file) for problem in caught.value.problems] == [
        ("file not found", "a", str(folder / "a.nii.gz")),
        ("file not found", "c", str(folder / "c_t1.nii.gz")),
    ]


def test_names_in_another_unicode_form_have_a_hint(folder):
    """macOS writes ü as two characters, which look alike."""
    composed, split = (unicodedata.normalize(form, "Müller.nii.gz") for form in ("NFC", "NFD"))
    (folder / "a.nii.gz").rename(folder / split)
    table = folder / "cases.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("a.nii.gz", composed, 1), encoding="utf-8")
    with pytest.raises(DatasetProblems) as caught:
        read_dataset(folder)
    (problem,) = caught.value.problems
    assert "another Unicode form" in str(problem.hint)


def test_table_without_a_listing_leads_to_init(folder):
    (folder / "dataset.yaml").unlink()
    with pytest.raises(DataError) as caught:
        read_dataset(folder)
    assert f"inflate3d init {folder}" in str(caught.value.hint)


def save(path: Path, array, affine=AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(array, affine).to_filename(path)
    return path


@pytest.fixture
def heads(tmp_path) -> Dataset:
    """Two modalities: of case a in one file, of b in two, of c one is missing."""
    random = np.random.default_rng(0)
    scans = {name: random.integers(-50, 50, (4, 5, 6, 2), np.int16) for name in "abc"}
    labels = {name: random.choice(np.array([0, 2, 5, 255], np.uint8), (4, 5, 6)) for name in "abc"}
    source = tmp_path / "source"
    images: dict[str, tuple[Path | None, ...]] = {
        "a": (save(source / "a.nii", scans["a"]),),
        "b": tuple(save(source / f"b{channel}.nii", scans["b"][..., channel]) for channel in range(2)),
        "c": (None, save(source / "c1.nii", scans["c"][..., 1])),
    }
    cases = [Case(name, images[name], save(source / f"{name}_seg.nii", labels[name]), f"of {name}") for name in "abc"]
    own = (Split(("a",), ("b",), ("c",), "somebody"),)
    return Dataset(
        "Heads", source, ("T1w", "FLAIR"), {0: "background", 2: "no: 1"}, tuple(cases), {5: 2}, 255, {"own": own}
    )


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_written_folder_holds_the_same(heads, tmp_path, suffix):
    written = write_dataset(heads, tmp_path / "out", "folder", suffix=suffix).dataset
    assert written == read_dataset(tmp_path / "out")
    for name in ("name", "modalities", "classes", "merged", "ignore"):
        assert getattr(written, name) == getattr(heads, name)
    assert dataclasses.replace(written.splits["own"][0], source="somebody") == heads.splits["own"][0]
    for before, after in zip(heads.cases, written.cases, strict=True):
        assert before.label is not None and after.label is not None
        assert (after.id, after.group) == (before.id, before.group)
        assert [image is None for image in after.images] == [
            image is None for image in before.images
        ] or before.id == "a"
        labels = read_labels(after.label)
        assert np.array_equal(labels.array, read_labels(before.label).array)
        np.testing.assert_allclose(labels.affine, AFFINE, rtol=1e-6)
        channels = [read_volume(image) for image in before.images if image is not None]
        expected = np.concatenate([channel.array for channel in channels])
        found = [read_volume(image) for image in after.images if image is not None]
        assert np.array_equal(np.concatenate([channel.array for channel in found]), expected)
        assert {channel.array.dtype for channel in found} == {np.dtype(np.int16)}
        assert all(np.allclose(channel.affine, AFFINE, rtol=1e-6) for channel in found)


def test_split_that_leaves_cases_out_gets_no_column(heads, tmp_path):
    some = {"own": (Split(("a",), ("b",)),), "other": (Split(("a",), ("b",), ("c",)),)}
    assert write_dataset(dataclasses.replace(heads, splits=some), tmp_path / "out", "folder").dataset.splits == {}


def test_labels_elsewhere_are_refused(heads, tmp_path):
    save(heads.root / "b_seg.nii", np.zeros((4, 5, 6), np.uint8), np.eye(4))
    with pytest.raises(DataError, match="differ in position"):
        write_dataset(heads, tmp_path / "out", "folder")


def test_format_that_can_not_be_written(heads, tmp_path):
    with pytest.raises(ConfigError, match="invalid file format"):
        write_dataset(heads, tmp_path / "out", "folder", suffix=".png")
    assert not (tmp_path / "out").exists()


def test_classes_of_one_name_are_refused_before_anything_is_written(heads, tmp_path):
    twice = dataclasses.replace(heads, classes={0: "background", 1: "tumor", 2: "Tumor"})
    with pytest.raises(DataError, match="invalid classes"):
        write_dataset(twice, tmp_path / "out", "folder")
    assert not (tmp_path / "out").exists()


def test_described_folder_reads_alike_by_its_own_reader(folder):
    assert read_folder(str(folder)) == read_dataset(folder)


def test_example_of_the_manual(tmp_path):
    text = (Path(__file__).parents[2] / "docs/datasets/own-folder.md").read_text(encoding="utf-8")
    listing, table = re.findall(r"```(?:yaml)?\n((?:name|case,).*?)```", text, re.DOTALL)
    (tmp_path / "dataset.yaml").write_text(listing)
    (tmp_path / "cases.csv").write_text(table)
    dataset = read_folder(tmp_path)
    assert (dataset.merged, dataset.ignore, len(dataset.cases)) == ({3: 2}, 255, 3)
    assert dataset.cases[2].images == (Path("/disk2/scans/case_03.nrrd"),)
    assert dataset.splits["own"][0].test == ("case_03",)
