import json
import os
import signal
import subprocess
import sys
from urllib.request import urlopen

import nibabel
import numpy as np
import pytest
import SimpleITK
from matplotlib import image as matplotlib_image

from inflate3d.cli import main


@pytest.fixture
def toys(write_toys, tmp_path, monkeypatch):
    dataset = write_toys(tmp_path / "Toys", 1)
    monkeypatch.chdir(tmp_path)
    return dataset


def test_sheet_is_written_into_the_working_folder(toys, tmp_path, capsys):
    case = toys.cases[0]
    assert main(["view", str(case.scan), str(case.label), "--names", str(toys.root), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["picture"] == "toy0-view.png"
    assert list(document["milliliters"]["toy0.nii.gz"]) == ["liver", "tumor"]
    assert document["milliliters"]["toy0.nii.gz"]["tumor"] == pytest.approx(2 * 3 * 3 * 3 / 1000)
    assert matplotlib_image.imread(tmp_path / "toy0-view.png").shape[1] > 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Toys", "toy0-view.png"]


def test_files_beside_a_dicom_series_are_named(write_series, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_series(tmp_path / "series", np.zeros((3, 6, 7), np.int16))
    (tmp_path / "series" / "other.nii.gz").write_bytes(b"never read")
    assert main(["view", "series"]) == 0
    assert "note: files beside the series are not read: other.nii.gz" in capsys.readouterr().err


def test_other_formats(toys, tmp_path):
    scan = SimpleITK.ReadImage(str(toys.cases[0].scan))
    SimpleITK.WriteImage(scan, str(tmp_path / "scan.nrrd"))
    assert main(["view", "scan.nrrd", "--out", "pictures/sheet.png", "--slices", "2"]) == 0
    assert (tmp_path / "pictures/sheet.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--modality", "2"], "--modality 2"),
        (["--out", "sheet.pdf"], "a PNG file"),
        (["--slices", "0"], "slices"),
        (["other.nii.gz"], "differ in shape"),
        (["missing.nii.gz"], "missing"),
        (["--names", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_reported_and_nothing_is_written(toys, tmp_path, capsys, words, message):
    nibabel.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4)).to_filename(tmp_path / "other.nii.gz")
    words = [str(toys.cases[0].label) if word == "LABEL" else word for word in words]
    assert main(["view", str(toys.cases[0].scan), *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*.png"))


@pytest.fixture
def ctrl_c():
    """Has Ctrl-C heard: where the tests run in the background it is ignored, and other processes inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_page_is_served_until_ctrl_c(toys, tmp_path, ctrl_c):
    case = toys.cases[0]
    words = ["-m", "inflate3d", "view", str(case.scan), str(case.label), "--browser"]
    quiet = os.environ | {"BROWSER": "true"}  # a browser that shows nothing
    process = subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=quiet)
    try:
        assert process.stderr is not None
        address = process.stderr.readline().split()[-1]
        with urlopen(address + "page/cases/0/scan/0", timeout=20) as answer:
            assert answer.read(2) == b"\x1f\x8b"
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_picture_of_others_is_kept(toys, tmp_path):
    file = tmp_path / "toy0-view.png"
    file.write_bytes(b"mine")
    words = ["view", str(toys.cases[0].scan), "--slices", "1"]
    assert main(words) == 2
    assert file.read_bytes() == b"mine"
    assert main([*words, "--overwrite"]) == 0
    assert main(words) == 0  # ours is replaced
    assert file.read_bytes() != b"mine"
