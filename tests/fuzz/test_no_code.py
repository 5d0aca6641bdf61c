"""No file that is read runs code: the pickles in these would make a file, and it is not there afterwards."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import inflate3d
from inflate3d.errors import ModelError
from inflate3d.models.weight_files import read_tensors

SOURCE = Path(inflate3d.__file__).parent


class Mine:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable, tuple]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("way", ["archive", "old", "pickle"])
def test_pickle_that_would_make_a_file(tmp_path, way):
    file, mine = tmp_path / "w.ckpt", tmp_path / "made"
    document = {"state_dict": {"w": torch.zeros(3)}, "hyper_parameters": Mine(mine)}
    if way == "pickle":
        file.write_bytes(pickle.dumps(document))
    else:
        torch.save(document, file, _use_new_zipfile_serialization=way == "archive")
    with pytest.raises(ModelError):
        read_tensors(file)
    assert not mine.exists()
    torch.load(file, weights_only=False) if way == "archive" else None
    assert mine.exists() == (way == "archive")  # the mine does work


FORBIDDEN = {
    r"torch\.load\((?![^)]*weights_only=True)": "torch.load without weights_only",
    r"allow_pickle\s*=\s*True": "numpy's pickles",
    r"np\.load\(|pickle\.loads?\(|Unpickler\(|dill|joblib\.load": "pickles",
    r"yaml\.(load|unsafe_load|full_load)\(": "YAML that makes objects",
    r"(?<![\w.])(eval|exec)\(": "code from text",
}


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_source_has_no_loader_that_runs_code(pattern):
    found = [
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if re.search(pattern, path.read_text(encoding="utf-8"))
    ]
    assert found == [], FORBIDDEN[pattern]
