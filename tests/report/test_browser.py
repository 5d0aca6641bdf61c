"""The page as a real browser shows it."""

import json
import re

import pytest
from PIL import Image

FRAME = """<!doctype html><body style="margin:0"><iframe src="{page}" width="{width}" height="900"
style="border:0;display:block"></iframe><script>
document.querySelector("iframe").onload = (event) => {{
  const page = event.target.contentDocument, view = event.target.contentWindow, root = page.documentElement;
  const wide = [...page.querySelectorAll("body *")].filter((each) => !each.closest(".scroll, .wide")
    && each.getBoundingClientRect().right > {width} + 1).map((each) => each.outerHTML.slice(0, 80));
  const small = [...page.querySelectorAll("body *")].filter((each) => each.childElementCount === 0
    && each.textContent.trim() && parseFloat(view.getComputedStyle(each).fontSize) < 13).map((each) => each.outerHTML);
  const heads = [...page.querySelectorAll("table.sortable th button")];
  const column = (at) => [...page.querySelectorAll("table.sortable tbody tr")].map((row) => row.cells[at].textContent);
  const before = column(1);
  heads[1].click();
  const falling = column(1), sort = heads[1].parentElement.ariaSort;
  heads[1].click();
  const found = {{ width: root.scrollWidth, wide, small, before, falling, rising: column(1), sort,
    loaded: view.performance.getEntriesByType("resource").map((each) => each.name)
      .filter((name) => !name.startsWith("data:")),
    pictures: [...page.images].filter((each) => each.complete && !each.naturalWidth).length }};
  document.body.append(Object.assign(document.createElement("pre"), {{ textContent: JSON.stringify(found) }}));
}};
</script>"""


def look(browse, page, width):
    frame = page.with_name("frame.html")
    frame.write_text(FRAME.format(page=page.name, width=width))
    shown = browse(frame.as_uri(), picture=False, size=(max(width, 500), 900)).decode()
    found = re.search(r"<pre>(.*?)</pre>", shown, re.DOTALL)
    assert found, shown[-500:]
    return json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_page_fits_the_screen_can_be_read_and_sorts(browse, written, width):
    seen = look(browse, written.folder.report, width)
    assert seen["width"] <= width
    assert seen["wide"] == seen["small"] == seen["loaded"] == []
    assert seen["pictures"] == 0
    assert seen["falling"] == sorted(seen["before"], reverse=True)
    assert seen["rising"] == sorted(seen["before"])
    assert seen["sort"] == "descending"


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1280, 1600), (500, 1600)])
def test_screenshot_is_not_empty(browse, written, tmp_path, size):
    shot = tmp_path / "page.png"
    shot.write_bytes(browse(written.folder.report.as_uri(), picture=True, size=size))
    with Image.open(shot) as picture:
        assert picture.size[0] == size[0]
        assert len(picture.convert("RGB").getcolors(2**20) or []) > 500
