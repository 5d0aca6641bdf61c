"""A Gaussian filter of the logits along the depth, applied slice by slice.

With ``s`` its standard deviation and ``d`` the distance between slices, both in millimeters, a slice's logits become
``z'[t] = sum_j a[j] z[t + j]``, ``a[j]`` proportional to ``exp(-(j d)^2 / (2 s^2))``. Neighbors with weights below a
thousandth of the slice's own are left out. At the ends, the weights of the existing slices sum to 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

from inflate3d.inference.slices import Logits

_LEAST_WEIGHT = 1e-3

Kernel = tuple[float, ...]
"""Weights of a slice (1), of its neighbors, and so on, before they are scaled to sum to 1."""


def depth_kernel(deviation: float, spacing: float, slices: int) -> Kernel:
    """The weights of a filter.

    Args:
        deviation: Its standard deviation in millimeters; 0 leaves the logits as they are.
        spacing: Millimeters between slices.
    """
    width = deviation / spacing
    reach = min(math.floor(width * math.sqrt(-2 * math.log(_LEAST_WEIGHT))), slices - 1)
    return (1.0, *(math.exp(-0.5 * (step / width) ** 2) for step in range(1, reach + 1)))


def slices_in_memory(kernels: Sequence[Kernel]) -> int:
    """The number of slices whose logits `filter_depth` holds at a time, results included."""
    reach = max(map(len, kernels)) - 1
    return 2 * reach + 1 + len(kernels) if reach else 0


def filter_depth(slices: Iterator[Logits], kernels: Sequence[Kernel]) -> Iterator[list[Logits]]:
    """Filters a stream of slices.

    Args:
        slices: The logits of each slice, in order.

    Yields:
        For each slice in order, its logits with each of the filters.
    """
    if max(map(len, kernels)) == 1:
        return map(partial(_repeat, times=len(kernels)), slices)  # a generator would keep the last slice's batch
    return _filter(map(_copy, slices), kernels)


def _repeat(logits: Logits, times: int) -> list[Logits]:
    return [logits] * times


def _copy(logits: Logits) -> Logits:
    """A view would keep its whole batch in memory."""
    return [part.clone() for part in logits]


def _filter(slices: Iterator[Logits], kernels: Sequence[Kernel]) -> Iterator[list[Logits]]:
    reach = max(map(len, kernels)) - 1
    window: list[Logits] = []
    place = 0  # of the slice to filter
    while True:
        while len(window) <= place + reach and (following := next(slices, None)) is not None:
            window.append(following)
        if place == len(window):
            return
        yield [_weigh(window, place, kernel) for kernel in kernels]
        if place == reach:
            del window[0]
        else:
            place += 1


def _weigh(window: Sequence[Logits], place: int, kernel: Kernel) -> Logits:
    """Weighted mean of a slice and its neighbors in the window."""
    if len(kernel) == 1:
        return window[place]
    first = max(place - len(kernel) + 1, 0)
    near = window[first : place + len(kernel)]
    weights = [kernel[abs(first + number - place)] for number in range(len(near))]
    total = sum(weights)
    sums = [part * (weights[0] / total) for part in near[0]]
    for logits, weight in zip(near[1:], weights[1:], strict=True):
        for part, other in zip(sums, logits, strict=True):
            part.add_(other, alpha=weight / total)
    return sums
