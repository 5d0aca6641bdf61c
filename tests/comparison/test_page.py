"""The page of a comparison: its numbers, its links, what it may load, and how a real browser shows it."""

import base64
import html
import json
import re
import shutil
from dataclasses import replace

import pytest
from PIL import Image

from inflate3d.errors import ConfigError
from inflate3d.report.comparison import list_runs, write_comparison_page

FRAME = """<!doctype html><body style="margin:0"><iframe src="{page}" width="{width}" height="900"
style="border:0;display:block"></iframe><script>
document.querySelector("iframe").onload = (event) => {{
  const page = event.target.contentDocument, view = event.target.contentWindow;
  const wide = [...page.querySelectorAll("body *")].filter((each) => !each.closest(".scroll, .wide")
    && each.getBoundingClientRect().right > {width} + 1).map((each) => each.outerHTML.slice(0, 80));
  const column = (table, at) => [...table.tBodies[0].rows].map((row) => row.cells[at].dataset.value);
  const sorted = [...page.querySelectorAll("table.sortable")].map((table) =>
    [...table.tHead.rows[0].cells].slice(1).map((head, at) => {{
      head.firstElementChild.click();
      return column(table, at + 1);
    }}));
  const seen = {{ width: page.documentElement.scrollWidth, wide, sorted,
    broken: [...page.images].filter((each) => each.complete && !each.naturalWidth).length,
    loaded: view.performance.getEntriesByType("resource").map((each) => each.name)
      .filter((name) => !name.startsWith("data:")) }};
  document.body.append(Object.assign(document.createElement("pre"), {{ textContent: JSON.stringify(seen) }}));
}};
</script>"""


@pytest.fixture
def page(compared):
    return compared[1] / "report.html"


@pytest.fixture
def root(compared, tmp_path):
    """The comparison's folder, to be changed at will."""
    return shutil.copytree(compared[1], tmp_path / "comparison")


@pytest.fixture
def comparison(compared):
    return compared[0]


@pytest.fixture
def undrawn(monkeypatch):
    """Plots are not drawn."""
    monkeypatch.setattr("inflate3d.report.comparison.plot_pictures", lambda *_: {"comparison": b""})


def tables(page):
    """Each table's rows: a cell's text, and what it is sorted by."""
    text = page.read_text(encoding="utf-8")
    found = []
    for table in re.findall(r"<tbody>(.*?)</tbody>", text, re.DOTALL):
        rows = [re.findall(r'<td(?: data-value="([^"]*)")?>(.*?)</td>', row) for row in table.split("</tr>")[:-1]]
        found.append([[(html.unescape(re.sub("<[^>]*>", "", shown)), value) for value, shown in row] for row in rows])
    return found


def words(page):
    return " ".join(
        html.unescape(re.sub(r"<[^>]*>", " ", page.read_text(encoding="utf-8").split("</head>")[1])).split()
    )


def test_figures_are_those_of_the_comparison(page, comparison):
    quality, classes, cost = tables(page)
    rows = comparison.rows
    assert len(quality) == len(classes) == len(rows) == 4
    for cells, by_class, row in zip(quality, classes, rows, strict=True):
        assert [text for text, _ in cells[:2]] == [row.arm, str(row.training_cases)]
        dice, found = row.dice, row.difference
        assert cells[2] == (f"{dice.value:.4f} ({dice.low:.4f} to {dice.high:.4f})", str(dice.value))
        assert cells[3] == (f"{row.seed_deviation:.4f}", str(row.seed_deviation))
        if found:
            value, low, high = found.dice.value, found.dice.low, found.dice.high
            assert cells[4] == (f"{value:+.4f} ({low:+.4f} to {high:+.4f})", str(value))
            assert cells[5] == (f"{found.better} of 11", str(found.better))
            assert [float(value) for _, value in cells[6:8]] == [found.p_holm, found.wilcoxon_p]
        else:
            assert cells[4:8] == [("–", "n/a")] * 4
        assert [float(value) for _, value in cells[8:]] == [row.hd95, row.nsd, row.micro_dice]
        assert [float(value) for _, value in by_class[2:]] == list(row.dice_of_classes.values())
    for cells, row in zip(cost, rows[2:], strict=True):
        size = row.cost.network
        times = row.cost.training_seconds, row.cost.other_seconds, row.cost.prediction_seconds
        assert [float(value) for _, value in cells[1:6]] == [size.parameters, size.flops, *times]
        assert cells[6:] == [("–", "n/a"), (row.cost.device, "n/a")]


def test_words_state_what_was_compared(page):
    text = words(page)
    assert "Toys: 2 methods compared" in text
    assert "each was trained on 2 and 4 cases with seeds 0, 1, and scored on the same 12 cases" in text
    assert "one-slice depth 1 in place of 3" in text
    assert "intervals are over cases and seeds" in text


def test_runs_that_have_a_page_are_linked_to(page, comparison, root, undrawn):
    assert "<a " not in page.read_text(encoding="utf-8")
    assert "gets one by inflate3d report RUN" in words(page)
    names = [run.name for run in list_runs(comparison, root)]
    assert names == [
        *("ours-2-cases", "ours-2-cases-seed-1", "one-slice-2-cases", "one-slice-2-cases-seed-1"),
        *("ours", "ours-seed-1", "one-slice", "one-slice-seed-1"),
    ]
    for name in names:
        (root / name / "report.html").write_text("a page")
    linked = write_comparison_page(comparison, root)
    links = re.findall(r'<a href="([^"]*)">([^<]*)</a>', linked.read_text(encoding="utf-8"))
    in_table, in_list = links[:4], links[4:]
    assert in_table == [(f"{name}/report.html", name.removesuffix("-2-cases")) for name in names[::2]]
    assert in_list == [(f"{name}/report.html", name) for name in names]
    assert all((root / address).is_file() for address, _ in links)
    assert "gets one by" not in words(linked)


def test_page_loads_nothing_from_elsewhere(page):
    text = page.read_text(encoding="utf-8")
    bare = re.sub(r"<script>.*?</script>|base64,[A-Za-z0-9+/=]*", "", text, flags=re.DOTALL)
    assert not re.search(r"https?:|//|@import|<script|<link|url\(", bare)
    assert set(re.findall(r'(?:src|srcset)="([^"]{5})', bare)) == {"data:"}
    assert "default-src 'none'" in html.unescape(bare)
    pictures = re.findall(r'"data:image/png;base64,([^"]*)"', text)
    assert len(set(pictures)) == 6  # three plots, each for light and dark
    assert all(base64.b64decode(picture, validate=True).startswith(b"\x89PNG") for picture in pictures)


def test_hostile_names_are_shown_as_text(comparison, root):
    evil = "<script>alert(1)<!--\"'$_{&"
    rows = tuple(
        replace(row, differs=evil, dice_of_classes={evil: 0.5, "b": 0.5}, cost=replace(row.cost, device=evil))
        for row in comparison.rows
    )
    page = write_comparison_page(replace(comparison, dataset=evil, rows=rows), root)
    assert evil not in page.read_text(encoding="utf-8")
    assert words(page).count(evil) == 1 + 2 + 1 + 2  # heading, both arms' words, a class, both arms' devices


def test_first_run_has_to_be_there(comparison, root, undrawn):
    (root / "ours" / "config.yaml").unlink()
    before = (root / "report.html").read_bytes()
    with pytest.raises(ConfigError):
        write_comparison_page(comparison, root)
    assert (root / "report.html").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_page_fits_the_screen_and_sorts(browse, page, tmp_path, width):
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(page=page.as_uri(), width=width))
    shown = browse(frame.as_uri(), picture=False, size=(max(width, 500), 900)).decode()
    found = re.search(r"<pre>(.*?)</pre>", shown, re.DOTALL)
    assert found, shown[-500:]
    seen = json.loads(html.unescape(found[1]))
    assert seen["width"] <= width
    assert seen["wide"] == seen["loaded"] == []
    assert seen["broken"] == 0
    assert [len(table) for table in seen["sorted"]] == [10, 3, 7]
    for table in seen["sorted"]:
        for column in table:
            known = [float(value) for value in column if value != "n/a"]
            assert known == sorted(known, reverse=True)
            assert column[len(known) :] == ["n/a"] * (len(column) - len(known))


@pytest.mark.slow
def test_screenshot_is_not_empty(browse, page, tmp_path):
    shot = tmp_path / "page.png"
    shot.write_bytes(browse(page.as_uri(), picture=True, size=(1280, 1600)))
    with Image.open(shot) as picture:
        assert len(picture.convert("RGB").getcolors(2**20) or []) > 200
