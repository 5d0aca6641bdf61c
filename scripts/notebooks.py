"""Runs the notebooks and writes their outputs into them: ``python scripts/notebooks.py [NAME ...]``.

Their text and code are edited in ``notebooks/*.ipynb``. They run on generated scans, in an empty folder.
"""

import base64
import io
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

WIDTH = 500
_COLORS = re.compile(r"\x1b\[[0-9;]*m")
FOLDER = Path(__file__).parents[1] / "notebooks"


def run(path: Path) -> None:
    """Runs a notebook and writes it with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": folder}}).execute()
    shorten(notebook)
    nbformat.write(notebook, path)


def shorten(notebook: nbformat.NotebookNode) -> None:
    """Keeps what a reader needs."""
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for cell in notebook.cells:
        cell.metadata = {}
        _join(cell)
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                output.name, output.text = "stdout", _COLORS.sub("", output.text)
            elif "image/png" in output.get("data", {}):
                output.data = {"image/png": _small(output.data["image/png"])}


def _small(picture: str) -> str:
    """A picture of fewer pixels and colors."""
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    image.thumbnail((WIDTH, 2 * WIDTH))
    written = io.BytesIO()
    image.quantize(64, Image.Quantize.MAXCOVERAGE).save(written, "PNG", optimize=True)
    return base64.b64encode(written.getvalue()).decode()


def _join(cell: nbformat.NotebookNode) -> None:
    """Makes one output of a stream that arrived in parts."""
    streams = [output for output in cell.get("outputs", []) if output.output_type == "stream"]
    if streams:
        streams[0].text = "".join(output.text for output in streams)
        cell.outputs = [output for output in cell.outputs if output.output_type != "stream" or output is streams[0]]


if __name__ == "__main__":
    os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"  # without ipywidgets
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for each in sorted(FOLDER.glob("*.ipynb")):
        if not sys.argv[1:] or each.stem in sys.argv[1:]:
            run(each)
            print(each.relative_to(FOLDER.parent))
