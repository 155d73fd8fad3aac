"""A small reader of the protobuf wire format: strict, bounded, no recursion.

Format: https://protobuf.dev/programming-guides/encoding/. The order of the checks and the words of
the errors are those of the code that etcd 3.4-3.6 generates with gogo/protobuf, because etcd treats
"unexpected EOF" (a record cut short) and any other error differently.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Union

VARINT, FIXED64, BYTES, START_GROUP, END_GROUP, FIXED32 = range(6)
UNEXPECTED_EOF = "unexpected EOF"

_U64 = (1 << 64) - 1
_MAX_NUMBER = (1 << 29) - 1

Value = Union[int, bytes]


class Malformed(ValueError):
    """Bytes that are no protobuf message. cut_short: they end before the message does."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.cut_short = reason == UNEXPECTED_EOF
        super().__init__(reason)


def varint(data: bytes, at: int) -> tuple[int, int]:
    """(value modulo 2**64, offset behind it) of the varint at `at`. Raises Malformed."""
    value = shift = 0
    while True:
        if shift >= 64:
            raise Malformed("proto: integer overflow")
        if at >= len(data):
            raise Malformed(UNEXPECTED_EOF)
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _U64, at
        shift += 7


def fields(data: bytes) -> Iterator[tuple[int, int, Value]]:
    """(field number, wire type, value) of each field in order; groups are skipped.

    The value of a fixed field is the little-endian integer, that of a length-delimited one the
    bytes. Raises Malformed at the first byte that fits no message.
    """
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == END_GROUP:
            raise Malformed("proto: wiretype end group for non-group")
        if not 0 < number <= _MAX_NUMBER:
            raise Malformed(f"proto: illegal tag {number} (wire type {kind})")
        if kind == START_GROUP:
            at = _skip_group(data, at)
            continue
        value, at = _value(data, at, kind)
        yield number, kind, value


def message(data: bytes, shape: dict[int, int]) -> dict[int, Value]:
    """Field number → last value, of the fields in `shape` (number → wire type).

    Fields not in `shape` are checked and dropped. Raises Malformed, also where a field has another
    wire type than `shape` says.
    """
    found: dict[int, Value] = {}
    for number, kind, value in fields(data):
        expected = shape.get(number)
        if expected is None:
            continue
        if kind != expected:
            raise Malformed(f"proto: wrong wireType = {kind} for field {number}")
        found[number] = value
    return found


def unsigned(found: dict[int, Value], number: int) -> int:
    """The integer field of that number, 0 where it is absent."""
    value = found.get(number, 0)
    return value if isinstance(value, int) else 0


def _value(data: bytes, at: int, kind: int) -> tuple[Value, int]:
    if kind == VARINT:
        return varint(data, at)
    if kind == BYTES:
        length, at = varint(data, at)
        if length >= 1 << 63:
            raise Malformed("proto: negative length found during unmarshaling")
        end = at + length
    elif kind in (FIXED64, FIXED32):
        end = at + (8 if kind == FIXED64 else 4)
    else:
        raise Malformed(f"proto: illegal wireType {kind}")
    if end > len(data):
        raise Malformed(UNEXPECTED_EOF)
    raw = data[at:end]
    return (raw if kind == BYTES else int.from_bytes(raw, "little")), end


def _skip_group(data: bytes, at: int) -> int:
    depth = 1
    while depth:
        tag, at = varint(data, at)
        kind = tag & 7
        if kind == START_GROUP:
            depth += 1
        elif kind == END_GROUP:
            depth -= 1
        else:
            _, at = _value(data, at, kind)
    return at
