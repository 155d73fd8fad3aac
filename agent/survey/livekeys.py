"""Streams the live keys of etcd's key space out of a database file, newest change first."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import NamedTuple

from agent.etcd import protobuf
from agent.host import Host
from agent.survey.bbolt import Database, Element, Page
from agent.survey.schema import parse_revision

_HEAD = 4096
_MAX_KEY = 2 * 1024 * 1024
_MASK = (1 << 64) - 1
_FIRST_TAG = 0x0A  # field 1 (key) of mvccpb.KeyValue, length-delimited; always written first


class LiveKey(NamedTuple):
    """A key that exists at the newest revision: its name, and the revision of its last change."""

    key: bytes
    revision: int


def iter_keys(host: Host, path: str) -> Iterator[LiveKey]:
    """Each live key once, the one changed last first. Values are not read.

    The key space is kept in the order of revisions, so it is read backwards: the first record met
    of a key is its newest. What is remembered of the keys met: see Newest. A
    record without content is none: `restore --bump-revision` leaves one to raise the revision.
    Values are not read. Raises FileNotFoundError, DamagedAt.
    """
    with Database(host, path) as db:
        keys = db.bucket("key")
        if keys is None:
            return
        newest = Newest(finished_compaction(db))
        for page, element in keys.walk(backwards=True):
            revision = parse_revision(db, element.key)
            if not element.size:
                continue
            key = _user_key(page, element)
            if newest.is_first(key, revision.main) and not revision.tombstone:
                yield LiveKey(key, revision.main)


def finished_compaction(db: Database) -> int:
    """The revision that was compacted to the end; 0 for none. Raises DamagedAt."""
    meta = db.bucket("meta")
    value = meta.get(b"finishedCompactRev") if meta else None
    return parse_revision(db, value).main if value else 0


class Newest:
    """Tells, of records met backwards, the newest of each key, and remembers little for it.

    A compaction leaves of each key one record at or below its revision: such a record is new unless
    a later one was met. So only keys changed since are remembered, 64 bits of a hash of each (8 to
    16 bytes: a million keys in 16 MiB); two of a million are taken for one with a chance of
    1 : 3*10**7.
    """

    def __init__(self, compacted: int) -> None:
        self._compacted, self._seen = compacted, HashSet()

    def is_first(self, key: bytes, revision: int) -> bool:
        """Whether no later record of this key was met."""
        value = hash(key) & _MASK
        return value not in self._seen if revision <= self._compacted else self._seen.add(value)


def count_live_keys(host: Host, path: str, prefix: bytes = b"") -> int:
    """How many keys that begin with `prefix` exist at the newest revision. Raises as iter_keys."""
    return sum(1 for live in iter_keys(host, path) if live.key.startswith(prefix))


def _user_key(page: Page, element: Element) -> bytes:
    """The key in the mvccpb.KeyValue that is the element's value."""
    head = page.slice(element.offset, min(_HEAD, element.size))
    try:
        if head[:1] != bytes([_FIRST_TAG]):
            raise protobuf.Malformed("proto: a KeyValue without key")
        length, at = protobuf.varint(head, 1)
    except protobuf.Malformed as error:
        raise page.damaged(f"page {page.id}: {error.reason}") from None
    if length > _MAX_KEY or at + length > element.size:
        raise page.damaged(f"page {page.id}: a key of {length} bytes")
    if at + length <= len(head):
        return head[at : at + length]
    return page.slice(element.offset + at, length)


class HashSet:
    """A set of 64-bit numbers at 8 bytes a slot, at most two thirds full (0 marks a free slot)."""

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * 4096))
        self._count = 0

    def add(self, value: int) -> bool:
        """Add it; False if it was there."""
        value = value or 1
        if not self._insert(value):
            return False
        self._count += 1
        if self._count * 3 > len(self._slots) * 2:
            self._grow()
        return True

    def __contains__(self, value: int) -> bool:
        value = value or 1
        slots = self._slots
        mask = len(slots) - 1
        at = value & mask
        while slots[at]:
            if slots[at] == value:
                return True
            at = (at + 1) & mask
        return False

    def _insert(self, value: int) -> bool:
        slots = self._slots
        mask = len(slots) - 1
        at = value & mask
        while slots[at]:
            if slots[at] == value:
                return False
            at = (at + 1) & mask
        slots[at] = value
        return True

    def _grow(self) -> None:
        old = self._slots
        self._slots = array("Q", bytes(8)) * (2 * len(old))
        for value in old:
            if value:
                self._insert(value)
