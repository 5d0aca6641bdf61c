"""The wording of messages is reviewed in one file, and some words are banned."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

BRITISH = (
    "behaviour analyse centre centred colour coloured favour flavour grey labelled labelling unlabelled licence"
    "metre millilitre modelled neighbour neighbouring normalise normalised normalisation optimise optimiser "
    "organise recognise summarise travelled artefact catalogue"
)
UNCLEAR = (
    "told|tells|doubts?|shortage|reckon(s|ed)?|lack of memory|there is no such|is there already|can't be used|"
    "can not be used|goes with|gone on with|goes on with|made up|so many|remed(y|ies)|data sets?"
)
PAGES = ("README.md", "CONTRIBUTING.md", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md")))
SOURCES = sorted(
    str(path.relative_to(ROOT)) for path in ROOT.glob("src/**/*") if path.suffix in (".py", ".jinja", ".yaml")
)


def find(pattern, text):
    return [match[0] for match in re.finditer(rf"\b({pattern})\b", text, re.IGNORECASE)]


def test_american_spelling():
    files = [*ROOT.glob("src/**/*.py"), *ROOT.glob("src/**/*.jinja"), *ROOT.glob("docs/**/*.md"), ROOT / "README.md"]
    found = {path.name: find("|".join(BRITISH.split()), path.read_text(encoding="utf-8")) for path in files}
    assert not {name: words for name, words in found.items() if words}


@pytest.mark.parametrize("page", [*PAGES, *SOURCES, "tests/messages.txt"])
def test_words_for_which_the_field_has_better_ones(page):
    """Such as print, invalid, not found, resume and dataset; in messages, what code computes does not count."""
    text = (ROOT / page).read_text(encoding="utf-8")
    while (bare := re.sub(r"{[^{}]*}", "", text)) != text:
        text = bare
    assert not find(UNCLEAR, text)


def test_messages_are_those_that_were_reviewed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    messages = importlib.import_module("messages")
    reviewed = (ROOT / "tests" / "messages.txt").read_text(encoding="utf-8").splitlines()
    now = messages.collect().splitlines()
    changed = [
        *(f"- {line}" for line in reviewed if line not in now),
        *(f"+ {line}" for line in now if line not in reviewed),
    ]
    assert reviewed == now, "\n".join(["read them, then run `python scripts/messages.py`:", *changed])
