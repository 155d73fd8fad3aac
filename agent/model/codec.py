"""Plain data to JSON and back, strictly: unknown keys and wrong types are refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from enum import Enum
from typing import Any, NoReturn, TypeVar, Union

import dacite

from agent.errors import UsageError

T = TypeVar("T")

_MAX_DEPTH = 64
_MAX_TOLD = 500
_DIGITS = 20
_LEAST, _MOST = -(2**63), 2**64 - 1

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
    what = what or cls.__name__
    if not isinstance(data, dict):
        raise UsageError(f"{what}: expected an object, found {type(data).__name__}")
    try:
        _require_sound(data, what, 0)
        made = dacite.from_dict(cls, data, _CONFIG)
        _require_no_truth_as_number(made, what)
    except (dacite.DaciteError, TypeError, ValueError, RecursionError) as error:
        said = str(error) if len(str(error)) <= _MAX_TOLD else f"{str(error)[:_MAX_TOLD]}…"
        raise UsageError(f"{what}: {said}") from None
    return made


def parse_json(data: Union[bytes, str], what: str) -> Any:
    """The one JSON value in `data`, strictly: RFC 8259, UTF-8 without a byte order mark.

    Raises UsageError for anything else, also for keys given twice (which one counts would depend
    on the reader), NaN, numbers beyond 64 bits, and nesting that no file of ours has.
    """
    try:
        text = data.decode() if isinstance(data, bytes) else data
        value = json.loads(
            text, object_pairs_hook=_without_twins, parse_constant=_no_number, parse_int=_integer
        )
        _require_sound(value, what, 0)
    except UnicodeDecodeError as error:
        raise UsageError(f"{what}: not UTF-8 at offset {error.start}") from None
    except RecursionError:
        raise UsageError(f"{what}: nested too deeply") from None
    except ValueError as error:
        raise UsageError(f"{what}: {str(error)[:_MAX_TOLD]}") from None
    return value


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twin = next(key for n, (key, _) in enumerate(pairs) if key in dict(pairs[:n]))
        raise ValueError(f"the key {twin[:80]!r} is given twice")
    return found


def _integer(digits: str) -> int:
    if len(digits) > _DIGITS:  # int() takes minutes for a megabyte of them, before Python 3.9.14
        raise ValueError("a number of more than 64 bits")
    return int(digits)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _require_sound(value: Any, what: str, depth: int) -> None:
    """Refuse what JSON text or Python objects can hold and no fact or plan does."""
    if depth > _MAX_DEPTH:
        raise UsageError(f"{what}: nested more than {_MAX_DEPTH} levels deep")
    if isinstance(value, float) and value - value != 0:  # NaN, or an infinity
        raise UsageError(f"{what}: {value} is no number")
    if isinstance(value, int) and not _LEAST <= value <= _MOST:
        raise UsageError(f"{what}: a number of more than 64 bits")
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return
    for item in value:
        _require_sound(item, what, depth + 1)


def _require_no_truth_as_number(value: Any, what: str) -> None:
    """To Python true is 1; to us a token or a time that says true is damage."""
    for each in dataclasses.fields(value):
        item, kind = getattr(value, each.name), str(each.type)
        if isinstance(item, bool) and "bool" not in kind and "Any" not in kind:
            raise UsageError(f'{what}: wrong value type for field "{each.name}": true or false')
        for part in item if isinstance(item, tuple) else (item,):
            if dataclasses.is_dataclass(part):
                _require_no_truth_as_number(part, f"{what}.{each.name}")


def canonical(value: Any) -> bytes:
    """The one JSON text of a value (sorted keys, no spaces, UTF-8): what hashes are taken of."""
    text = json.dumps(to_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # A file name that is no UTF-8 comes as lone surrogates; JSON writes such as \udcXX.
    return text.encode(errors="backslashreplace")


def json_text(value: Any) -> str:
    """A value as JSON for people and programs: indented, readable, nothing that drives a terminal.

    JSON itself lets DEL, the C1 controls and the marks of direction stand as they are.
    """
    text = json.dumps(to_plain(value), indent=2, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else _json_escape(c) for c in text)


def _json_escape(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 0x80 else json.dumps(char)[1:-1]


def digest(value: Any) -> str:
    """sha256 of the canonical JSON text, as hex."""
    return hashlib.sha256(canonical(value)).hexdigest()
