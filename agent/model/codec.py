"""Plain data to JSON and back, strictly: unknown keys and wrong types are refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from enum import Enum
from typing import Any, TypeVar

import dacite

from agent.errors import UsageError

T = TypeVar("T")

_CONFIG = dacite.Config(strict=True, cast=[tuple, Enum])


def to_plain(value: Any) -> Any:
    """Dataclasses, enums and tuples as dicts, strings and lists that JSON can carry."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return value


def from_plain(cls: type[T], data: Any, what: str = "") -> T:
    """`data` (parsed JSON) as a `cls`. Raises UsageError naming the field that does not fit."""
    if not isinstance(data, dict):
        raise UsageError(f"{what or cls.__name__}: expected an object, found {type(data).__name__}")
    try:
        return dacite.from_dict(cls, data, _CONFIG)
    except (dacite.DaciteError, TypeError, ValueError) as error:
        raise UsageError(f"{what or cls.__name__}: {error}") from None


def canonical(value: Any) -> bytes:
    """The one JSON text of a value (sorted keys, no spaces, UTF-8): what hashes are taken of."""
    text = json.dumps(to_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # A file name that is no UTF-8 comes as lone surrogates; JSON writes such as \udcXX.
    return text.encode(errors="backslashreplace")


def digest(value: Any) -> str:
    """sha256 of the canonical JSON text, as hex."""
    return hashlib.sha256(canonical(value)).hexdigest()
