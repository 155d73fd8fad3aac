"""A whole data directory: the log, the database and the snapshot files together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Optional

import pytest

from agent.host import Host
from agent.model.facts import OfflineFacts
from agent.survey import crc32c
from agent.survey.offline import read_offline
from agent.survey.snapfiles import check_snapshot
from agent.survey.wal import Position
from tests.unit.survey.make_bbolt import DbMaker, etcd_tree
from tests.unit.survey.make_wal import WalMaker, numbers, small_log, text


def snap_file(directory: Path, term: int, index: int) -> Path:
    data = text(1, b"{}") + text(2, numbers(1, index, term))
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{term:016x}-{index:016x}.snap"
    path.write_bytes(numbers(crc32c.update(0, data)) + text(2, data))
    return path


def write_db(path: Path, index: int, revisions: int = 20) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(DbMaker().file(etcd_tree(revisions, index)))


def data_dir(
    root: Path, index: int = 30, snapshot: int = 0, wal: Optional[WalMaker] = None
) -> Path:
    """`root`/etcd with a log of 30 entries, a database at `index`, perhaps a snapshot file."""
    log = wal or small_log(entries=30, per_segment=10)
    if snapshot:
        log.snapshot(2, snapshot)
        snap_file(root / "etcd/member/snap", 2, snapshot)
    log.write(root / "etcd/member/wal")
    write_db(root / "etcd/member/snap/db", index)
    return root / "etcd"


def read(root: Path, wal_dir: str = "") -> OfflineFacts:
    return read_offline(Host(str(root)), "/etcd", wal_dir)


def reasons(facts: OfflineFacts) -> list[str]:
    return [damage.reason for damage in facts.damage]


def test_intact(tmp_path: Path) -> None:
    data_dir(tmp_path, snapshot=20)
    facts = read(tmp_path)
    assert facts.has_data
    assert facts.damage == ()
    assert facts.wal is not None
    assert facts.db is not None
    assert (facts.wal.last_index, facts.wal.snapshot_index, facts.wal.segments) == (30, 20, 3)
    assert (facts.db.consistent_index, len(facts.db.members)) == (30, 3)
    files = [p for p in (tmp_path / "etcd").rglob("*") if p.is_file()]
    assert facts.size == sum(p.stat().st_size for p in files)


def test_nothing_there(tmp_path: Path) -> None:
    assert read(tmp_path) == OfflineFacts("/etcd", has_data=False)
    (tmp_path / "etcd").mkdir()
    assert not read(tmp_path).has_data


def test_member_directory_of_a_failed_first_start(tmp_path: Path) -> None:
    snap = tmp_path / "etcd/member/snap"
    snap.mkdir(parents=True)
    (snap / "db").write_bytes(DbMaker().file({b"key": {}, b"meta": {}}))
    facts = read(tmp_path)
    assert (facts.has_data, facts.wal, facts.damage) == (True, None, ())


def test_log_elsewhere(tmp_path: Path) -> None:
    root = data_dir(tmp_path)
    (root / "member/wal").rename(tmp_path / "wal")
    before = read(tmp_path)
    assert reasons(before) == ["wal: file not found"]
    facts = read(tmp_path, "/wal")
    assert facts.damage == ()
    assert facts.wal is not None
    log_size = sum(p.stat().st_size for p in (tmp_path / "wal").iterdir())
    assert facts.size == before.size + log_size


def test_link_into_the_root(tmp_path: Path) -> None:
    data_dir(tmp_path / "disk")
    (tmp_path / "etcd").symlink_to("/disk/etcd")
    assert read(tmp_path).damage == ()


def test_database_missing(tmp_path: Path) -> None:
    (data_dir(tmp_path) / "member/snap/db").unlink()
    assert reasons(read(tmp_path)) == [
        "database file (/etcd/member/snap/db) of the backend is missing"
    ]


def test_database_ahead_of_the_log(tmp_path: Path) -> None:
    data_dir(tmp_path, index=31)
    assert reasons(read(tmp_path)) == [
        "the log ends at index 30, and the database holds 31: the end of the log was lost"
    ]


def test_torn_tail_is_no_damage(tmp_path: Path) -> None:
    root = data_dir(tmp_path)
    last = sorted((root / "member/wal").iterdir())[-1]
    os.truncate(last, last.stat().st_size - 4096 - 3)
    facts = read(tmp_path)
    assert facts.damage == ()
    assert facts.wal is not None
    assert facts.wal.torn_tail is not None
    assert facts.wal.torn_tail.file == f"/etcd/member/wal/{last.name}"


def test_damage_of_both_is_collected(tmp_path: Path) -> None:
    root = data_dir(tmp_path)
    first = sorted((root / "member/wal").iterdir())[0]
    os.truncate(first, 300)
    (root / "member/snap/db").write_bytes(b"")
    facts = read(tmp_path)
    assert facts.wal is not None
    assert facts.db is not None
    assert facts.damage == (facts.wal.damage, facts.db.damage)


# ---- snapshot files ------------------------------------------------------------------------------


def test_log_without_its_beginning_needs_a_snapshot_file(tmp_path: Path) -> None:
    root = data_dir(tmp_path, snapshot=20)
    oldest = sorted((root / "member/wal").iterdir())[0]
    oldest.unlink()
    assert read(tmp_path).damage == ()
    (root / f"member/snap/{2:016x}-{20:016x}.snap").unlink()
    (reason,) = reasons(read(tmp_path))
    assert reason.startswith("wal: file not found which matches the snapshot index '0'")


def test_bad_newest_snapshot_file_falls_back_to_an_older_one(tmp_path: Path) -> None:
    log = small_log(entries=30, per_segment=10)
    log.snapshot(2, 15)
    root = data_dir(tmp_path, snapshot=25, wal=log)
    newest = root / f"member/snap/{2:016x}-{25:016x}.snap"
    snap_file(root / "member/snap", 2, 15)
    newest.write_bytes(newest.read_bytes()[:-1] + b"?")
    problem = check_snapshot(Host(), str(newest))
    assert problem is not None
    assert "crc mismatch" in problem.reason
    assert read(tmp_path).damage == ()
    for segment in sorted((root / "member/wal").iterdir())[:2]:
        segment.unlink()
    assert len(read(tmp_path).damage) == 2


@pytest.mark.parametrize("data", [b"", b"\x08", b"\x08\x00\x12\x01a", b"\x08\x05\x12\x7fa", b"x"])
def test_snapshot_file_that_is_none(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.snap"
    path.write_bytes(data)
    assert check_snapshot(Host(), str(path)) is not None


def test_orphaned_snapshot_file_is_not_used(tmp_path: Path) -> None:
    root = data_dir(tmp_path, snapshot=20)
    snap_file(root / "member/snap", 9, 29)
    assert read(tmp_path).damage == ()


def test_database_behind_the_snapshot(tmp_path: Path) -> None:
    root = data_dir(tmp_path, index=10, snapshot=20)
    (reason,) = reasons(read(tmp_path))
    assert reason == (
        "index 10 does not match with snapshot (index 20), and 0000000000000014.snap.db is missing"
    )
    write_db(root / "member/snap/0000000000000014.snap.db", 20, revisions=40)
    facts = read(tmp_path)
    assert facts.damage == ()
    assert facts.db is not None
    assert (facts.db.consistent_index, facts.db.revision) == (20, 41)


def test_positions_are_equal_by_value() -> None:
    assert Position(2, 20) in (Position(2, 20),)


# ---- cost ----------------------------------------------------------------------------------------

_MEASURE = """
import resource, sys
from agent.host import Host
from agent.survey import offline
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
facts = offline.read_offline(Host(sys.argv[1]), "/etcd")
assert facts.wal.records > 20000, facts
assert not facts.damage, facts.damage
print(peak() - before)
"""


def test_memory_stays_flat(tmp_path: Path) -> None:
    """Two segments preallocated to 64 MB, 20 MB of records, a sparse database of 2 GiB."""
    log = small_log(entries=20000, per_segment=10000, size=1000)
    root = data_dir(tmp_path, index=20000, wal=log)
    for segment in (root / "member/wal").iterdir():
        os.truncate(segment, 64_000_000)
    os.truncate(root / "member/snap/db", 2 * 1024**3)
    argv = [sys.executable, "-c", _MEASURE, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 32 * 1024
