"""Each kind of dataset through the commands: prepare by its preset, train two steps, evaluate, predict."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from inflate3d.cli import main
from inflate3d.io import read_labels, read_volume, write_volume
from inflate3d.preparation.plan import Plan
from inflate3d.volume import Volume

SHAPE = (20, 24, 7)
AFFINE = np.diag([-1.0, -1.0, 5.0, 1.0])
QUICK = ["--encoder", "resnet10t", "--weights", "none", "--decoder-channels", "8", "--detail-channels", "4"]
QUICK += ["--image-size", "32", "32", "--steps", "2", "--batch-size", "2", "--accelerator", "cpu"]
QUICK += ["--validation-cases", "1"]


def make(seed, values, channels=1):
    """A scan whose brightness follows its labels, one box for each value."""
    random = np.random.default_rng(seed)
    labels = np.zeros(SHAPE, np.uint8)
    for index, value in enumerate(values):
        start = 1 + index * (18 // len(values))
        labels[start : start + max(1, 18 // len(values)), 4:16, 1:-1] = value
    scan = np.stack([random.normal(0, 20, SHAPE) + 10 * labels for _ in range(channels)])
    return scan.astype(np.int16), labels


def save(path: Path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(array, AFFINE).to_filename(path)


def bcv(folder: Path):
    training = folder / "RawData" / "Training"
    for number in [*range(1, 11), *range(21, 41)]:
        scan, labels = make(number, range(1, 14))
        save(training / f"img/img{number:04d}.nii.gz", scan[0])
        save(training / f"label/label{number:04d}.nii.gz", labels)
    joined = ["--merge", "kidneys=left kidney+right kidney", "--classes", "kidneys", "liver"]
    return folder, ["--preset", "paper/bcv", *joined], training / "img/img0001.nii.gz"


def acdc(folder: Path):
    for number in range(1, 101):
        patient = folder / "training" / f"patient{number:03d}"
        for frame in (1, 9):
            scan, labels = make(1000 * frame + number, (1, 2, 3))
            save(patient / f"patient{number:03d}_frame{frame:02d}.nii.gz", scan[0])
            save(patient / f"patient{number:03d}_frame{frame:02d}_gt.nii.gz", labels)
        (patient / "Info.cfg").write_text("ED: 1\nES: 9\nGroup: NOR\n")
    return folder, ["--preset", "acdc"], folder / "training/patient100/patient100_frame01.nii.gz"


def msd(folder: Path):
    folder = folder / "Task02_Heart"
    names = [f"la_{number:03d}.nii.gz" for number in range(20)]
    for number, name in enumerate(names):
        scan, labels = make(number, (1,))
        save(folder / "imagesTr" / name, scan[0])
        save(folder / "labelsTr" / name, labels)
    training = [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names]
    listing = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "left atrium"}, "training": training}
    (folder / "dataset.json").write_text(json.dumps(listing))
    return folder, ["--preset", "paper/msd-task02"], folder / "imagesTr/la_003.nii.gz"


def msd_of_two_modalities(folder: Path):
    names = [f"prostate_{number:02d}.nii.gz" for number in range(5)]
    for number, name in enumerate(names):
        scan, labels = make(number, (1, 2), channels=2)
        save(folder / "imagesTr" / name, np.moveaxis(scan, 0, -1))
        save(folder / "labelsTr" / name, labels)
    training = [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names]
    labels = {"0": "background", "1": "PZ", "2": "TZ"}
    (folder / "dataset.json").write_text(
        json.dumps({"modality": {"0": "T2", "1": "ADC"}, "labels": labels, "training": training})
    )
    return folder, ["--spacing", "median", "--stride", "2", "--depth", "3"], folder / "imagesTr" / names[0]


def nnunet(folder: Path):
    for number, name in enumerate("abcd"):
        scan, labels = make(number, (1, 2, 3))
        save(folder / f"imagesTr/{name}_0000.nii.gz", scan[0])
        save(folder / f"labelsTr/{name}.nii.gz", labels)
    labels = {"background": 0, "liver": 1, "tumor": 2, "ignore": 3}
    listing = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 4, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(listing))
    splits = [{"train": ["a", "b", "c"], "val": ["d"]}, {"train": ["b", "c", "d"], "val": ["a"]}]
    (folder / "splits_final.json").write_text(json.dumps(splits))
    return folder, ["--fold", "1"], folder / "imagesTr/a_0000.nii.gz"


def own_folder(folder: Path):
    """NRRD, one modality missing, masks of 0 and 255, a split of one's own."""
    folder.mkdir(parents=True)
    rows = ["case,image,image2,label,split"]
    for number, part in enumerate(["train", "train", "train", "validation", "test"]):
        scan, labels = make(number, (255,), channels=2)
        for name, array in (("t1", scan[:1]), ("t2", scan[1:]), ("mask", labels[np.newaxis])):
            write_volume(folder / f"{number}_{name}.nrrd", Volume(array, AFFINE))
        rows.append(
            f"s{number},{number}_t1.nrrd,{'' if number == 1 else f'{number}_t2.nrrd'},{number}_mask.nrrd,{part}"
        )
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    (folder / "dataset.yaml").write_text("modalities: [T1, T2]\nclasses: {0: background, 255: lesion}\n")
    return folder, ["--allow-missing-modality"], None


def bcv_is_as_in_the_paper(plan, split):
    assert [(rule.low, rule.high) for rule in plan.normalization] == [(-175, 250)]
    assert (len(split["train"]), len(split["validation"]), split["test"]) == (18, 12, [])
    assert plan.classes == {0: "background", 2: "kidneys", 6: "liver"}


def acdc_chooses_on_ten_patients_and_scores_twenty_others(plan, split):
    patients = {part: {case[:10] for case in split[part]} for part in ("train", "validation", "test")}
    assert {part: len(names) for part, names in patients.items()} == {"train": 70, "validation": 10, "test": 20}
    assert plan.normalization[0].kind == "case"


def heart_is_cut_at_80_and_95_per_cent(plan, split):
    assert [len(split[part]) for part in ("train", "validation", "test")] == [16, 3, 1]
    assert [(rule.low, rule.high) for rule in plan.normalization] == [(601, 1511)]


def spacing_and_stride_are_kept(plan, split):
    assert (plan.slice_spacing, plan.pixel_spacing, plan.stride) == (5.0, (1.0, 1.0), 2)


def ignored_voxels_and_the_fold_are_nnunets(plan, split):
    assert (plan.ignore, plan.classes) == (3, {0: "background", 1: "liver", 2: "tumor"})
    assert split["validation"] == ["a"]


def missing_modality_is_recorded(plan, split):
    assert plan.reasons["allow_missing_modality"] == "zeros replace the missing modalities of 1 cases"
    assert (split["validation"], split["test"]) == (["s3"], ["s4"])


KINDS = {
    bcv: bcv_is_as_in_the_paper,
    acdc: acdc_chooses_on_ten_patients_and_scores_twenty_others,
    msd: heart_is_cut_at_80_and_95_per_cent,
    msd_of_two_modalities: spacing_and_stride_are_kept,
    nnunet: ignored_voxels_and_the_fold_are_nnunets,
    own_folder: missing_modality_is_recorded,
}


PRESET_ON_ITS_DATASET = (bcv, acdc, msd)  # splits and presets have tests of their own


@pytest.mark.parametrize(
    "kind",
    [
        *(pytest.param(kind, marks=pytest.mark.long) for kind in PRESET_ON_ITS_DATASET),
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in (msd_of_two_modalities, nnunet)),
        own_folder,
    ],
)
def test_from_files_to_label_maps(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder, options, scan = kind(tmp_path / "data")
    assert main(["train", str(folder), "--run", "run", *options, *QUICK]) == 0, capsys.readouterr()
    plan, split = Plan.read(Path("run/plan.json")), json.loads(Path("run/split.json").read_text(encoding="utf-8"))
    KINDS[kind](plan, split)
    capsys.readouterr()
    assert main(["evaluate", "run", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    held_out = split["test"] or split["validation"]
    assert {row["case"] for row in document["scores"]} - {None} == set(held_out)
    for case in held_out:
        assert set(np.unique(read_labels(f"run/predictions/{case}.nii.gz").array)) <= set(plan.classes)
    if scan:
        assert main(["predict", "run", str(scan), "out"]) == 0
        (written,) = Path("out").glob("*.nii.gz")
        assert read_labels(written).shape == SHAPE
        assert np.array_equal(read_volume(written).affine, AFFINE)


@pytest.mark.slow
def test_a_run_that_ignores_a_value_is_evaluated_without_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder, _, _ = msd(tmp_path / "data")
    for path in (folder / "labelsTr").iterdir():
        labels = np.asarray(nibabel.Nifti1Image.load(path).dataobj).copy()
        labels[:, 12:, :] = 255
        save(path, labels)
    assert main(["train", str(folder), "--run", "run", *QUICK]) == 2
    assert "--ignore 255" in capsys.readouterr().err
    assert main(["train", str(folder), "--run", "run", "--ignore", "255", *QUICK]) == 0
    assert main(["evaluate", "run"]) == 0
    assert main(["evaluate", "run", "--json"]) == 0


@pytest.mark.slow
def test_missing_modality_without_leave(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder, _, _ = own_folder(tmp_path / "data")
    assert main(["prepare", str(folder)]) == 2
    printed = capsys.readouterr().err
    assert "s1" in printed and "T2" in printed and "--allow-missing-modality" in printed
    assert not Path("prepared").exists()


def test_split_that_there_is_not(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder, _, _ = nnunet(tmp_path / "data")
    assert main(["train", str(folder), "--split", "paper", *QUICK]) == 2
    assert "--split paper" in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.slow
def test_preset_of_another_dataset_meets_the_store(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder, _, _ = msd(tmp_path / "data")
    assert main(["prepare", str(folder), "--preset", "msd-task02"]) == 0
    assert main(["train", str(folder), "--preset", "msd-task04", *QUICK]) == 2
    assert "prepared with other options" in capsys.readouterr().err
