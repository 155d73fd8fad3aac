"""A check of every page of a bbolt file, in flat memory: one bit per page, one path of the tree."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from agent.host import Host
from agent.model.facts import Damage
from agent.survey.bbolt import HEADER_SIZE, MAX_DEPTH, NO_FREELIST, Database, Page
from agent.survey.positioned import DamagedAt

_FREELIST = 0x10
_CHUNK = 64 * 1024
_MAX_DEPTH_OF_BUCKETS = 8


def check_db(host: Host, path: str, limit: int = 100) -> list[Damage]:
    """Everything wrong with a database file, at most `limit` places; empty for an intact one.

    What bbolt's own check asserts (tx_check.go): every page reachable from the root lies below the
    high-water mark, names itself, is a branch or leaf, is referenced once and not free; keys are in
    order, within the bounds that the branch above gives; and, where the freelist is saved (etcd
    does not save it), every page is in use or free. Unlike bbolt it goes on behind a bad page and
    never panics. Meant for a file that nothing writes to. Raises FileNotFoundError.
    """
    try:
        db = Database(host, path)
    except DamagedAt as error:
        return [error.damage]
    with db:
        return TreeCheck(db, limit).run()


class _Full(Exception):
    """As many places as were asked for."""


@dataclass
class _Step:
    """A page on the path, with the element to look at next and the bounds for its keys."""

    page: Page
    below: Optional[bytes]
    previous: Optional[bytes]
    at: int = 0


@dataclass
class TreeCheck:
    """The check of one open database. apart: a bucket of the top level that is not gone into.

    root_apart: the root page of that bucket once `run` has met it; 0 where there is none, or where
    it lies inside the page above (and was checked there).
    """

    db: Database
    limit: int
    apart: bytes = b""
    found: list[Damage] = field(default_factory=list)
    root_apart: int = 0

    def __post_init__(self) -> None:
        size = self.db.meta.high_water // 8 + 1
        self.used, self._free = bytearray(size), bytearray(size)

    def run(self) -> list[Damage]:
        """Every damage up to the limit."""
        try:
            self._load_freelist()
            self._bucket(self.db.meta.root, 0)
            self._look_for_lost_pages()
        except _Full:
            pass
        return self.found

    def _report(self, place: int, reason: str) -> None:
        self.found.append(Damage(self.db.file.path, place, reason))
        if len(self.found) >= self.limit:
            raise _Full

    # ---- the tree --------------------------------------------------------------------------------

    def _bucket(self, root: int, nesting: int) -> None:
        first = self._open(root)
        if first is None:
            return
        path = [_Step(first, None, None)]
        while path:
            step = path[-1]
            if step.at >= step.page.count:
                path.pop()
                if path:
                    # The next branch key must be above all keys below the one before it.
                    path[-1].previous = step.previous
                continue
            child = self._element(step, nesting)
            if child is not None and len(path) > MAX_DEPTH:
                self._report(step.page.place, f"the tree is deeper than {MAX_DEPTH} levels")
            elif child is not None:
                path.append(child)

    def _element(self, step: _Step, nesting: int) -> Optional[_Step]:
        """Check one element; for a branch the step into its page."""
        page, at = step.page, step.at
        step.at += 1
        try:
            key = page.key(at)
            self._order(step, at, key)
            if page.is_leaf:
                step.previous = key
                self._leaf_element(page, at, nesting)
                return None
            below = page.key(at + 1) if at + 1 < page.count else step.below
            child = self._open(page.child(at))
        except DamagedAt as error:
            self._report(error.damage.offset, error.damage.reason)
            return None
        step.previous = key
        return _Step(child, below, key) if child is not None else None

    def _order(self, step: _Step, at: int, key: bytes) -> None:
        page, previous = step.page, step.previous
        kind = "leaf" if page.is_leaf else "branch"
        if previous is not None and (key < previous or (at > 0 and key == previous)):
            self._report(page.place, f"key[{at}] on {kind} page({page.id}): keys are not in order")
        if step.below is not None and key >= step.below:
            reason = f"key[{at}] on {kind} page({page.id}) is beyond the next key in its ancestor"
            self._report(page.place, reason)

    def _leaf_element(self, page: Page, at: int, nesting: int) -> None:
        element = page.element(at)
        if not element.is_bucket:
            return
        layout = self.db.layout
        if element.size < layout.bucket.size:
            raise page.damaged(f"page {page.id}: a bucket of {element.size} bytes")
        root, _ = layout.bucket.unpack(page.slice(element.offset, layout.bucket.size))
        if not root:
            self._inline(page, element.offset + layout.bucket.size, element.size)
        elif nesting >= _MAX_DEPTH_OF_BUCKETS:
            raise page.damaged(f"page {page.id}: buckets nested too deeply")
        elif not nesting and self.apart and element.key == self.apart:
            self.root_apart = root
        else:
            self._bucket(root, nesting + 1)

    def _inline(self, page: Page, offset: int, size: int) -> None:
        length = size - self.db.layout.bucket.size
        if not HEADER_SIZE <= length <= self.db.meta.page_size:
            raise page.damaged(f"page {page.id}: an inline bucket of {size} bytes")
        inline = Page(self.db, page.place + offset, length, page.slice(offset, length))
        step = _Step(inline, None, None)
        if not inline.is_leaf:
            raise page.damaged(f"page {page.id}: an inline bucket with flags {inline.flags:x}")
        for at in range(inline.count):
            key = inline.element(at).key
            self._order(step, at, key)
            step.previous = key

    def _open(self, number: int) -> Optional[Page]:
        """The page, if it is one and nothing led to it before."""
        try:
            page = self.db.page(number)
        except DamagedAt as error:
            self._report(error.damage.offset, error.damage.reason)
            return None
        if _bit(self._free, number):
            self._report(page.place, f"page {number}: reachable freed")
        for used in range(number, number + page.overflow + 1):
            if _set_bit(self.used, used):
                self._report(page.place, f"page {used}: multiple references")
                return None
        return page

    # ---- pages outside the tree ------------------------------------------------------------------

    def _load_freelist(self) -> None:
        for meta in (0, 1):
            _set_bit(self.used, meta)
        start = self.db.meta.freelist
        if start == NO_FREELIST:
            return
        size = self.db.meta.page_size
        head = self.db.file.read(start * size, HEADER_SIZE + 8) if start < self._pages() else b""
        if len(head) < HEADER_SIZE + 8:
            self._report(0, f"page {start}: the freelist is out of bounds")
            return
        number, flags, count, overflow = self.db.layout.header.unpack_from(head)
        if number != start or flags != _FREELIST or start + overflow >= self._pages():
            self._report(start * size, f"page {start}: invalid freelist page")
            return
        for used in range(start, start + overflow + 1):
            _set_bit(self.used, used)
        at, end = start * size + HEADER_SIZE, (start + 1 + overflow) * size
        if count == 0xFFFF:
            count, at = self._ids(head[HEADER_SIZE:])[0], at + 8
        if at + 8 * count > end:
            self._report(start * size, f"page {start}: {count} free pages do not fit")
            return
        self._read_freelist(at, at + 8 * count)

    def _read_freelist(self, at: int, end: int) -> None:
        while at < end:
            raw = self.db.file.read(at, min(_CHUNK, end - at))
            if not raw:
                return
            for number in self._ids(raw[: len(raw) & ~7]):
                if not 2 <= number < self._pages():
                    self._report(at, f"page {number}: free, and out of bounds")
                elif _set_bit(self._free, number):
                    self._report(at, f"page {number}: already freed")
            at += len(raw)

    def _ids(self, raw: bytes) -> tuple[int, ...]:
        return tuple(number for (number,) in self.db.layout.number.iter_unpack(raw))

    def _look_for_lost_pages(self) -> None:
        if self.db.meta.freelist == NO_FREELIST or self.found or self.root_apart:
            return
        for number in range(self._pages()):
            if not _bit(self.used, number) and not _bit(self._free, number):
                place = number * self.db.meta.page_size
                self._report(place, f"page {number}: unreachable unfreed")

    def _pages(self) -> int:
        return self.db.meta.high_water


def _bit(bits: bytearray, number: int) -> bool:
    return bool(bits[number >> 3] & (1 << (number & 7)))


def _set_bit(bits: bytearray, number: int) -> bool:
    """Set it; whether it was set before."""
    before = _bit(bits, number)
    bits[number >> 3] |= 1 << (number & 7)
    return before
