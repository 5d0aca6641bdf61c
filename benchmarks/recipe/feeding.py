"""The recipe's feeding: five-slice NIfTI files, changed one window at a time by MONAI's dictionary transforms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai import transforms

KEYS = ("image", "label")


def make_transform(size: tuple[int, int], values: tuple[float, float]) -> Any:
    """From two files' names to a window and its label.

    Args:
        size: Rows and columns of the model's input.
        values: What becomes 0 and 1.
    """
    low, high = values
    return transforms.Compose(
        [
            transforms.LoadImaged(KEYS),
            transforms.EnsureChannelFirstd(KEYS),
            transforms.ScaleIntensityRanged("image", low, high, 0.0, 1.0, clip=True),
            transforms.RandZoomd(
                KEYS,
                prob=1.0,
                min_zoom=(0.5, 0.5, 1.0),
                max_zoom=(2.0, 2.0, 1.0),
                mode=("trilinear", "nearest"),
                keep_size=False,
            ),
            transforms.ResizeWithPadOrCropd(KEYS, (*size, -1)),
            transforms.RandFlipd(KEYS, prob=0.1, spatial_axis=0),
            transforms.RandFlipd(KEYS, prob=0.1, spatial_axis=1),
            transforms.RandRotate90d(KEYS, prob=0.1, max_k=3),
            transforms.RandShiftIntensityd("image", offsets=0.1, prob=0.5),
        ]
    )


def list_windows(folder: Path) -> list[dict[str, str]]:
    """The windows that the recipe's preparation wrote."""
    names = sorted(path.name for path in (folder / "images").iterdir())
    return [{"image": str(folder / "images" / name), "label": str(folder / "labels" / name)} for name in names]
