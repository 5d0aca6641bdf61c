"""Typed settings, read from YAML and JSON, with our errors instead of pydantic's."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from inflate3d.documents import DAMAGED_JSON, DAMAGED_YAML, LARGEST_YAML, parse_json, parse_yaml, read_text
from inflate3d.errors import ConfigError

T = TypeVar("T")
Settings = TypeVar("Settings", bound=BaseModel)

if TYPE_CHECKING:
    Planned: TypeAlias = Annotated[T, None]
else:

    class Planned:
        """A setting that may be None until it is resolved; readers of resolved settings see its own type."""

        def __class_getitem__(cls, kind: Any) -> Any:
            return kind | None


class FrozenModel(BaseModel):
    """Immutable settings; unknown keys, NaN, infinity, and true or false for a number are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value(cls, value: Any, info: Any) -> Any:
        """Rejects true and false where there is no place for them: Python takes them for 1 and 0."""
        held = value if isinstance(value, (list, tuple)) else [value]
        if any(isinstance(each, bool) for each in held) and not _may_be_true(
            cls.model_fields[info.field_name].annotation
        ):
            raise ValueError("a number or text, not true, false, yes or no")
        return value


def _may_be_true(annotation: Any) -> bool:
    """Whether a field may hold true or false, or holds other settings, which look for themselves."""
    if annotation in (bool, Any) or isinstance(annotation, bool):
        return True
    is_settings = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return is_settings or any(map(_may_be_true, get_args(annotation)))


def planned(**limits: Any) -> Any:
    """Default of a `Planned` setting: None, which leaves it to the plan."""
    return Field(default=None, **limits)


def read_yaml(path: Path) -> Any:
    """Reads plain YAML, within the limits of `inflate3d.documents` (no tags are constructed)."""
    try:
        return parse_yaml(read_text(path, most=LARGEST_YAML))
    except OSError as error:
        raise ConfigError("configuration can't be read", file=path, got=error.strerror) from error
    except DAMAGED_YAML as error:  # UnicodeDecodeError too
        raise ConfigError("configuration is not YAML", file=path, got=error) from error


def read_json(path: Path) -> Any:
    """Reads JSON, within the limits of `inflate3d.documents`."""
    try:
        return parse_json(read_text(path))
    except OSError as error:
        raise ConfigError("the file can't be read", file=path, got=error.strerror) from error
    except DAMAGED_JSON as error:  # UnicodeDecodeError too
        raise ConfigError("the file is not JSON", file=path, got=error) from error


def parse_settings(kind: type[Settings], values: Any, *, file: Path | None = None) -> Settings:
    """Builds ``kind`` from plain values, with our errors in place of pydantic's."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise settings_error(error, file=file) from error


def settings_error(error: ValidationError, *, file: Path | None = None) -> ConfigError:
    """The first of pydantic's errors as one of ours."""
    first = error.errors()[0]
    ours = first.get("ctx", {}).get("error")
    if isinstance(ours, ConfigError):  # of a check of ours, which pydantic takes for a ValueError
        return ours
    name = ".".join(str(part) for part in first["loc"] if part not in _TAGS) or "configuration"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return ConfigError(f"invalid {name}{more}", expected=message_of(first), got=shown(first["input"]), file=file)


def message_of(mistake: Mapping[str, Any]) -> str:
    """What one of pydantic's errors says, without its prefix for messages of ours, and without names of classes."""
    return mistake["msg"].removeprefix("Value error, ").partition(" or instance of ")[0]


def shown(value: object) -> str:
    """A value as Python spells it, cut short however large or nested it is."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # an integer of thousands of digits
        return f"a {type(value).__name__} too long to be shown"


_TAGS = ("inflated", "volumetric")
"""Names of union branches, which pydantic includes in the place of an error and users don't write."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
