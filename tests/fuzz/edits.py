"""Edits of bytes: what a disk, a cut connection or somebody hostile makes of a file."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hypothesis import strategies as st

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
TOKENS = (
    b"\0", b"\xff\xff", b"\n", b"\r\n", b"../", b"\x1b]0;x\x07", b"\xef\xbb\xbf", b"\xc3\x28", b"'",
    b'"', b"{", b"[" * 300, b"*a ", b"&a ", b"!!python/object/apply:os.system [id]", b"<<: ", b": ",
    b"NaN", b"-1", b"1e999", b"9" * 5000, b"null", b"true", b"%", b"$(id)", b"`id`", b"\\", b"=",
    b"\xe2\x80\xae", b"\t", b"#",
)  # fmt: skip


class Edit(NamedTuple):
    """One change. place: a number that is taken modulo the size. number: what the kind makes of it.

    kinds: flip (a bit), set (an integer of 1 to 8 bytes), cut (the end), drop, repeat, insert.
    """

    kind: str
    place: int
    number: int


KINDS: dict[str, Callable[[bytearray, int, int], None]] = {}


def _kind(change: Callable[[bytearray, int, int], None]) -> Callable[[bytearray, int, int], None]:
    KINDS[change.__name__] = change
    return change


@_kind
def flip(data: bytearray, at: int, number: int) -> None:
    data[at] ^= 1 << number % 8


@_kind
def set(data: bytearray, at: int, number: int) -> None:
    width = (1, 2, 4, 8)[number % 4]
    value = _NUMBERS[number // 4 % len(_NUMBERS)] & (2 ** (8 * width) - 1)
    order = "<" if number // 64 % 2 else ">"
    data[at : at + width] = struct.pack(order + "BHIQ"[number % 4 : number % 4 + 1], value)


@_kind
def cut(data: bytearray, at: int, number: int) -> None:
    del data[at:]


@_kind
def drop(data: bytearray, at: int, number: int) -> None:
    del data[at : at + 1 + number % 64]


@_kind
def repeat(data: bytearray, at: int, number: int) -> None:
    data[at:at] = data[at : at + 1 + number % 512]


@_kind
def insert(data: bytearray, at: int, number: int) -> None:
    data[at:at] = TOKENS[number % len(TOKENS)]


def edited(data: bytes, edits: Sequence[Edit]) -> bytes:
    """The bytes with all edits made, one after the other."""
    changed = bytearray(data)
    for edit in edits:
        if changed:
            KINDS[edit.kind](changed, edit.place % len(changed), edit.number)
    return bytes(changed)


def chance_edits(chance: random.Random) -> list[Edit]:
    """One to six edits, by chance."""
    names = list(KINDS)
    return [
        Edit(chance.choice(names), chance.getrandbits(32), chance.getrandbits(16))
        for _ in range(min(1 + int(chance.expovariate(0.7)), 6))
    ]


EDITS = st.lists(
    st.builds(
        Edit,
        st.sampled_from(sorted(KINDS)),
        st.integers(0, 2**20 - 1),
        st.integers(0, 2**16 - 1),
    ),
    min_size=1,
    max_size=5,
)
