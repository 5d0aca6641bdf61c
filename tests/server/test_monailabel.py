"""MONAI Label's own client drives the whole loop against a server in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from inflate3d.io import read_labels, read_volume

from .conftest import nifti
from .processes import running_server

LOOP = Path(__file__).parent / "monailabel_loop.py"
CLIENT = Path(__file__).parents[2] / ".venv" / "monailabel"
"""Where `make test` installs it, without what it depends on."""


@pytest.mark.slow
@pytest.mark.skipif(not CLIENT.is_dir(), reason="MONAI Label's client is not installed; `make test` does it")
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="MONAI Label's client needs the module cgi of Python 3.12")
def test_loop_of_monai_labels_client(toys, drawn):
    (toys / "drawn.nii.gz").write_bytes(nifti(drawn))
    (toys / "received").mkdir()
    with running_server(toys) as (address, _):
        loop = [sys.executable, "-W", "ignore", str(LOOP), address, "drawn.nii.gz", "received"]
        environment = {**os.environ, "PYTHONPATH": str(CLIENT)}
        done = subprocess.run(loop, cwd=toys, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads((toys / "received/seen.json").read_text(encoding="utf-8"))
    case = seen["sample"]["id"]
    assert seen["info"] == {"labels": ["liver", "tumor"], "models": [], "auth": False}
    assert case in {"toy2", "toy3", "toy4"} and Path(seen["sample"]["path"]) == toys / f"scans/{case}.nii.gz"
    assert seen["saved"] == {"image": case, "label": case, "tag": "final", "version": 1}
    assert seen["uploaded"] == {"image": "uploaded"}
    assert seen["started"]["status"] == "RUNNING"
    result = seen["trained"]["result"]
    assert seen["trained"]["status"] == "DONE" and result["in_service"] and result["training_cases"] == 2
    assert seen["infer"]["params"]["model_version"] == 1
    predicted = read_volume(toys / seen["infer"]["file"])
    assert predicted.grid == read_volume(toys / f"scans/{case}.nii.gz").grid
    assert np.array_equal(read_volume(toys / seen["session"]["file"]).array, predicted.array)
    assert np.array_equal(read_labels(toys / seen["downloaded"]).array[0], drawn)
    assert set(seen["datastore"]) == {"final", "predicted", "original"}  # the prediction is beside what was saved
    stored = read_labels(toys / f"annotations/Toys/labels/{case}/0001.nii.gz").array[0]
    assert np.array_equal(stored, np.array([0, 2, 5])[drawn])
    assert seen["stopped"] is None
