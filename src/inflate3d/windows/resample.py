"""From slices on their own pixel grid to the model's input size, with any in-plane transform, in one resampling.

A ``(2, 3)`` matrix takes a point of the output plane to a point of the slice. Both are in normalized coordinates
``(x, y)``: x along columns, y along rows, -1 and +1 at the outer edges of the first and the last pixel.

Where slices are shrunk, several points of each output pixel are sampled, so that none of the slice's own pixels is
skipped: their mean is the image, free of aliasing, and their class numbers are votes, from which a loss takes the
pixel's fraction of each class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float, Integer, Num
from torch import Tensor
from torch.nn import functional as F


def normalize(windows: Num[Tensor, "b c d h w"], ranges: Float[Tensor, "b c 2"]) -> Float[Tensor, "b c d h w"]:
    """Maps voxel values linearly so that ``ranges[..., 0]`` becomes 0 and ``ranges[..., 1]`` 1; clips beyond."""
    low, high = (ranges[:, :, end, None, None, None] for end in (0, 1))
    # one new array, and integers are floats before they are calculated with: both are what a CPU waits for
    return windows.to(torch.float32, copy=True).sub_(low).div_(high - low).clamp_(0, 1)


def normalize_and_resample(
    windows: Num[Tensor, "b c d h w"],
    ranges: Float[Tensor, "b c 2"],
    matrices: Float[Tensor, "b 2 3"],
    size: tuple[int, int],
    extents: Float[Tensor, "b 2"] | None = None,
) -> Float[Tensor, "b c d height width"]:
    """The same as :func:`normalize` followed by :func:`resample_windows`.

    On a CPU that takes half the time of the two: one window at a time stays in the processor's cache, and the memory
    that it takes is used again for the next.
    """
    if windows.device.type != "cpu":
        return resample_windows(normalize(windows, ranges), matrices, size, extents)
    resampled = torch.empty(*windows.shape[:3], *size)
    for row in range(len(windows)):
        one = slice(row, row + 1)
        normalized = normalize(windows[one], ranges[one])
        resampled[one] = resample_windows(normalized, matrices[one], size, None if extents is None else extents[one])
    return resampled


def field_sides(
    sides: Float[Tensor, "b 2"], size: tuple[int, int], pixel_spacing: tuple[float, float] | None
) -> Float[Tensor, "b 2"]:
    """Height and width in millimeters of the model's field of view, ``(B, 2)``.

    Without a pixel spacing that is the slice, whatever its size. With one it is the same for every slice, but a
    slice that is larger is scaled down until it fits: nothing of it is lost.

    Args:
        sides: Height and width of each slice in millimeters.
        size: ``(H, W)`` of the model's input.
        pixel_spacing: Millimeters between its rows and between its columns.
    """
    if pixel_spacing is None:
        return sides
    field = sides.new_tensor([size[0] * pixel_spacing[0], size[1] * pixel_spacing[1]])
    return field * (sides / field).amax(dim=1, keepdim=True).clamp(min=1)


def field_matrices(
    sides: Float[Tensor, "b 2"], fields: Float[Tensor, "b 2"], centers: Float[Tensor, "b 2"] | None = None
) -> Float[Tensor, "b 2 3"]:
    """The geometry that places a slice in its field of view, both in millimeters (see `field_sides`).

    Args:
        sides: Height and width of each slice.
        centers: The field's center in the slice (row, column), normalized; by default that of the slice.
    """
    scale = (fields / sides).flip(1)  # x first
    shift = torch.zeros_like(scale) if centers is None else centers.flip(1)
    return torch.cat([torch.diag_embed(scale), shift[..., None]], dim=-1)


def follow(first: Float[Tensor, "b 2 3"], then: Float[Tensor, "b 2 3"]) -> Float[Tensor, "b 2 3"]:
    """The product of two geometries: a point goes through ``first``, then through ``then``."""
    linear, shift = then[..., :2] @ first[..., :2], then[..., :2] @ first[..., 2:] + then[..., 2:]
    return torch.cat([linear, shift], dim=-1)


def own_pixels(
    shape: tuple[int, int], sides: Float[Tensor, "b 2"], fields: Float[Tensor, "b 2"]
) -> Float[Tensor, "b h w 2"]:
    """Positions of the slices' own pixels in the model's input, normalized.

    Args:
        sides: Height and width of each slice in millimeters.
    """
    return F.affine_grid(field_matrices(fields, sides), [len(sides), 1, *shape], align_corners=False)


def sample_logits(
    logits: Float[Tensor, "b k height width"], pixels: Float[Tensor, "b h w 2"]
) -> Float[Tensor, "b k h w"]:
    """Samples logits bilinearly at pixels, all of `own_pixels` or some of their rows."""
    return F.grid_sample(logits, pixels, mode="bilinear", padding_mode="border", align_corners=False)


def resample_windows(
    windows: Float[Tensor, "b c d h w"],
    matrices: Float[Tensor, "b 2 3"],
    size: tuple[int, int],
    extents: Float[Tensor, "b 2"] | None = None,
) -> Float[Tensor, "b c d height width"]:
    """Resamples windows in plane: bilinearly, and by the mean over each output pixel where they are shrunk.

    Outside the slice there is 0.

    Args:
        windows: ``(B, C, D, h, w)``.
        matrices: Geometry of each window, the same for all its slices.
        size: ``(H, W)`` of the result.
        extents: Rows and columns of each window that hold its slice, from the first on; the rest is padding.
            All of them if not given.
    """
    flat, shape = windows.flatten(1, 2), windows.shape[-2:]
    points = _points(matrices, size, extents, shape, _image_points)
    samples = (
        F.grid_sample(flat, grid, align_corners=False) for grid in _grids(matrices, size, extents, shape, points)
    )
    total = next(samples)
    for sample in samples:
        total += sample
    return total.div_(math.prod(points)).unflatten(1, windows.shape[1:3])


def resample_labels(
    labels: Integer[Tensor, "b *s h w"],
    matrices: Float[Tensor, "b 2 3"],
    size: tuple[int, int],
    extents: Float[Tensor, "b 2"] | None = None,
) -> Integer[Tensor, "b votes *s height width"]:
    """Samples class numbers with the same geometry as :func:`resample_windows`; outside the slice is background.

    Args:
        labels: One slice for each window, ``(B, h, w)``, or several, ``(B, S, h, w)``.
        matrices: Geometry of each window.
        size: ``(H, W)`` of the result.
        extents: See :func:`resample_windows`.

    Returns:
        ``(B, V, H, W)`` or ``(B, V, S, H, W)``: the classes at ``V`` points of each pixel, its middle alone where no
        slice is shrunk.
    """
    slices, shape = labels.reshape(len(labels), -1, *labels.shape[-2:]), labels.shape[-2:]
    points = _points(matrices, size, extents, shape, _label_points)
    votes = labels.new_empty(len(labels), math.prod(points), slices.shape[1], *size)
    step = 1 if labels.device.type == "cpu" else len(labels)  # one window at a time stays in a processor's cache
    for first in range(0, len(labels), step):
        part = slice(first, first + step)
        some = slices[part].float()
        grids = _grids(matrices[part], size, None if extents is None else extents[part], shape, points)
        for point, grid in enumerate(grids):
            votes[part, point] = F.grid_sample(some, grid, mode="nearest", align_corners=False)
    return votes.reshape(*votes.shape[:2], *labels.shape[1:-2], *size)


def inside_slices(matrices: Float[Tensor, "b 2 3"], size: tuple[int, int]) -> Bool[Tensor, "b height width"]:
    """Which pixels of the model's input have their center inside the slice.

    Args:
        matrices: Geometry of each window.
        size: ``(H, W)`` of the input.
    """
    return (_middles(matrices, size).abs() <= 1).all(-1)


def _image_points(step: float) -> int:
    """Number of points to sample along an output pixel that spans ``step`` input pixels.

    Bilinear interpolation is a mean over nearly two pixels by itself.
    """
    return max(1, math.ceil(step / 1.4 - 1e-3))


def _label_points(step: float) -> int:
    """The same for class numbers, which are those of single pixels."""
    return 1 if step < 1.1 else math.ceil(step - 1e-3)


def _points(
    matrices: Float[Tensor, "b 2 3"],
    size: tuple[int, int],
    extents: Float[Tensor, "b 2"] | None,
    padded: tuple[int, ...],
    count: Callable[[float], int],
) -> tuple[int, int]:
    """Number of points to sample along the rows and columns of each output pixel; the maximum over all windows."""
    sides = [padded] * len(matrices) if extents is None else extents.tolist()
    windows = list(zip(matrices.tolist(), sides, strict=True))
    across, down = (
        max(math.hypot(x[axis] * columns, y[axis] * rows) for (x, y), (rows, columns) in windows) / pixels
        for axis, pixels in enumerate(size[::-1])
    )  # input pixels from one output pixel to the next
    return count(across), count(down)


def _grids(
    matrices: Float[Tensor, "b 2 3"],
    size: tuple[int, int],
    extents: Float[Tensor, "b 2"] | None,
    padded: tuple[int, ...],
    points: tuple[int, int],
) -> Iterator[Float[Tensor, "b height width 2"]]:
    """Where to sample: points spread evenly over each output pixel, one per pixel in each grid."""
    middles = _middles(matrices, size, extents, padded)
    if points == (1, 1):
        yield middles
        return
    inner = (_pixel_centers(number, matrices) / pixels for number, pixels in zip(points, size[::-1], strict=True))
    linear, _ = _in_padded(matrices, extents, padded)
    for offset in torch.cartesian_prod(*inner):
        yield middles + (linear @ offset)[:, None, None]


def _middles(
    matrices: Float[Tensor, "b 2 3"],
    size: tuple[int, int],
    extents: Float[Tensor, "b 2"] | None = None,
    padded: tuple[int, ...] = (),
) -> Float[Tensor, "b height width 2"]:
    """Positions of the output pixels' centers in the windows, normalized."""
    linear, shift = _in_padded(matrices, extents, padded)
    rows, columns = (_pixel_centers(pixels, matrices) for pixels in size)
    down = linear[..., 1, None] * rows + shift[..., None]
    across = linear[..., 0, None] * columns
    return (down[..., :, None] + across[..., None, :]).movedim(1, -1)  # a sum, not a product, for each pixel


def _in_padded(
    matrices: Float[Tensor, "b 2 3"], extents: Float[Tensor, "b 2"] | None, padded: tuple[int, ...]
) -> tuple[Float[Tensor, "b 2 2"], Float[Tensor, "b 2"]]:
    """The same geometries for slices with padding after their last row and column."""
    linear, shift = matrices[..., :2], matrices[..., 2]
    if extents is None:
        return linear, shift
    # A point beyond the slice lies in the padding or, on the far side, out of the array: both hold 0.
    part = extents.flip(1) / extents.new_tensor([padded[1], padded[0]])
    return linear * part[..., None], shift * part + (part - 1)


def _pixel_centers(pixels: int, like: Tensor) -> Float[Tensor, " n"]:
    """Normalized positions of the pixels along an axis."""
    return (2 * torch.arange(pixels, device=like.device, dtype=like.dtype) + 1) / pixels - 1
