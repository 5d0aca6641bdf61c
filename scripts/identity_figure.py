"""Draws docs/images/identities.svg: where inflation puts a stem's weight, and how exactly both identities hold.

    python scripts/identity_figure.py

Everything in it is computed: the weights by `inflate_stem`, the errors by `check_inflation`.
"""

from pathlib import Path

import matplotlib
import numpy as np
import torch

import inflate3d as i3d

DEPTH = 5
DEPTHS = (1, 3, 5)
BACKBONES = {
    "resnet10t": "ResNet-10t",
    "convnext_atto": "ConvNeXt-A",
    "vit_tiny_patch16_224": "ViT-Ti/16",
    "swin_tiny_patch4_window7_224": "Swin-T",
}
METHODS = ("center", "average")
COLORS = {"center": "#d55e00", "average": "#0072b2"}
TARGET = Path(__file__).parents[1] / "docs/images/identities.svg"


def tap_weights(method: str) -> np.ndarray:
    """The part of the gray kernel that each slice gets, ``(D,)``."""
    kernel = torch.rand(8, 3, 7, 7)
    inflated = i3d.inflate_stem(kernel, DEPTH, 1, method)
    return (inflated.sum((0, 1, 3, 4)) / kernel.sum()).numpy()


def identity_errors() -> dict[str, dict[str, list[float]]]:
    """For each method and backbone the largest relative error of any feature map, at each depth."""
    errors: dict[str, dict[str, list[float]]] = {method: {name: [] for name in BACKBONES} for method in METHODS}
    for name in BACKBONES:
        for depth in DEPTHS:
            for method, error in i3d.check_inflation(name, depth=depth).errors.items():
                errors[method][name].append(error)
    return errors


def main() -> None:
    from matplotlib import pyplot

    matplotlib.rcParams.update(
        {"svg.hashsalt": "inflate3d", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False}
    )
    matplotlib.rcParams["axes.spines.right"] = False
    torch.manual_seed(0)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for shift, method in zip((-0.2, 0.2), METHODS, strict=True):
        left.bar(np.arange(DEPTH) + shift, tap_weights(method), 0.4, color=COLORS[method], label=method)
    left.set(xlabel="slice of the window", ylabel="part of the gray kernel", title="Where the stem's weight goes")
    left.set_xticks(range(DEPTH), ["-2", "-1", "center", "+1", "+2"])
    left.legend(frameon=False)

    errors = identity_errors()
    for shift, method in zip((-0.12, 0.12), METHODS, strict=True):
        for place, name in enumerate(BACKBONES):
            offsets = place + shift + 0.05 * (np.arange(len(DEPTHS)) - 1)
            right.plot(offsets, errors[method][name], "o", markersize=4, color=COLORS[method])
    right.axhline(np.finfo(np.float32).eps, color="#5d656e", linestyle=":", linewidth=1)
    right.set_yscale("log")
    right.set(ylim=(1e-8, 1e-4), ylabel="largest relative error", title="Inflated against 2D, all feature maps")
    right.set_xticks(range(len(BACKBONES)), BACKBONES.values())
    right.text(len(BACKBONES) - 0.5, np.finfo(np.float32).eps, "float32", ha="right", va="bottom", color="#5d656e")
    figure.savefig(TARGET, metadata={"Date": None})
    print(TARGET)


if __name__ == "__main__":
    main()
