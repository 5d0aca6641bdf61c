"""Draws docs/images/cheaper.svg: what a cheaper network or a cheaper prediction costs in Dice.

    python scripts/cost_figure.py

The points are in docs/images/cheaper.csv: time of prediction in multiples of the default's, and the difference in mean
Dice with its interval. docs/performance.md says how they were measured.
"""

import csv
from pathlib import Path

import matplotlib

IMAGES = Path(__file__).parents[1] / "docs/images"
COLOURS = {"default": "#5d656e", "image": "#d55e00", "decoder": "#009e73", "every": "#0072b2"}
"""By the first word of a choice."""

PLACES = {"default": (8, -3), "decoder": (6, -13)}
"""Where its label stands in place of right above, in points."""


def main() -> None:
    from matplotlib import pyplot

    matplotlib.rcParams.update({"svg.hashsalt": "inflate3d", "svg.fonttype": "none", "font.size": 9})
    matplotlib.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
    with (IMAGES / "cheaper.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    data = list(dict.fromkeys(row["data"] for row in rows))
    figure, panels = pyplot.subplots(1, len(data), figsize=(9, 3.6), layout="constrained", sharex=True)
    for panel, name in zip(panels, data, strict=True):
        panel.axhline(0, color="#c8cdd3", linewidth=1, zorder=0)
        for row in (row for row in rows if row["data"] == name):
            time, dice, low, high = (float(row[key]) for key in ("time", "dice", "low", "high"))
            kind = row["choice"].split()[0]
            colour, place = COLOURS[kind], PLACES.get(kind, (6, 5))
            panel.errorbar(time, dice, [[dice - low], [high - dice]], fmt="o", markersize=5, color=colour, capsize=2)
            panel.annotate(row["choice"], (time, dice), place, textcoords="offset points", color=colour, fontsize=8)
        panel.set(
            title=name, xlabel="time of prediction, default = 1", ylabel="Dice less the default's", xlim=(0.3, 2.4)
        )
    figure.savefig(IMAGES / "cheaper.svg", metadata={"Date": None})
    print(IMAGES / "cheaper.svg")


if __name__ == "__main__":
    main()
