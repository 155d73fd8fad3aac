"""bbolt pages: metas, buckets, order, and any garbage."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import Damaged
from agent.host import Host
from agent.survey.bbolt import Bucket, Database, fnv1a
from agent.survey.dbcheck import check_db
from agent.survey.positioned import DamagedAt
from tests.unit.survey.make_bbolt import DbMaker, Tree, meta_page

FUZZ = settings(
    deadline=3000,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
KEYS = {b"k%03d" % at: b"value %d" % at for at in range(100)}


def write(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "db"
    path.write_bytes(data)
    return str(path)


def walk_everything(path: str) -> int:
    """Read every key of every bucket forwards and backwards; their number."""
    total = 0
    with Database(Host(), path) as db:
        todo: list[Bucket] = [db.root()]
        while todo and total < 10000:
            bucket = todo.pop()
            for _ in bucket.walk(backwards=True):
                pass
            for _, element in bucket.walk():
                total += 1
                if element.is_bucket:
                    nested = bucket.bucket(element.key)
                    assert nested is not None
                    todo.append(nested)
                else:
                    bucket.get(element.key)
    return total


def test_fnv1a_vectors() -> None:
    assert [fnv1a(text) for text in (b"", b"a", b"foobar")] == [
        0xCBF29CE484222325,
        0xAF63DC4C8601EC8C,
        0x85944171F73967E8,
    ]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("page_size", [1024, 4096, 65536])
@pytest.mark.parametrize("per_leaf", [2, 5, 40])
@pytest.mark.parametrize("inline_below", [0, 256])
def test_reads_back_what_was_laid_out(
    tmp_path: Path, order: str, page_size: int, per_leaf: int, inline_below: int
) -> None:
    big = {b"a": b"x" * 9000, b"b": b"y" * 30000, b"c": b""}
    tree: Tree = {
        b"big": big,
        b"empty": {},
        b"many": KEYS,
        b"nested": {b"in": {b"k": b"v"}, b"p": b"q"},
    }
    maker = DbMaker(page_size, order, per_leaf, inline_below)
    path = write(tmp_path, maker.file(tree, txid=9))
    with Database(Host(), path) as db:
        assert (db.meta.page_size, db.meta.txid, db.is_current()) == (page_size, 9, True)
        many, nested = db.bucket("many"), db.bucket("nested")
        assert many is not None
        assert nested is not None
        assert list(many.items()) == sorted(KEYS.items())
        assert [e.key for _, e in many.walk(backwards=True)] == sorted(KEYS, reverse=True)
        assert many.last_key() == b"k099"
        assert all(many.get(key) == value for key, value in KEYS.items())
        assert [many.get(key) for key in (b"", b"k", b"k0505", b"z")] == [None] * 4
        inner = nested.bucket(b"in")
        assert inner is not None
        assert inner.get(b"k") == b"v"
        assert [key for key, _ in nested.items()] == [b"p"]
        assert db.bucket("absent") is None
        empty, large = db.bucket("empty"), db.bucket("big")
        assert empty is not None
        assert large is not None
        assert (empty.last_key(), list(empty.items())) == (None, [])
        assert dict(large.items()) == big
        with pytest.raises(DamagedAt, match="30000 bytes"):
            large.get(b"b", limit=1000)
        with pytest.raises(DamagedAt, match="p is no bucket"):
            nested.bucket(b"p")
    assert check_db(Host(), path) == []


# ---- metas ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("txid", [6, 7])
def test_bad_newer_meta_falls_back_to_the_older(tmp_path: Path, txid: int) -> None:
    data = bytearray(DbMaker().file({b"many": KEYS}, txid))
    data[(txid % 2) * 4096 + 30] ^= 1
    with Database(Host(), write(tmp_path, bytes(data))) as db:
        assert db.meta.txid == txid - 1


@pytest.mark.parametrize("page_size", [1024, 16384])
def test_page_size_is_found_without_the_first_meta(tmp_path: Path, page_size: int) -> None:
    data = bytearray(DbMaker(page_size).file({b"many": KEYS}))
    data[:page_size] = bytes(page_size)
    with Database(Host(), write(tmp_path, bytes(data))) as db:
        assert db.meta.page_size == page_size
        assert db.bucket("many") is not None


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (16, 0, "invalid database: magic"),
        (20, 9, "version mismatch: 9"),
        (72, 0xFF, "checksum error"),
    ],
)
def test_no_valid_meta(tmp_path: Path, at: int, value: int, reason: str) -> None:
    data = bytearray(DbMaker().file({b"many": KEYS}))
    for page in (0, 4096):
        data[page + at] = value
    path = write(tmp_path, bytes(data))
    with pytest.raises(DamagedAt, match=reason):
        Database(Host(), path)
    (damage,) = check_db(Host(), path)
    assert (damage.offset, damage.file) == (0, path)


@pytest.mark.parametrize("size", [0, 10, 79, 100])
def test_file_without_room_for_a_meta(tmp_path: Path, size: int) -> None:
    with pytest.raises(Damaged):
        Database(Host(), write(tmp_path, bytes(size)))


def test_file_shorter_than_its_pages(tmp_path: Path) -> None:
    data = DbMaker().file({b"many": KEYS})
    with pytest.raises(DamagedAt) as error:
        Database(Host(), write(tmp_path, data[:-1]))
    assert error.value.damage.offset == len(data) - 1
    assert "the file ends here" in error.value.damage.reason


# ---- pages ---------------------------------------------------------------------------------------


def spoiled(tmp_path: Path, page_offset: int, patch: bytes) -> tuple[str, int, DamagedAt]:
    """The error of a walk where the first page of bucket `many` is patched."""
    maker = DbMaker()
    data = bytearray(maker.file({b"many": KEYS}))
    page = maker.places[b"many"][0]
    place = page * 4096 + page_offset
    data[place : place + len(patch)] = patch
    path = write(tmp_path, bytes(data))
    with pytest.raises(DamagedAt) as error:
        walk_everything(path)
    assert error.value.damage in check_db(Host(), path) or check_db(Host(), path)
    return path, page, error.value


@pytest.mark.parametrize(
    ("offset", "patch", "reason"),
    [
        (0, struct.pack("<Q", 99), "Page expected to be: 2, but self identifies as 99"),
        (8, b"\x03\x00", "page 2: has unexpected type/flags: 3"),
        (8, b"\x10\x00", "page 2: has unexpected type/flags: 10"),
        (10, b"\xff\xff", "page 2: 65535 elements do not fit"),
        (12, b"\xff\xff\xff\xff", "page 2: overflow of 4294967295 pages is out of bounds"),
        (20, b"\xff\xff\x00\x00", "page 2: element out of bounds"),
        (24, b"\x00\x00\x00\x00", "page 2: key of 0 bytes"),
        (24, b"\xff\xff\xff\xff", "page 2: key of 4294967295 bytes"),
        (28, b"\xff\xff\xff\xff", "page 2: value of 4294967295 bytes"),
        (20, b"\x00\x00\x00\x00", "page 2: key of 4 bytes at 16"),
        (16 + 64, b"z", "keys are not in order"),
    ],
)
def test_bad_page(tmp_path: Path, offset: int, patch: bytes, reason: str) -> None:
    path, page, error = spoiled(tmp_path, offset, patch)
    assert error.damage.file == path
    assert error.damage.offset // 4096 in (page, page + 1)
    assert reason in error.damage.reason


def one_branch(tmp_path: Path, children: list[tuple[bytes, int]], leaves: int) -> str:
    """A root of one branch page (2) with these children; pages from 3 on are empty leaves."""
    pages = 3 + leaves
    body = b"".join(key for key, _ in children)
    elements, before = b"", 0
    for at, (key, child) in enumerate(children):
        pos = 16 * len(children) - 16 * at + before
        elements += struct.pack("<IIQ", pos, len(key), child)
        before += len(key)
    out = meta_page(0, 1024, 2, pages, 2) + meta_page(1, 1024, 2, pages, 1)
    out += (struct.pack("<QHHI", 2, 1, len(children), 0) + elements + body).ljust(1024, b"\0")
    for number in range(3, pages):
        out += struct.pack("<QHHI", number, 2, 0, 0).ljust(1024, b"\0")
    return write(tmp_path, out)


@pytest.mark.parametrize(
    ("children", "reason"),
    [
        ([(b"a", 2), (b"b", 2)], "multiple references"),
        ([(b"a%02d" % at, 3) for at in range(50)], "multiple references"),
        ([(b"a", 3), (b"b", 77)], "page 77: out of bounds: 5"),
        ([(b"a", 1)], "page 1: out of bounds: 5"),
    ],
)
def test_cycles_and_double_references_end(
    tmp_path: Path, children: list[tuple[bytes, int]], reason: str
) -> None:
    path = one_branch(tmp_path, children, leaves=2)
    with pytest.raises(DamagedAt, match=reason):
        walk_everything(path)
    assert check_db(Host(), path)


def test_check_finds_what_a_walk_of_one_bucket_cannot(tmp_path: Path) -> None:
    """Two buckets that share a page: each is in order by itself."""
    maker = DbMaker()
    data = maker.file({b"a": KEYS, b"b": KEYS})
    first, second = maker.places[b"a"][-1], maker.places[b"b"][-1]
    shared = data.replace(struct.pack("<QQ", second, 0), struct.pack("<QQ", first, 0))
    path = write(tmp_path, shared)
    assert walk_everything(path) > 200
    reasons = [damage.reason for damage in check_db(Host(), path)]
    assert f"page {first}: multiple references" in reasons


def test_check_stops_at_its_limit(tmp_path: Path) -> None:
    maker = DbMaker()
    data = bytearray(maker.file({b"many": KEYS}))
    for page in maker.places[b"many"][:10]:
        data[page * 4096] ^= 0xFF
    path = write(tmp_path, bytes(data))
    assert len(check_db(Host(), path)) == 10
    assert len(check_db(Host(), path, limit=3)) == 3


def with_freelist(tmp_path: Path, free: list[int], extra_pages: int = 3) -> str:
    """A database of one leaf, `extra_pages` unused pages, and a saved freelist."""
    maker = DbMaker(1024)
    data = bytearray(maker.file({b"many": {b"k": b"v"}}))
    place, pages = maker.next_page + extra_pages, maker.next_page + extra_pages + 1
    data += bytes(1024 * extra_pages)
    body = struct.pack(f"<QHHI{len(free)}Q", place, 0x10, len(free), 0, *free)
    data += body.ljust(1024, b"\0")
    for meta in (0, 1024):
        struct.pack_into("<QQ", data, meta + 16 + 32, place, pages)
        struct.pack_into("<Q", data, meta + 16 + 56, fnv1a(bytes(data[meta + 16 : meta + 72])))
    return write(tmp_path, bytes(data))


@pytest.mark.parametrize(
    ("free", "reasons"),
    [
        ([4, 5, 6], []),
        ([4, 6], ["page 5: unreachable unfreed"]),
        ([4, 5, 5, 6], ["page 5: already freed"]),
        ([2, 4, 5, 6], ["page 2: reachable freed"]),
        ([4, 5, 6, 900], ["page 900: free, and out of bounds"]),
    ],
)
def test_check_of_a_saved_freelist(tmp_path: Path, free: list[int], reasons: list[str]) -> None:
    assert [d.reason for d in check_db(Host(), with_freelist(tmp_path, free))] == reasons


# ---- properties ----------------------------------------------------------------------------------


@FUZZ
@given(data=st.binary(max_size=5000))
def test_any_bytes_are_damage(tmp_path: Path, data: bytes) -> None:
    path = write(tmp_path, data)
    with pytest.raises(Damaged):
        Database(Host(), path)
    assert check_db(Host(), path)


@FUZZ
@given(choice=st.data())
def test_mutations_never_hang_nor_raise_anything_else(
    tmp_path: Path, choice: st.DataObject
) -> None:
    tree: Tree = {b"inline": {b"a": b"b"}, b"many": KEYS, b"nested": {b"in": {b"k": b"v" * 2000}}}
    data = bytearray(DbMaker(1024, per_leaf=6, inline_below=200).file(tree))
    for _ in range(choice.draw(st.integers(1, 5))):
        page = choice.draw(st.integers(2, len(data) // 1024 - 1))
        at = page * 1024 + choice.draw(st.integers(0, 130))
        data[at] = choice.draw(st.integers(0, 255))
    path = write(tmp_path, bytes(data))
    found = check_db(Host(), path)
    try:
        walk_everything(path)
    except Damaged:
        assert found
