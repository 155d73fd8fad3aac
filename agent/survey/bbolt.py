"""Reads a bbolt database file page by page: metas, buckets, keys in order. Never writes or maps it.

Format: bbolt's internal/common/{page,meta,bucket,inode}.go; words of the errors from there too. The
file is pages of one size, numbered from 0; pages 0 and 1 are metas, the valid one with the higher
transaction number counts. Integers are in the byte order of the machine that wrote the file. A page
may be followed by `overflow` more that hold the rest of it. Branch elements are (offset, key size,
page), leaf elements (flags, offset, key size, value size), offsets counted from the element itself.
A bucket is a leaf value (root page, sequence); root 0: its only page follows inside the value.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Optional

from agent.host import Host
from agent.survey.positioned import DamagedAt, PositionedFile

MAGIC = 0xED0CDAED
VERSION = 2
BRANCH, LEAF = 0x01, 0x02
BUCKET_FLAG = 0x01
NO_FREELIST = (1 << 64) - 1
HEADER_SIZE = 16
MAX_DEPTH = 40  # pages hold two keys or more, so no real tree comes near

_META_SIZE = 64
_CHECKSUMMED = 56
_MIN_PAGE, _MAX_PAGE = 1024, 1024 << 14  # the page sizes that bbolt itself tries
_KEEP = 64 * 1024
_MAX_KEY = 32768  # bbolt's MaxKeySize
_FNV_OFFSET, _FNV_PRIME, _U64 = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1


class _Layout:
    """The structures in one byte order."""

    def __init__(self, order: str) -> None:
        self.order = order
        self.meta = struct.Struct(order + "4I6Q")
        self.header = struct.Struct(order + "QHHI")
        self.branch = struct.Struct(order + "IIQ")
        self.leaf = struct.Struct(order + "IIII")
        self.bucket = struct.Struct(order + "QQ")
        self.number = struct.Struct(order + "Q")


_LAYOUTS = (_Layout("<"), _Layout(">"))


@dataclass(frozen=True)
class Meta:
    """A valid meta page. high_water: number of pages in use or free; freelist: or NO_FREELIST."""

    page_size: int
    root: int
    freelist: int
    high_water: int
    txid: int


class Element(NamedTuple):
    """A leaf element; offset and size place its value in the page."""

    key: bytes
    is_bucket: bool
    offset: int
    size: int


class Page:
    """A branch or leaf page, checked: every element lies inside it. Holds at most 64 KiB."""

    def __init__(self, db: Database, place: int, size: int, data: bytes) -> None:
        """`data`: the first bytes of the page, 16 or more; what lies behind them is read on demand.

        Raises DamagedAt where the elements do not fit into `size` bytes.
        """
        self.db, self.place, self.size = db, place, size
        self._data, self._layout = data, db.layout
        self.id, self.flags, self.count, self.overflow = self._layout.header.unpack_from(data)
        self.is_leaf = self.flags == LEAF
        self._row = self._layout.leaf.size if self.is_leaf else self._layout.branch.size
        if HEADER_SIZE + self.count * self._row > size:
            raise self.damaged(f"page {self.id}: {self.count} elements do not fit")

    def damaged(self, reason: str) -> DamagedAt:
        """An error at this page."""
        return DamagedAt(self.db.file.path, self.place, reason)

    def slice(self, offset: int, length: int) -> bytes:
        """Bytes of the page. Raises DamagedAt where they are not inside it."""
        end = offset + length
        if end <= len(self._data):
            return self._data[offset:end]
        if end > self.size:
            raise self.damaged(f"page {self.id}: element out of bounds")
        data = self.db.file.read(self.place + offset, length)
        if len(data) < length:
            raise self.damaged(f"page {self.id}: behind the end of the file")
        return data

    def key(self, at: int) -> bytes:
        """The key of element `at`."""
        row = HEADER_SIZE + at * self._row
        if self.is_leaf:
            _, pos, size, _ = self._layout.leaf.unpack(self.slice(row, self._row))
        else:
            pos, size, _ = self._layout.branch.unpack(self.slice(row, self._row))
        return self._key(row + pos, size)

    def _key(self, offset: int, size: int) -> bytes:
        if not 0 < size <= _MAX_KEY or offset < HEADER_SIZE + self.count * self._row:
            raise self.damaged(f"page {self.id}: key of {size} bytes at {offset}")
        return self.slice(offset, size)

    def child(self, at: int) -> int:
        """The page number that branch element `at` leads to."""
        row = HEADER_SIZE + at * self._row
        page: int = self._layout.branch.unpack(self.slice(row, self._row))[2]
        return page

    def element(self, at: int) -> Element:
        """Leaf element `at`, its value not read."""
        row = HEADER_SIZE + at * self._row
        flags, pos, ksize, vsize = self._layout.leaf.unpack(self.slice(row, self._row))
        key = self._key(row + pos, ksize)
        offset = row + pos + ksize
        if offset + vsize > self.size:
            raise self.damaged(f"page {self.id}: value of {vsize} bytes at {offset}")
        return Element(key, bool(flags & BUCKET_FLAG), offset, vsize)

    def search(self, key: bytes) -> int:
        """The number of elements whose key is <= `key`."""
        low, high = 0, self.count
        while low < high:
            middle = (low + high) // 2
            if self.key(middle) <= key:
                low = middle + 1
            else:
                high = middle
        return low


class Database:
    """A bbolt file at one transaction: the one its metas showed when it was opened.

    Pages of that transaction may be reused while etcd goes on writing; `is_current` tells whether
    what was read since can be trusted.
    """

    def __init__(self, host: Host, path: str) -> None:
        """Raises FileNotFoundError; DamagedAt where no meta is valid or the file is too short."""
        self.file = PositionedFile(host, path)
        try:
            self.layout, self.meta = self._newest_meta()
            self._require_length()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self.file.__exit__(None, None, None)

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def is_current(self) -> bool:
        """No transaction was committed since the file was opened."""
        try:
            return self._newest_meta()[1].txid == self.meta.txid
        except DamagedAt:
            return False

    def root(self) -> Bucket:
        """The bucket of the top-level buckets."""
        return Bucket(self, self.page(self.meta.root))

    def bucket(self, name: str) -> Optional[Bucket]:
        """The top-level bucket of that name, or None."""
        return self.root().bucket(name.encode())

    def page(self, number: int) -> Page:
        """A branch or leaf page. Raises DamagedAt where it is none, or lies outside the file."""
        size = self.meta.page_size
        place = number * size
        if not 2 <= number < self.meta.high_water:
            raise DamagedAt(
                self.file.path,
                min(place, self.file.size),
                f"page {number}: out of bounds: {self.meta.high_water}",
            )
        data = self.file.read(place, min(size, _KEEP))
        if len(data) < HEADER_SIZE:
            raise DamagedAt(self.file.path, place, f"page {number}: behind the end of the file")
        found, flags, _, overflow = self.layout.header.unpack_from(data)
        if found != number:
            reason = f"Page expected to be: {number}, but self identifies as {found}"
            raise DamagedAt(self.file.path, place, reason)
        if flags not in (BRANCH, LEAF):
            reason = f"page {number}: has unexpected type/flags: {flags:x}"
            raise DamagedAt(self.file.path, place, reason)
        if number + overflow >= self.meta.high_water:
            reason = f"page {number}: overflow of {overflow} pages is out of bounds"
            raise DamagedAt(self.file.path, place, reason)
        return Page(self, place, (1 + overflow) * size, data)

    # ---- metas ---------------------------------------------------------------------------------

    def _newest_meta(self) -> tuple[_Layout, Meta]:
        found = [self._meta_at(0)]
        sizes = [found[0][1].page_size] if found[0] else _page_sizes(self.file.size)
        for size in sizes:
            second = self._meta_at(size)
            if second is not None and second[1].page_size == size:
                found.append(second)
                break
        valid = [meta for meta in found if meta is not None]
        if not valid:
            raise DamagedAt(self.file.path, 0, self._why_no_meta())
        return max(valid, key=lambda meta: meta[1].txid)

    def _meta_at(self, place: int) -> Optional[tuple[_Layout, Meta]]:
        raw = self.file.read(place + HEADER_SIZE, _META_SIZE)
        if len(raw) < _META_SIZE:
            return None
        for layout in _LAYOUTS:
            magic, version, size, _, root, _, freelist, high, txid, checksum = layout.meta.unpack(
                raw
            )
            if magic != MAGIC or version != VERSION or checksum != fnv1a(raw[:_CHECKSUMMED]):
                continue
            if _MIN_PAGE <= size <= _MAX_PAGE and size & (size - 1) == 0:
                return layout, Meta(size, root, freelist, high, txid)
        return None

    def _why_no_meta(self) -> str:
        raw = self.file.read(HEADER_SIZE, _META_SIZE)
        if len(raw) < _META_SIZE:
            return f"invalid database: a file of {self.file.size} bytes has no meta page"
        magic, version, *_, checksum = _LAYOUTS[0].meta.unpack(raw)
        if magic != MAGIC:
            return f"invalid database: magic {magic:08x} in both meta pages"
        if version != VERSION:
            return f"version mismatch: {version}"
        computed = fnv1a(raw[:_CHECKSUMMED])
        return f"checksum error: expected: {checksum:016x} computed: {computed:016x}, in both metas"

    def _require_length(self) -> None:
        needed = self.meta.high_water * self.meta.page_size
        size = self.file.stamp()[1]
        if size < needed:
            reason = f"the file ends here; its {self.meta.high_water} pages need {needed} bytes"
            raise DamagedAt(self.file.path, size, reason)


class Bucket:
    """The keys below one root page."""

    def __init__(self, db: Database, root: Page) -> None:
        self.db, self._root = db, root

    def bucket(self, name: bytes) -> Optional[Bucket]:
        """The bucket of that name in this one, or None. Raises DamagedAt."""
        found = self._find(name)
        if found is None:
            return None
        page, element = found
        if not element.is_bucket:
            raise page.damaged(f"incompatible value: {name.decode(errors='replace')} is no bucket")
        return open_bucket(self.db, page, element)

    def get(self, key: bytes, limit: int = 1024 * 1024) -> Optional[bytes]:
        """The value of a key, or None. Raises DamagedAt, also above `limit` bytes."""
        found = self._find(key)
        if found is None or found[1].is_bucket:
            return None
        return _value(*found, limit)

    def last_key(self) -> Optional[bytes]:
        """The greatest key, or None in an empty bucket; reads one page per level."""
        for _, element in self.walk(backwards=True):
            return element.key
        return None

    def items(self, limit: int = 1024 * 1024) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) in order, without nested buckets. Raises DamagedAt."""
        for page, element in self.walk():
            if not element.is_bucket:
                yield element.key, _value(page, element, limit)

    def walk(self, backwards: bool = False) -> Iterator[tuple[Page, Element]]:
        """(page, element) of every leaf element in order; one page per level is held.

        Raises DamagedAt at a bad page, at keys out of order, and where more pages are met than the
        file has, so any garbage comes to an end.
        """
        step = -1 if backwards else 1
        previous = None
        for page in self.leaves(backwards):
            for at in range(page.count)[::step]:
                element = page.element(at)
                if previous is not None and (element.key >= previous) != (step > 0):
                    raise page.damaged(f"page {page.id}: keys are not in order")
                if element.key == previous:
                    raise page.damaged(f"page {page.id}: the same key twice")
                previous = element.key
                yield page, element

    def leaves(self, backwards: bool = False) -> Iterator[Page]:
        """Every leaf page in order; one page per level is held. Raises DamagedAt as `walk` does."""
        step = -1 if backwards else 1
        stack: list[tuple[Page, int]] = [(self._root, self._first(self._root, step))]
        visits = 0
        while stack:
            page, at = stack.pop()
            if page.is_leaf:
                yield page
            elif 0 <= at < page.count:
                visits += 1
                stack.append((page, at + step))
                child = self._descend(page, at, len(stack), visits)
                stack.append((child, self._first(child, step)))

    @staticmethod
    def _first(page: Page, step: int) -> int:
        return 0 if step > 0 else page.count - 1

    def _descend(self, page: Page, at: int, depth: int, visits: int) -> Page:
        if depth > MAX_DEPTH:
            raise page.damaged(f"page {page.id}: the tree is deeper than {MAX_DEPTH} levels")
        if visits > self.db.meta.high_water:
            raise page.damaged(f"page {page.id}: multiple references")
        return self.db.page(page.child(at))

    def _find(self, key: bytes) -> Optional[tuple[Page, Element]]:
        page = self._root
        for depth in range(MAX_DEPTH + 2):
            at = page.search(key) - 1
            if page.is_leaf:
                if at < 0:
                    return None
                element = page.element(at)
                return (page, element) if element.key == key else None
            if page.count == 0:
                raise page.damaged(f"page {page.id}: a branch without elements")
            page = self._descend(page, max(at, 0), depth, depth)
        raise page.damaged(f"page {page.id}: the tree is deeper than {MAX_DEPTH} levels")


def open_bucket(db: Database, page: Page, element: Element) -> Bucket:
    """The bucket that a leaf element of `page` holds. Raises DamagedAt."""
    size = db.layout.bucket.size
    if element.size < size:
        raise page.damaged(f"page {page.id}: a bucket of {element.size} bytes")
    root, _ = db.layout.bucket.unpack(page.slice(element.offset, size))
    if root:
        return Bucket(db, db.page(root))
    # bbolt keeps a bucket inside the value only up to a quarter of a page.
    if not size + HEADER_SIZE <= element.size <= db.meta.page_size:
        raise page.damaged(f"page {page.id}: an inline bucket of {element.size} bytes")
    raw = page.slice(element.offset + size, element.size - size)
    inline = Page(db, page.place + element.offset + size, len(raw), raw)
    if not inline.is_leaf:
        raise page.damaged(f"page {page.id}: an inline bucket with flags {inline.flags:x}")
    return Bucket(db, inline)


def fnv1a(data: bytes) -> int:
    """The 64-bit FNV-1a hash (Go's hash/fnv New64a)."""
    value = _FNV_OFFSET
    for byte in data:
        value = ((value ^ byte) * _FNV_PRIME) & _U64
    return value


def _page_sizes(file_size: int) -> list[int]:
    sizes = [_MIN_PAGE << shift for shift in range(15)]
    return [size for size in sizes if size < file_size]


def _value(page: Page, element: Element, limit: int) -> bytes:
    if element.size > limit:
        raise page.damaged(f"page {page.id}: a value of {element.size} bytes")
    return page.slice(element.offset, element.size)
