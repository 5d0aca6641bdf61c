"""Draws docs/images/cheaper.svg: what a cheaper network or a cheaper prediction costs in Dice.

    python scripts/cost_figure.py

The points are in docs/images/cheaper.csv: time of prediction in multiples of the default's, and the difference in mean
Dice with its interval. docs/performance.md says how they were measured.
"""

import csv
from pathlib import Path

import matplotlib

IMAGES = Path(__file__).parents[1] / "docs/images"
STYLES = {
    "default": ("#5d656e", "o"),
    "image of 56×56": ("#d55e00", "v"),
    "image of 84×84": ("#d55e00", "<"),
    "image of 112×112": ("#d55e00", "^"),
    "decoder of 64 channels": ("#009e73", "D"),
    "every 2nd slice": ("#0072b2", "s"),
    "every 3rd slice": ("#0072b2", "p"),
    "every 4th slice": ("#0072b2", "*"),
}
"""Color and marker of each choice."""


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
            color, marker = STYLES[row["choice"]]
            ends = [[dice - low], [high - dice]]
            panel.errorbar(time, dice, ends, fmt=marker, color=color, capsize=2, label=row["choice"])
        panel.set(title=name, xlabel="time of prediction, default = 1", ylabel="Dice less the default's", xlim=(0.3, 2))
    shown = {label: bar for panel in panels for bar, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    names = [name for name in STYLES if name in shown]
    figure.legend([shown[name] for name in names], names, loc="outside right", frameon=False)
    figure.savefig(IMAGES / "cheaper.svg", metadata={"Date": None})
    print(IMAGES / "cheaper.svg")


if __name__ == "__main__":
    main()
