"""Mutated files of every format are read or refused, by the script that does so for hundreds of thousands at night."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inflate3d.config import RunConfig
from inflate3d.datasets.layouts import read_dataset
from inflate3d.datasets.splits import Split
from inflate3d.errors import Inflate3dError
from inflate3d.evaluation.scores import Scores
from inflate3d.preparation.plan import Plan

ROOT = Path(__file__).parents[2]

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
LISTINGS = st.fixed_dictionaries(
    {},
    optional={
        "name": VALUES,
        "modality": st.dictionaries(st.sampled_from(["0", "1", "x"]), VALUES, max_size=2) | VALUES,
        "labels": st.dictionaries(st.sampled_from(["0", "1", "background"]), VALUES, max_size=3) | VALUES,
        "training": st.lists(st.fixed_dictionaries({"image": VALUES, "label": VALUES}), max_size=3) | VALUES,
        "channel_names": VALUES,
        "file_ending": VALUES,
    },
)
READERS = {
    "dataset.json": lambda file: read_dataset(file.parent),
    "split.json": Split.read,
    "plan.json": Plan.read,
    "config.yaml": RunConfig.read,
    "scores.json": lambda file: Scores.read(file.parent),
}


@pytest.mark.parametrize(
    "formats",
    [
        pytest.param((), marks=pytest.mark.slow, id="all"),
        pytest.param(("--formats", "dicom-objects"), marks=pytest.mark.long, id="SEG, RTSTRUCT and frames"),
    ],
)
def test_mutated_files(tmp_path, formats):
    command = [sys.executable, ROOT / "scripts" / "fuzz.py", "--files", "2000", "--keep", tmp_path, *formats]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(document=VALUES | LISTINGS)
def test_any_document_is_read_or_refused(tmp_path, name, document):
    file = tmp_path / name
    file.write_text(json.dumps(document), encoding="utf-8", errors="surrogatepass")
    try:
        READERS[name](file)
    except Inflate3dError as error:
        assert str(error).isprintable() or "\n" in str(error)
