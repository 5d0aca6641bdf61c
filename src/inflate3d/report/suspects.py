"""The page of label maps to check: their ranking, and pictures of the first."""

from __future__ import annotations

from pathlib import Path

from inflate3d.annotation.suspects import Suspect, Suspects
from inflate3d.atomic import write_text
from inflate3d.evaluation.tables import show
from inflate3d.io import read_images
from inflate3d.report.cases import CasePictures, draw_case
from inflate3d.report.drawing import check_replaceable, class_color
from inflate3d.report.page import ERROR_NAMES, write_figures
from inflate3d.report.pages import render, script
from inflate3d.report.slices import ERRORS, MISSED
from inflate3d.run_folder import FoldsFolder, RunFolder

SLICES_SHOWN = 4


def write_suspects(
    suspects: Suspects, folder: RunFolder | FoldsFolder, *, pictures: int = 20, overwrite: bool = False
) -> Path:
    """Writes the folder ``suspects`` of a run: ``suspects.csv``, ``slices.csv``, ``suspects.html`` and pictures.

    Args:
        suspects: See `find_suspects`.
        pictures: Number of cases to draw.
        overwrite: Whether files that inflate3d did not write may be replaced.

    Returns:
        The page's file.
    """
    out, plan = folder.root / "suspects", suspects.plan
    page = out / "suspects.html"
    check_replaceable(page, overwrite=overwrite)
    drawn = [_draw(suspects, each) for each in suspects.ranked[:pictures]]
    names = plan.value_names
    text = render(
        "suspects.html.jinja",
        title=f"{plan.dataset}: label maps to check",
        suspects=suspects,
        folds=len(folder.runs),
        names=[f"Dice {name}" for name in names],
        classes=[(name, class_color(number)) for number, name in enumerate(names, start=1)],
        errors=[(ERRORS[number], name) for number, name in (ERROR_NAMES | {MISSED: "labeled, not predicted"}).items()],
        pictures=drawn,
        show=show,
        scripts=[script("sort.js")],
    )
    write_figures(out, {}, drawn, overwrite)
    write_text(out / "slices.csv", suspects.slice_table().to_csv())
    write_text(out / "suspects.csv", suspects.table().to_csv())
    write_text(page, text)
    return page


def _draw(suspects: Suspects, suspect: Suspect) -> CasePictures:
    case = suspect.case
    return draw_case(
        case,
        f"rank {suspect.rank}",
        read_images(case.images, case=case.id),
        suspect.prediction,
        suspects.plan,
        mean=suspects.in_words(suspect),
        slices=suspect.worst_slices(SLICES_SHOWN),
    )
