"""A process that runs commands and kills them, and small data to run them on."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from inflate3d.run_folder import RunFolder

NETWORK = [
    "--encoder", "resnet10t", "--weights", "none", "--depth", "3", "--image-size", "32", "32",
    "--decoder-channels", "8", "--detail-channels", "4", "--batch-size", "2", "--validation-cases", "1",
    "--accelerator", "cpu", "--workers", "0",
]  # fmt: skip
"""Options of the smallest training that does all that a training does."""


@pytest.fixture(scope="session")
def network() -> list[str]:
    """Options of the smallest training."""
    return NETWORK


class Ended(NamedTuple):
    """How a command ended; the touches of its folder are known where it was not killed."""

    code: int
    seconds: float
    touches: int
    said: str

    @property
    def killed(self) -> bool:
        return self.code == -9


class Zygote:
    """Runs commands, each in a fork of a process that has imported everything already."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self.process, self.log = process, log

    def run(
        self,
        *words: object,
        folder: Path,
        seconds: float | None = None,
        touch: int | None = None,
        number: int = signal.SIGKILL,
        largest: int | None = None,
    ) -> Ended:
        """Runs a command of the command line; see `zygote.py`."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.log.unlink(missing_ok=True)
        order: dict[str, Any] = {"arguments": [str(word) for word in words], "log": str(self.log)}
        order |= {"folder": str(folder), "seconds": seconds, "touch": touch, "number": int(number), "largest": largest}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return Ended(**json.loads(self.process.stdout.readline()), said=self.log.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def zygote(tmp_path_factory) -> Iterator[Zygote]:
    """One for all tests: importing everything takes seconds."""
    folder = tmp_path_factory.mktemp("zygote")
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("zygote.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        yield Zygote(process, folder / "log.txt")
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="session")
def toys(write_toys, tmp_path_factory):
    """Five tiny CT scans."""
    return write_toys(tmp_path_factory.mktemp("toys"), cases=5)


@pytest.fixture(scope="session")
def toy_store(zygote, toys, tmp_path_factory) -> Path:
    """Prepared by an undisturbed command."""
    store = tmp_path_factory.mktemp("prepared") / "store"
    ended = zygote.run("prepare", toys.root, "--store", store, "--jobs", 1, folder=store)
    assert ended.code == 0, ended.said
    return store


@pytest.fixture(scope="session")
def train_words(toys, toy_store) -> list[object]:
    """The command of a short training, without its run."""
    return ["train", toys.root, "--store", toy_store, *NETWORK, "--steps", 6, "--validate-every", 2]


@pytest.fixture(scope="session")
def toy_run(zygote, train_words, tmp_path_factory) -> RunFolder:
    """Trained by an undisturbed command, not to be changed."""
    run = tmp_path_factory.mktemp("trained") / "run"
    ended = zygote.run(*train_words, "--run", run, folder=run)
    assert ended.code == 0, ended.said
    return RunFolder(run)
