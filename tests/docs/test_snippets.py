"""Every command and snippet of the pages, and every example of a public name, runs on generated data.

Commands of a block after ``<!-- not run: REASON -->`` are only parsed, and so are those that another page has run.
"""

import doctest
import importlib
import inspect
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import inflate3d
from inflate3d.cli import COMMANDS, main
from inflate3d.cli.parsing import parse_options

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
PARSED_ONLY = {
    "results.md": "what was measured, by trainings of minutes to hours",
    "reproduce.md": "what was measured, by trainings of hours to days",
    "performance.md": "what was measured, by the benchmarks",
    "batch-prediction.md": "it needs clusters and object stores; tests/distributed runs what one machine can",
}
"""Pages of which no command is run, and why."""

RUN_ONCE = ("encoders", "flops", "prepare", "verify", "view", "weights")
"""Commands on whose files no other one of a page depends."""

_NOT_RUN = re.compile(r"<!-- not run: (.+?) -->")
_INLINE = re.compile(r"`inflate3d ([^`]+)`")
_SHELL = ("inflate3d", "python", "pip", "curl", "tar", "torchrun", "ssh", "nnUNetv2_plan_and_preprocess")
_ENVIRONMENT = re.compile(r"[A-Z_]+=\S*")


@dataclass(frozen=True)
class Snippet:
    """A block of a page.

    Attributes:
        line: Where it begins, from 1 on.
        language: As the fence names it; ``bash`` or ``text`` for an indented block.
        text: What stands in it.
        not_run: Why it is not run; empty if it is.
    """

    line: int
    language: str
    text: str
    not_run: str = ""

    def commands(self) -> Iterator[list[str]]:
        """The words of each shell command, without comments and settings of the environment."""
        for line in self.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and _ENVIRONMENT.fullmatch(words[0]):
                del words[0]
            if words:
                yield words


def snippets_of(page: str) -> Iterator[Snippet]:
    """The blocks of a page, fenced and indented."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    reason, index = "", 0
    while index < len(lines):
        start, line = index, lines[index]
        index += 1
        if comment := _NOT_RUN.fullmatch(line.strip()):
            reason = comment[1]
        elif line.lstrip().startswith("```"):
            while not lines[index].lstrip().startswith("```"):
                index += 1
            body = "\n".join(lines[start + 1 : index])
            index += 1
            yield Snippet(start + 1, line.strip("` "), body, reason)
            reason = ""
        elif line.startswith("    ") and not lines[start - 1].strip():
            while index < len(lines) and (lines[index].startswith("    ") or not lines[index].strip()):
                index += 1
            body = "\n".join(each[4:] for each in lines[start:index])
            yield Snippet(start + 1, _guessed(body), body, reason)
            reason = ""
        elif line.strip():
            reason = ""


def _guessed(text: str) -> str:
    """Whether an indented block holds commands, or is a formula, a tree of files, a piece of prose."""
    for line in text.splitlines():
        if _ENVIRONMENT.sub("", line, count=1).strip().startswith(_SHELL):
            return "bash"
    return "text"


def inflate3d_words(words: list[str]) -> list[str] | None:
    """What stands behind ``inflate3d`` in a command, a launcher's too; none if it is another's."""
    if "inflate3d" not in words:
        return None
    behind = words[words.index("inflate3d") + 1 :]
    return behind[: next((index for index, word in enumerate(behind) if word in (";", "&&", "|")), len(behind))]


def parse(words: list[str]) -> None:
    """Reads a command's options as the command line does, without running it."""
    assert words[0] in COMMANDS, words
    parse_options(importlib.import_module(f"inflate3d.cli.{words[0].replace('-', '_')}"), words[0], words[1:])


def run(words: list[str], quick: list[str]) -> None:
    """Runs a command: a training short, of two folds, into an empty folder; checks without processes of their own."""
    if words[0] == "train":
        if "--resume" not in words:
            chosen = words[words.index("--run") + 1] if "--run" in words else f"runs/{Path(words[1]).name}"
            shutil.rmtree(chosen, ignore_errors=True)
        folds = ["--num-folds", "2"] if "--folds" in words and "--num-folds" not in words else []
        words = [*words, *folds, *quick]
    elif words[0] in ("verify", "prepare"):
        words = [*words, "--jobs", "1"]
    elif words[0] == "init":
        (Path(words[1]) / "dataset.json").unlink(missing_ok=True)  # else there is nothing to describe
    assert main(words) == 0, " ".join(words)


@pytest.fixture(scope="module")
def done() -> set[tuple[str, ...]]:
    """The commands that were run so far."""
    return set()


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page(page, kitchen, quick, done):
    names: dict[str, object] = {"__name__": "snippet"}
    for snippet in snippets_of(page):
        place = f"{page}:{snippet.line}"
        if snippet.language == "bash":
            runs = not snippet.not_run and page not in PARSED_ONLY
            for words in snippet.commands():
                ours = inflate3d_words(words)
                assert ours is not None or not runs, f"{place} neither run nor marked as not run: {' '.join(words)}"
                if ours is not None:
                    print(place, *ours)
                    repeated = ours[0] in RUN_ONCE and tuple(ours) in done
                    run(ours, quick) if runs and not repeated else parse(_filled(ours))
                    done.add(tuple(ours) if runs else ())
        elif snippet.language == "python":
            exec(compile(snippet.text, place, "exec"), names)
        elif snippet.language == "yaml":
            assert yaml.safe_load(snippet.text), place
        elif snippet.language == "json":
            assert json.loads(snippet.text), place


MODEL = "--encoder vit_small_patch14_dinov2 --weights WEIGHTS --image-size 112 112 --precision bf16-mixed"
"""What results.md calls MODEL."""

MODEL84 = MODEL.replace("112 112", "84 84")


def _filled(words: list[str]) -> list[str]:
    return shlex.split(shlex.join(words).replace("MODEL84", MODEL84).replace("MODEL", MODEL).replace("...", ""))


@pytest.mark.parametrize("page", PAGES)
def test_options_of_commands_within_the_text(page, capsys):
    for text in _INLINE.findall((DOCS / page).read_text(encoding="utf-8")):
        command, *words = shlex.split(text)
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        if command != "COMMAND" and options:
            assert options <= _options_of(command, capsys), (page, text)


def _options_of(command: str, capsys) -> set[str]:
    with pytest.raises(SystemExit):
        main([command, "--help-all"])
    return {"--help-all", *re.findall(r"--[\w-]+", capsys.readouterr().out)}


def test_a_renamed_option_would_be_noticed():
    with pytest.raises(Exception, match="--stepz"):
        parse(["train", "data/Liver", "--stepz", "5"])


def test_blocks_are_found():
    found = list(snippets_of("tutorial.md"))
    assert [snippet.language for snippet in found].count("bash") == 8
    assert [words[:2] for words in found[2].commands()] == [["inflate3d", "view"]]
    assert found[0].not_run == "it installs"


@pytest.mark.slow
@pytest.mark.parametrize("name", inflate3d.__all__)
def test_example_of_a_public_name(name, kitchen):
    """In a folder with scan.nii.gz, label.nii.gz, data/Liver and runs/Liver (see conftest.py)."""
    item = getattr(inflate3d, name)
    text = inspect.getdoc(item) or ""
    names = {**vars(sys.modules[item.__module__]), "i3d": inflate3d, "np": np, "torch": torch}
    test = doctest.DocTestParser().get_doctest(text, names, name, None, None)
    assert test.examples, f"{name} has no example"
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    report: list[str] = []
    result = doctest.DocTestRunner(optionflags=flags).run(test, out=report.append)
    assert not result.failed, "".join(report)
