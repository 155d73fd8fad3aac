"""The pages of etcd's key space, checked and counted as they pass by in the order of the file.

The branches of the tree are read first; they are a hundredth of it. They say which pages must be
leaves, in which order, and the least key of each. The leaves can then be checked in any order, so a
file of many gigabytes is read once, from front to back, while it is hashed.

This check only ever says that all is well. Whatever it does not expect, damage or merely another
shape, makes `is_plain` false, and the complete check (dbcheck, livekeys) has the word.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from typing import Any

from agent.snapshot.hashing import CHUNK
from agent.survey.bbolt import BRANCH, HEADER_SIZE, LEAF, MAX_DEPTH, Database
from agent.survey.positioned import DamagedAt
from agent.survey.schema import REVISION_SIZE

_ROW = 16
_TOMBSTONE_SIZE = REVISION_SIZE + 1
_SEPARATOR, _TOMBSTONE_MARK = ord("_"), ord("t")
_KEY_TAG, _CREATED_TAG, _MODIFIED_TAG = 0x0A, 0x10, 0x18  # mvccpb.KeyValue: fields 1, 2, 3
_TAKEN = (1 << 32) - 1  # not a rank: a page that is on no leaf's place
_LARGEST_PAGE = 64 * 1024 * 1024
_ABOVE_ALL = b"\xff" * (REVISION_SIZE + 1)


class _Odd(Exception):
    """Not what etcd usually writes; says nothing about right or wrong."""


class KeySpace:
    """The leaves below one root page.

    is_plain: everything met so far is sound and of the usual shape. records: changes stored. live:
    keys that exist at the newest revision; right if is_plain at the end and the last compaction was
    not interrupted.

    How `live` is counted without remembering keys: a compaction at C keeps the newest record of a
    key at or below C, and all above. So each put at or below C stands for one key, each put above C
    that created its key for one more, and each tombstone above C for one less.
    """

    def __init__(self, db: Database, root: int, compacted: int, used: bytearray) -> None:
        """Read the branches.

        compacted: the revision of the last finished compaction, or 0. used: a bit for each page
        that something else is on.
        """
        self._db = db
        self._size = db.meta.page_size
        self._header = db.layout.header
        self._rows = [struct.Struct(f"{db.layout.order}{n * 4}I") for n in range(65)]
        self._branch_row = db.layout.branch
        self._compacted = compacted.to_bytes(8, "big") + _ABOVE_ALL
        self._rank = array("I", bytes(4)) * db.meta.high_water
        self._bounds = bytearray()
        self.records = self.live = self.leaves = self._seen = 0
        self._skip_until = 0
        self.is_plain = CHUNK % self._size == 0
        try:
            self._take(used)
            self._walk(root)
        except (_Odd, DamagedAt, struct.error, IndexError):
            self.is_plain = False

    @property
    def is_complete(self) -> bool:
        """Every leaf that the branches name was met, and was sound."""
        return self.is_plain and self._seen == self.leaves

    # ---- branches --------------------------------------------------------------------------------

    def _take(self, used: bytearray) -> None:
        for at, bits in enumerate(used):
            for number in range(8 * at, 8 * at + 8) if bits else ():
                if bits >> (number & 7) & 1:
                    self._rank[number] = _TAKEN

    def _walk(self, root: int) -> None:
        """List the leaves in the order of their keys: (page, least key) of each."""
        if self._kind(root) == LEAF:
            self._add(root, bytes(REVISION_SIZE))
            return
        stack = [(root, bytes(REVISION_SIZE), 0)]
        pages = 0
        while stack:
            number, lower, depth = stack.pop()
            pages += 1
            if depth > MAX_DEPTH or pages > self._db.meta.high_water:
                raise _Odd
            children = self._children(number, lower)
            if self._kind(children[0][1]) == LEAF:
                for key, child in children:
                    self._add(child, key)
            else:
                stack += [(child, key, depth + 1) for key, child in reversed(children)]

    def _kind(self, number: int) -> int:
        flags: int = self._db.page(number).flags
        return flags

    def _add(self, number: int, lower: bytes) -> None:
        if self._rank[number]:
            raise _Odd
        self.leaves += 1
        self._rank[number] = self.leaves
        self._bounds += lower

    def _children(self, number: int, lower: bytes) -> Sequence[tuple[bytes, int]]:
        """(least key, page) of each child of a branch, their order checked."""
        page = self._db.page(number)
        if page.flags != BRANCH or page.count == 0:
            raise _Odd
        for taken in range(number, number + 1 + page.overflow):
            if self._rank[taken]:
                raise _Odd
            self._rank[taken] = _TAKEN
        data = page.slice(0, page.size)
        found: list[tuple[bytes, int]] = []
        previous = lower
        for at in range(HEADER_SIZE, HEADER_SIZE + _ROW * page.count, _ROW):
            pos, size, child = self._branch_row.unpack_from(data, at)
            key = data[at + pos : at + pos + size]
            # A bound is a revision without the mark of a tombstone: no key lies between the two.
            if size not in (REVISION_SIZE, _TOMBSTONE_SIZE) or len(key) != size or key < previous:
                raise _Odd
            if found and key == previous:
                raise _Odd
            previous = key
            found.append((key[:REVISION_SIZE], child))
        return found

    # ---- leaves ----------------------------------------------------------------------------------

    def feed(self, offset: int, data: bytes) -> None:
        """Look at the pages in the next piece of the file, which begins at a page."""
        if not self.is_plain:
            return
        first = offset // self._size
        ranks = self._rank[first : first + len(data) // self._size]
        at = -self._size
        try:
            for number, rank in enumerate(ranks, first):
                at += self._size
                if rank and rank != _TAKEN:
                    self._leaf(number, rank, data, at)
        except (_Odd, DamagedAt, struct.error, IndexError):
            self.is_plain = False

    def _leaf(self, number: int, rank: int, data: bytes, at: int) -> None:
        found, flags, count, overflow = self._header.unpack_from(data, at)
        if found != number or flags != LEAF or not count or number < self._skip_until:
            raise _Odd
        if overflow:
            data, at = self._large(number, overflow, data, at)
        rows = self._rows[count] if count < 65 else struct.Struct(f"{self._order}{count * 4}I")
        fields = rows.unpack_from(data, at + HEADER_SIZE)
        end, first, last = self._elements(fields, data, at)
        here = rank * REVISION_SIZE
        upper = self._bounds[here : here + REVISION_SIZE] or _ABOVE_ALL
        if first < self._bounds[here - REVISION_SIZE : here] or last >= upper or last[0] > 127:
            raise _Odd
        if end > at + (1 + overflow) * self._size:
            raise _Odd
        self.records += count
        self._seen += 1

    @property
    def _order(self) -> str:
        return self._db.layout.order

    def _large(self, number: int, overflow: int, data: bytes, at: int) -> tuple[bytes, int]:
        """The whole of a page that goes on in the pages behind it, and where it begins."""
        self._skip_until = number + 1 + overflow
        if any(self._rank[number + 1 : self._skip_until]):
            raise _Odd
        size = (1 + overflow) * self._size
        if size > _LARGEST_PAGE or self._skip_until > self._db.meta.high_water:
            raise _Odd
        if at + size <= len(data):
            return data, at
        return self._db.file.read(number * self._size, size), 0

    def _elements(self, fields: tuple[Any, ...], data: bytes, at: int) -> tuple[int, bytes, bytes]:
        """Check and count the elements of a leaf; (where they end, the first and the last key).

        Keys and values follow each other without gaps in the order of the rows. A tombstone's mark
        is left out of its key here: no two records have the same revision.
        """
        row, pos = at + HEADER_SIZE, at + HEADER_SIZE + 4 * len(fields)
        sizes, lengths = fields[2::4], fields[3::4]
        puts = sizes.count(REVISION_SIZE)
        if any(fields[::4]) or puts + sizes.count(_TOMBSTONE_SIZE) != len(sizes):
            raise _Odd
        first, previous = data[pos : pos + REVISION_SIZE], b""
        for rel, size, length in zip(fields[1::4], sizes, lengths):
            key = data[pos : pos + REVISION_SIZE]
            if row + rel != pos or key <= previous or key[8] != _SEPARATOR:
                raise _Odd
            previous = key
            pos += size + length
            row += _ROW
        if previous <= self._compacted and puts == len(sizes):
            # An empty record is what --bump-revision leaves to raise the revision.
            self.live += puts - lengths.count(0)
        else:
            self._count(data, at + HEADER_SIZE + 4 * len(fields), sizes, lengths)
        return pos, first, previous

    def _count(
        self, data: bytes, at: int, sizes: tuple[int, ...], lengths: tuple[int, ...]
    ) -> None:
        """Count what is live of elements some of which are new, or tombstones."""
        for size, length in zip(sizes, lengths):
            is_old = data[at : at + REVISION_SIZE] <= self._compacted
            at += size
            if size == REVISION_SIZE:
                self.live += length > 0 and (is_old or _creates(data, at))
            elif data[at - 1] != _TOMBSTONE_MARK:
                raise _Odd
            elif not is_old:
                self.live -= 1
            at += length


def _creates(data: bytes, at: int) -> bool:
    """Whether the mvccpb.KeyValue there created its key: create_revision equals mod_revision."""
    length = data[at + 1]
    after = at + 2 + length
    if length > 127:
        if data[at + 2] > 127:
            raise _Odd  # a key of 16 KiB and more
        after = at + 3 + (length & 127 | data[at + 2] << 7)
    if data[at] != _KEY_TAG or data[after] != _CREATED_TAG:
        raise _Odd
    end = after + 1
    while data[end] > 127:
        end += 1
    end += 1
    if data[end] != _MODIFIED_TAG:
        raise _Odd
    return data[after + 1 : end] == data[end + 1 : end + end - after]
