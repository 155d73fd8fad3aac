"""Host patterns of an Ansible inventory: name, name:port, [IPv6]:port, and ranges like [0:2]."""

from __future__ import annotations

import re
import string

from agent.errors import UsageError
from coordinator.hosts import is_ip

MAX_RANGE = 10_000
"""Names that one pattern may come to."""

_BRACKETED = re.compile(r"\[([^\]]+)\](?::(\d{1,5}))?")
_PORT = re.compile(r"(.*):(\d{1,5})")
_RANGE = re.compile(r"\[([^\[\]:]*):([^\[\]:]+)(?::(\d+))?\]")


def expand(pattern: str) -> tuple[list[str], int]:
    """(names, port or 0) of one host pattern.

    As ansible-core reads them (docs: "How to build your inventory", ranges): both ends belong to a
    range, a leading zero keeps the width, letters count through a-zA-Z, and a third number is the
    step. Raises UsageError for a range that is none, and for one beyond MAX_RANGE names.
    """
    if is_ip(pattern):
        return [pattern], 0
    match = _BRACKETED.fullmatch(pattern)
    if match and is_ip(match[1]):
        return [match[1]], int(match[2] or 0)
    port = 0
    match = _PORT.fullmatch(pattern)
    if match and match[1].count("[") == match[1].count("]"):
        pattern, port = match[1], int(match[2])
    return _expand(pattern), port


def _expand(pattern: str) -> list[str]:
    names = [""]
    rest = pattern
    while rest:
        match = _RANGE.search(rest)
        head = rest[: match.start()] if match else rest
        values = _values(match, pattern) if match else [""]
        if len(names) * len(values) > MAX_RANGE:
            raise UsageError(f"{pattern!r} comes to more than {MAX_RANGE} hosts")
        names = [name + head + value for name in names for value in values]
        rest = rest[match.end() :] if match else ""
    if any("[" in name or "]" in name for name in names):
        raise UsageError(f"{pattern!r} is no host and no range", "a range is like master[0:2]")
    return names


def _values(match: re.Match[str], pattern: str) -> list[str]:
    first, last, step = match[1] or "0", match[2], int(match[3] or 1)
    if step < 1:
        raise UsageError(f"{pattern!r}: a range goes on by 1 or more")
    if first.isascii() and first.isdigit() and last.isascii() and last.isdigit():
        return _numbers(first, last, step, pattern)
    letters = string.ascii_letters
    if len(first) == len(last) == 1 and first in letters and last in letters:
        low, high = letters.index(first), letters.index(last)
        if low <= high:
            return list(letters[low : high + 1 : step])
    raise UsageError(f"{pattern!r}: {first} to {last} is no range")


def _numbers(first: str, last: str, step: int, pattern: str) -> list[str]:
    is_padded = len(first) > 1 and first.startswith("0")
    if is_padded and len(first) != len(last):
        raise UsageError(f"{pattern!r}: {first} and {last} are of different width")
    if max(len(first), len(last)) > 18:
        raise UsageError(f"{pattern!r}: {first} to {last} is no range")
    low, high = int(first), int(last)
    if low > high or (high - low) // step >= MAX_RANGE:
        raise UsageError(f"{pattern!r}: {first} to {last} is no range of 1 to {MAX_RANGE} hosts")
    width = len(first) if is_padded else 0
    return [f"{number:0{width}d}" for number in range(low, high + 1, step)]
