"""Files of torch and of safetensors as plain tensors: nothing in them is run, and none claims more than it holds."""

from __future__ import annotations

import errno
import os
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

LARGEST_HEADER = 16 << 20
"""Bytes of the largest header of a safetensors file; that of a network of 10,000 tensors has one million."""

_MOST_SHARED = 4
"""Tensors may share what a file holds, as tied weights do: together they are at most so many times its size."""

_OLD_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How torch's own format before version 1.6 begins."""

_SMALL_RECORDS = (".pkl", "version", "byteorder", ".format_version", ".storage_alignment", "serialization_id")
_LARGEST_PICKLE = 256 << 20

DAMAGED = (
    OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError, OverflowError,
    MemoryError, RecursionError, struct.error, zipfile.BadZipFile,
)  # fmt: skip
"""What torch's loader raises for a file that is damaged, besides `pickle.UnpicklingError`, which refuses one."""


def load_plain(path: Path) -> Any:
    """Reads a torch file by torch's safe loader, which builds tensors and plain values alone.

    Tensors are mapped from the file and then copied, so that one which claims more than the file holds is refused.

    Raises:
        UnpicklingError: It would run code.
        RuntimeError: It is damaged, or claims more than it holds; so do all others of `DAMAGED`.
    """
    with path.open("rb") as file:
        start = file.read(len(_OLD_MAGIC))
    is_archive = start.startswith(b"PK")
    if is_archive:
        _check_archive(path)
    elif start != _OLD_MAGIC:
        raise pickle.UnpicklingError("it doesn't begin as a torch file does")
    loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    check_tensors(tensors_in(loaded), path.stat().st_size)
    return _own(loaded, {}) if is_archive else loaded


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file whose header is of a sensible size.

    Raises:
        OSError: It can't be read.
        ValueError: Its header is too large; so does SafetensorError tell any other damage.
    """
    from safetensors.torch import load_file

    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > LARGEST_HEADER:
        raise OSError(errno.EFBIG, f"its header claims {length} bytes, and {LARGEST_HEADER} are the most")
    tensors = load_file(path)
    check_tensors(list(tensors.values()), path.stat().st_size)
    return tensors


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors in nested dictionaries, lists and tuples; a part that stands there twice is looked at once."""
    found: list[Tensor] = []
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Tensor):
            found.append(part)
        elif isinstance(part, Mapping | list | tuple) and id(part) not in seen:
            seen.add(id(part))
            waiting.extend(part.values() if isinstance(part, Mapping) else part)
    return found


def check_tensors(tensors: list[Tensor], size: int) -> None:
    """Refuses tensors that are no plain arrays in memory, or larger than the file that they are from.

    Args:
        tensors: All of the file's.
        size: The file's bytes.

    Raises:
        RuntimeError: One is sparse, quantized or elsewhere, or claims more numbers than there are.
    """
    claimed = 0
    for tensor in tensors:
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise RuntimeError(f"a tensor is {tensor.layout} on {tensor.device}, no plain array")
        bytes_of_its_own = tensor.numel() * tensor.element_size()
        if bytes_of_its_own > tensor.untyped_storage().nbytes():
            raise RuntimeError(f"a tensor of {tuple(tensor.shape)} repeats fewer numbers than it has")
        claimed += bytes_of_its_own
    if claimed > _MOST_SHARED * size:
        raise RuntimeError(f"its tensors have {claimed} bytes, the file {size}")


def _check_archive(path: Path) -> None:
    """Refuses an archive that unpacks to more than it is, which torch never writes."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(member.filename.endswith("/constants.pkl") for member in members):
        raise RuntimeError("it is a TorchScript archive")
    held = os.stat(path).st_size  # noqa: PTH116 - of the path alone
    packed = [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise RuntimeError(f"{packed[0]!r} is compressed in it, which torch doesn't do")
    if sum(member.file_size for member in members) > held:
        raise RuntimeError("its parts are larger than the file")
    large = [member for member in members if member.filename.endswith(_SMALL_RECORDS)]
    if any(member.file_size > _LARGEST_PICKLE for member in large):
        raise RuntimeError(f"its description is larger than {_LARGEST_PICKLE} bytes")


def _own(value: Any, done: dict[int, Any]) -> Any:
    """The same values with tensors that the file is no longer needed for; those that share numbers go on sharing."""
    if isinstance(value, Tensor):
        if id(value) not in done:
            done[id(value)] = value.detach().clone()
        return done[id(value)]
    if isinstance(value, Mapping):
        return {name: _own(part, done) for name, part in value.items()}
    if isinstance(value, list):
        return [_own(part, done) for part in value]
    if type(value) is tuple:
        return tuple(_own(part, done) for part in value)
    return value
