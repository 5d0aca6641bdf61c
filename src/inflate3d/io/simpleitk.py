"""SimpleITK without its terminal output. Imported only when one of its formats is read or written."""

from __future__ import annotations

import numpy as np
import SimpleITK

SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)  # our readers report what matters


def reason_of(error: RuntimeError) -> str:
    """SimpleITK's error message without source locations."""
    if any(words in str(error) for words in ("bad_alloc", "bad allocation", "allocate memory")):
        raise MemoryError from error
    lines = [line for line in str(error).splitlines() if line.strip() and "Exception thrown in SimpleITK" not in line]
    return " ".join(line.split("): ", 1)[-1].strip() for line in lines) or "no reason given"


_NUMPY_TYPES = {
    **{f"{bits}-bit signed integer": f"i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"{bits}-bit unsigned integer": f"u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"{bits}-bit float": f"f{bits // 8}" for bits in (32, 64)},
}
"""NumPy types of SimpleITK's real pixel types; all others are complex."""


def pixel_type(reader: SimpleITK.ImageFileReader) -> np.dtype:
    """The type of the voxels, or of a vector's components, of a file whose header was read."""
    name = SimpleITK.GetPixelIDValueAsString(reader.GetPixelID()).removeprefix("vector of ")
    return np.dtype(_NUMPY_TYPES.get(name, "c16"))
