"""Verification against real snapshots: the numbers that etcd gives, and every kind of damage."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import pytest

from agent.errors import Refused, UsageError
from agent.host import Host
from agent.snapshot.verify import (
    MissingHash,
    SnapshotDamaged,
    SnapshotFacts,
    verify_snapshot,
)
from agent.survey.livekeys import count_live_keys
from tests.unit.etcd_lab import etcd_binaries, needs_etcd
from tests.unit.snapshot import real
from tests.unit.survey.make_bbolt import DbMaker, etcd_tree

BINARIES = etcd_binaries()


def verify(path: Path, no_hash_ok: bool = False) -> SnapshotFacts:
    return verify_snapshot(Host(), str(path), no_hash_ok)


def hashed(database: bytes) -> bytes:
    """A database as a snapshot file: with its hash."""
    return database + hashlib.sha256(database).digest()


@pytest.fixture(scope="module", params=BINARIES, ids=lambda path: Path(path).parent.parent.name)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small snapshot of each etcd: 3 live keys of 5 changes."""
    folder = tmp_path_factory.mktemp("saved")
    with real.single(folder, request.param) as node:
        real.put(node, (b"/registry/pods/a", b"1"))
        real.put(node, (b"/registry/pods/a", b"2"), (b"/registry/pods/b", b"3"))
        real.put(node, (b"/registry/secrets/c", b"4" * 9000))
        real.put(node, (b"/registry/gone", b""))
        real.delete(node, b"/registry/gone")
        return real.save(node, folder / "snap.db")


# ---- what it holds -------------------------------------------------------------------------------


@needs_etcd()
def test_says_what_the_snapshot_holds(saved: Path) -> None:
    facts = verify(saved)
    data = saved.read_bytes()
    assert (facts.keys, facts.records, facts.revision) == (3, 6, 6)
    assert facts.sha256 == hashlib.sha256(data).hexdigest()
    assert facts.size == len(data)
    assert (facts.kind, facts.is_hashed) == ("snapshot", True)
    assert [m.name for m in facts.members] == ["m0"]
    assert facts.etcd_version.startswith("3.")
    assert facts.cluster_id == ""


@needs_etcd()
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("binary", BINARIES, ids=lambda path: Path(path).parent.parent.name)
def test_counts_what_etcd_counts_after_any_history(binary: str, seed: int, tmp_path: Path) -> None:
    with real.single(tmp_path, binary) as node:
        real.random_history(node, seed, 250)
        expected = real.count_keys(node)
        path = real.save(node, tmp_path / "snap.db")
    said: list[str] = []
    facts = verify_snapshot(Host(), str(path), say=said.append)
    assert facts.keys == expected == count_live_keys(Host(), str(path))
    assert said == []  # counted in one pass, without the slow way


# ---- damage --------------------------------------------------------------------------------------


@needs_etcd()
def test_any_flipped_bit_is_rejected_with_an_offset(saved: Path, tmp_path: Path) -> None:
    data = bytearray(saved.read_bytes())
    path = tmp_path / "flipped.db"
    for at in places(len(data)):
        data[at] ^= 1 << at % 8
        path.write_bytes(data)
        data[at] ^= 1 << at % 8
        with pytest.raises(SnapshotDamaged) as caught:
            verify(path)
        assert 0 <= caught.value.damage.offset <= len(data)
        assert "offset" in str(caught.value)


def places(size: int) -> list[int]:
    """Bytes of every region: metas, head and tail of every page, the whole hash, and at random."""
    found = set(range(0, 128)) | set(range(size - 33, size))
    for page in range(0, size, 4096):
        found |= {page, page + 8, page + 10, page + 12, page + 20, page + 2048}
    found |= set(random.Random(7).sample(range(size), 300))
    return sorted(at for at in found if at < size)


@needs_etcd()
def test_every_truncation_is_rejected(saved: Path, tmp_path: Path) -> None:
    data = saved.read_bytes()
    path = tmp_path / "short.db"
    path.write_bytes(data)
    for size in sizes(len(data)):
        os.truncate(path, size)
        with pytest.raises(SnapshotDamaged) as caught:
            verify(path)
        assert caught.value.damage.offset <= size
    path.write_bytes(data + b"\0")
    with pytest.raises(SnapshotDamaged):
        verify(path)


def sizes(size: int) -> list[int]:
    """Falling: the last 1200 bytes one by one; sectors and sectors with 32 more; and at random."""
    found = set(range(size - 1200, size)) | set(range(0, 600))
    for sector in range(0, size, 512):
        found |= {sector, sector + 32}
    found |= set(random.Random(3).sample(range(size), 500))
    return sorted((at for at in found if 0 <= at < size), reverse=True)


@needs_etcd()
def test_a_missing_hash_is_refused_unless_named(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "bare.db"
    path.write_bytes(saved.read_bytes()[:-32])
    with pytest.raises(MissingHash) as caught:
        verify(path)
    assert "--no-hash-ok" in caught.value.next
    facts = verify(path, no_hash_ok=True)
    assert (facts.kind, facts.is_hashed, facts.keys) == ("copy", False, 3)


@needs_etcd()
def test_without_a_hash_the_pages_are_checked(saved: Path, tmp_path: Path) -> None:
    data = bytearray(saved.read_bytes()[:-32])
    path = tmp_path / "bare.db"
    root = int.from_bytes(data[16 + 16 : 16 + 24], "little")
    for page in {2, root}:
        damaged = bytearray(data)
        damaged[root * 4096 + 8] ^= 0xFF
        path.write_bytes(damaged)
        with pytest.raises(SnapshotDamaged) as caught:
            verify(path, no_hash_ok=True)
        assert caught.value.damage.offset == root * 4096, page
    for pages in range(len(data) // 4096):
        path.write_bytes(data[: pages * 4096])
        with pytest.raises(SnapshotDamaged):
            verify(path, no_hash_ok=True)


# ---- databases written byte by byte --------------------------------------------------------------


@pytest.mark.parametrize("page_size", [1024, 4096, 16384, 65536])
@pytest.mark.parametrize("order", ["<", ">"])
def test_any_page_size_and_byte_order(page_size: int, order: str, tmp_path: Path) -> None:
    path = tmp_path / "snap.db"
    path.write_bytes(hashed(DbMaker(page_size=page_size, order=order).file(etcd_tree(200))))
    facts = verify(path)
    assert (facts.keys, facts.records, facts.revision) == (7, 200, 201)
    assert facts.storage_version == "3.6.0"
    assert (facts.term, facts.index) == (2, 30)


def test_a_valid_hash_over_a_damaged_tree_is_no_valid_snapshot(tmp_path: Path) -> None:
    maker = DbMaker()
    data = bytearray(maker.file(etcd_tree(200)))
    page = maker.places[b"key"][3]
    data[page * 4096] ^= 1
    path = tmp_path / "snap.db"
    path.write_bytes(hashed(bytes(data)))
    with pytest.raises(SnapshotDamaged) as caught:
        verify(path)
    assert caught.value.damage.offset == page * 4096


def test_an_empty_key_space(tmp_path: Path) -> None:
    path = tmp_path / "snap.db"
    path.write_bytes(hashed(DbMaker().file({b"key": {}, b"meta": {}})))
    assert verify(path).keys == 0


# ---- what is no snapshot -------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 31, 32, 512, 544, 4096, 4128, 1_000_000])
@pytest.mark.parametrize("no_hash_ok", [False, True])
def test_garbage_of_any_size(size: int, no_hash_ok: bool, tmp_path: Path) -> None:
    path = tmp_path / "snap.db"
    path.write_bytes(random.Random(size).randbytes(size))
    with pytest.raises(SnapshotDamaged):
        verify(path, no_hash_ok=no_hash_ok)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        verify(tmp_path / "nothing")
    with pytest.raises(Refused, match="a directory"):
        verify(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Refused, match="not a regular file"):
        verify(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="no directory"):
        verify(tmp_path / "file" / "snap.db")
