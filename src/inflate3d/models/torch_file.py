"""Reads torch and safetensors files as plain tensors: runs no code in them, and checks the sizes they claim."""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from inflate3d.documents import open_regular
from inflate3d.io.damage import foreign_file

LARGEST_HEADER = 16 << 20
"""Size limit of a file's tensor descriptions in bytes; those of 10,000 tensors have one million."""

_MOST_SHARED = 4
"""Tensors may share data, as tied weights do: all together are at most this many times the file's size."""

_OLD_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""Magic number of torch's format before version 1.6."""

_OLD_PICKLES = 5
"""Pickles in that format: magic number, version, machine, document, names of the stored arrays."""

_MOST_OPERATIONS = 2_000_000
"""Limit of a pickle's operations; that of 10,000 tensors has 400,000."""

_MOST_NESTED = 100

_MOST_HASHED = 100_000
"""Limit of the values in nested tuples, counted as often as they are held: as a key, all are hashed."""

_NEWEST_PROTOCOL = 3
"""Of pickle; torch writes 2 by default."""

_MARK = (-1, 0)

_NESTING = frozenset(
    {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET", "REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST"}
)
"""Operations whose result may be hashed by its contents."""

_NAMES = frozenset({
    "collections OrderedDict", "torch Size", "torch device", "torch.nn.parameter Parameter", "argparse Namespace",
    "torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter",
    "torch._tensor _rebuild_from_type_v2", "_codecs encode", "builtins set", "__builtin__ set",
})  # fmt: skip
"""Globals that a weights file may name besides storages and data types; none uses more memory than its arguments."""

_FROM_NUMPY = "save the weights as tensors by name with `safetensors.numpy.save_file`"

DAMAGED = (
    OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError, OverflowError,
    MemoryError, RecursionError, struct.error, zipfile.BadZipFile,
)  # fmt: skip
"""What torch's loader raises for damaged files, besides `pickle.UnpicklingError` for forbidden ones."""


def load_plain(path: Path, names: Collection[str] = ()) -> Any:
    """Reads a torch file with torch's safe loader, which builds only tensors and plain values.

    Tensors are mapped from the file and then copied, so that a tensor larger than the file is rejected.

    Args:
        names: Additional classes that it may name (``"module class"``), which the caller defines for torch.
    """
    is_archive = check_torch_file(path, names)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except pickle.UnpicklingError as error:  # in torch's words, which advise to run what is in the file
        raise RuntimeError(str(error).rpartition("WeightsUnpickler error:")[2].strip().split("\n")[0]) from error
    check_tensors(tensors_in(loaded), path.stat().st_size)
    return _own(loaded, {}) if is_archive else loaded


def check_torch_file(path: Path, names: Collection[str] | None = ()) -> bool:
    """Rejects a torch file that would run code or claims more than it holds, before anything is built.

    Args:
        names: Additional classes that it may name; None for any.

    Returns:
        Whether it is an archive (torch 1.6 and later).
    """
    with open_regular(path) as file:
        if file.read(2) == b"PK":
            _check_archive(path, names)
            return True
        file.seek(0)
        start = file.read(len(_OLD_MAGIC))
        if start[:1] == b"\x80":
            _check_protocol(start[1])
        if start != _OLD_MAGIC:
            raise pickle.UnpicklingError(_known_start(path) or "not a torch file")
        file.seek(0)
        for _ in range(_OLD_PICKLES):
            start = file.tell()
            _check_pickle(file, names)
            file.seek(start)
            claimed = _Claims(file).total()
            if claimed > path.stat().st_size:
                raise RuntimeError(f"its arrays claim {claimed} numbers, and the file has {path.stat().st_size} bytes")
    return False


def check_sums(path: Path) -> None:
    """Compares all records of an archive with their checksums, which torch's loader doesn't.

    Only for files that we wrote: others may be written without checksums (`torch.serialization.set_crc32_options`).
    """
    with zipfile.ZipFile(path) as archive:
        if (damaged := archive.testzip()) is not None:
            raise RuntimeError(f"the checksum of its record {damaged} differs")


class _Claims(pickle.Unpickler):
    """Sums the array sizes that a pickle of torch's old format claims, without allocating them."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self._claims: dict[str, int] = {}

    def total(self) -> int:
        self.load()
        return sum(self._claims.values())

    def find_class(self, module: str, name: str) -> type:
        return _Nothing

    def persistent_load(self, pid: Any) -> Any:
        _, _, key, _, count, *_ = pid
        self._claims[str(key)] = max(int(count), self._claims.get(str(key), 0))
        return _Nothing()


class _Nothing:
    """Stands in for whatever a pickle would build."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass

    def __setitem__(self, _: Any, __: Any) -> None:
        pass


def is_safetensors(path: Path) -> bool:
    """Whether a file begins like safetensors, whatever its name is."""
    with open_regular(path) as file:
        return file.read(10)[8:] in (b'{"', b"{}", b"{ ")


def load_safetensors(path: Path) -> dict[str, Tensor]:
    check_safetensors_header(path)
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    check_tensors(list(tensors.values()), path.stat().st_size)
    return tensors


def check_safetensors_header(path: Path) -> None:
    """Rejects a header that is too large for any network."""
    with open_regular(path) as file:
        length = int.from_bytes(file.read(8), "little")
    if length > LARGEST_HEADER:
        if problem := _known_start(path):
            raise ValueError(problem)
        raise ValueError(f"its header claims {length} bytes, and {LARGEST_HEADER} are the most")


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors in nested dictionaries, lists and tuples; shared parts are visited once."""
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
    """Rejects tensors that are not plain arrays in memory, or larger than the file they come from.

    Args:
        size: Size of the file in bytes.
    """
    claimed = 0
    for tensor in tensors:
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise RuntimeError(f"a tensor is {tensor.layout} on {tensor.device}, not a plain array")
        bytes_of_its_own = tensor.numel() * tensor.element_size()
        if bytes_of_its_own > tensor.untyped_storage().nbytes():
            raise RuntimeError(f"a tensor of {tuple(tensor.shape)} repeats fewer numbers than it has")
        claimed += bytes_of_its_own
    if claimed > _MOST_SHARED * size:
        raise RuntimeError(f"its tensors have {claimed} bytes, the file {size}")


def _check_archive(path: Path, names: Collection[str] | None) -> None:
    """Rejects an archive that unpacks to more than its own size, which torch never writes."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if members and all(member.filename.endswith(".npy") for member in members):
            raise RuntimeError(f"an archive of NumPy arrays; {_FROM_NUMPY}")
        if any(member.filename.endswith("/constants.pkl") for member in members):
            raise RuntimeError("it is a TorchScript archive")
        packed = [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]
        if packed:
            raise RuntimeError(f"{packed[0]!r} is compressed, which torch never does")
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise RuntimeError("its parts are larger than the file")
        for member in members:
            if member.filename.endswith(".pkl"):
                with archive.open(member) as file:
                    _check_pickle(io.BytesIO(file.read(LARGEST_HEADER + 1)), names)


def _check_pickle(file: Any, names: Collection[str] | None) -> None:
    """Reads a pickle's operations without executing any: limits its length, nesting and the names it may use."""
    start = file.tell()
    stack = _Stack()
    protocol = 0
    for number, (operation, argument, _) in enumerate(pickletools.genops(file), start=1):
        if number > _MOST_OPERATIONS or file.tell() - start > LARGEST_HEADER:
            raise RuntimeError(f"its description is larger than {LARGEST_HEADER} bytes")
        if operation.name.endswith("PUT") and isinstance(argument, int) and argument > number:
            # memory is taken for all numbers below
            raise RuntimeError("its description refers to values that it doesn't contain")
        taken = stack.follow(operation, argument)
        if operation.name == "STACK_GLOBAL":
            _check_name(f"{taken[1]} {taken[0]}", names)
        elif operation.name in ("GLOBAL", "INST"):
            _check_name(str(argument), names)
        elif operation.name == "PROTO" and argument is not None:
            protocol = argument
    if names is not None:
        _check_protocol(protocol)


def _check_protocol(version: int) -> None:
    """Refuses a pickle of a version that torch's safe loader, which `load_plain` uses, does not know."""
    if version > _NEWEST_PROTOCOL:
        raise RuntimeError(
            f"it is written in version {version} of pickle, and torch's safe loader reads {_NEWEST_PROTOCOL} at most; "
            "if you trust it, load it and save it again by `torch.save(weights, file)`"
        )


class _Stack:
    """The stack of a pickle's operations: strings, and for all else how deep and how large the tuples in it are.

    Python's hash of a deeply nested tuple, such as a dictionary's key, crashes the process; that of tuples that each
    hold the previous one twice takes exponential time.
    """

    def __init__(self) -> None:
        self._values: list[str | tuple[int, int]] = []
        self._memo: dict[int, str | tuple[int, int]] = {}

    def follow(self, operation: pickletools.OpcodeInfo, argument: Any) -> list[str | tuple[int, int]]:
        """Follows one operation, and returns what it takes from the stack, top first."""
        if operation.name == "MEMOIZE" or operation.name.endswith("PUT"):
            self._memo[len(self._memo) if argument is None else argument] = self._values[-1]
            return []
        taken: list[str | tuple[int, int]] = []
        below = list(operation.stack_before)
        if pickletools.markobject in below:
            while (top := self._values.pop()) != _MARK:
                taken.append(top)
            below = below[: below.index(pickletools.markobject)]
        taken += [self._values.pop() for _ in below]
        value = taken[-1] if taken else (0, 1)  # a container, where it is filled
        if operation.name.endswith("GET"):
            value = self._memo[argument]
        elif isinstance(argument, str) and not taken:
            value = argument
        elif operation.name in _NESTING:
            inside = [each for each in taken if isinstance(each, tuple)]
            value = (1 + max((depth for depth, _ in inside), default=0), 1 + sum(size for _, size in inside))
            if value[0] > _MOST_NESTED or value[1] > _MOST_HASHED:
                raise RuntimeError(
                    f"it nests tuples more than {_MOST_NESTED} deep or to more than {_MOST_HASHED} values"
                )
        self._values += [_MARK if each is pickletools.markobject else value for each in operation.stack_after]
        return taken


def _check_name(name: str, names: Collection[str] | None) -> None:
    module, _, own = name.rpartition(" ")
    is_storage = module in ("torch", "torch.storage") and own.endswith("Storage")
    is_type = module == "torch" and isinstance(getattr(torch, own, None), torch.dtype)
    if names is not None and not (is_storage or is_type or name in _NAMES or name in names):
        raise pickle.UnpicklingError(f"a pickle that names {name.replace(' ', '.')}")


def _known_start(path: Path) -> str | None:
    """Recognizes files that are often mistaken for weights, and says what to do."""
    with open_regular(path) as file:
        start = file.read(64)
    if start.startswith(b"\x89HDF"):
        return "an HDF5 file, as Keras writes; take weights that were made for PyTorch"
    if start.startswith(b"\x93NUMPY"):
        return f"a NumPy array; {_FROM_NUMPY}"
    foreign = foreign_file(start)
    return foreign and f"{foreign[0]}; {foreign[1]}"


def _own(value: Any, done: dict[int, Any]) -> Any:
    """Copies of the tensors that no longer need the file; what was shared stays shared."""
    if id(value) in done:
        return done[id(value)]
    own: Any = value
    if isinstance(value, Tensor):
        own = value.detach().clone()
    elif isinstance(value, Mapping):
        own = {name: _own(part, done) for name, part in value.items()}
    elif isinstance(value, list):
        own = [_own(part, done) for part in value]
    elif type(value) is tuple:
        own = tuple(_own(part, done) for part in value)
    done[id(value)] = own
    return own
