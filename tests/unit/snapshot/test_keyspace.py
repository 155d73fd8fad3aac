"""The quick check of the key space never calls well what the complete check calls damaged."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from agent.errors import RescueError
from agent.host import Host
from agent.snapshot.verify import verify_snapshot
from agent.survey.dbcheck import check_db
from agent.survey.livekeys import count_live_keys
from tests.unit.snapshot.test_verify import hashed
from tests.unit.survey.make_bbolt import DbMaker, etcd_tree, revision
from tests.unit.survey.make_wal import text, varint


def stored(key: bytes, created: int, modified: int, version: int, value: bytes) -> bytes:
    """A mvccpb.KeyValue as etcd writes it."""
    counters = b"\x10" + varint(created) + b"\x18" + varint(modified) + b"\x20" + varint(version)
    return text(1, key) + counters + text(5, value)


def database(changes: int = 400) -> bytes:
    """50 keys, written in turn, some over several pages; nothing compacted."""
    rows: dict[bytes, bytes] = {}
    known: dict[bytes, tuple[int, int]] = {}
    for at in range(changes):
        key, main = b"/registry/pods/%d" % (at % 50), at + 2
        created, version = known.get(key, (main, 0))
        known[key] = (created, version + 1)
        value = b"x" * (at % 7) * 900
        rows[revision(main)] = stored(key, created, main, version + 1, value)
    return DbMaker(per_leaf=6).file({**etcd_tree(0), b"key": rows})


def spoiled(base: bytes, dice: random.Random) -> bytes:
    """The same with one to five bytes changed, most of them where pages keep their structure."""
    data = bytearray(base)
    for _ in range(dice.choice((1, 1, 1, 2, 5))):
        at = dice.randrange(len(data))
        if dice.random() < 0.6:
            at = at // 4096 * 4096 + dice.randrange(120)
        data[at] = dice.choice((0, 1, 255, data[at] ^ 1 << dice.randrange(8)))
    return bytes(data)


@pytest.mark.reliability(
    "Hostile input",
    "A database with any bytes changed, and a hash that fits, is called whole only if every page "
    "of it passes the complete check; nothing ends in a crash.",
)
@pytest.mark.parametrize("seed", range(8))
def test_what_passes_is_sound(seed: int, tmp_path: Path) -> None:
    base, dice, path = database(), random.Random(seed), tmp_path / "snap.db"
    for _ in range(25):
        path.write_bytes(hashed(spoiled(base, dice)))
        try:
            verify_snapshot(Host(), str(path))
        except RescueError:
            continue
        assert check_db(Host(), str(path), 1) == []


def test_the_quick_way_is_taken_and_right(tmp_path: Path) -> None:
    path, said = tmp_path / "snap.db", list[str]()
    path.write_bytes(hashed(database()))
    facts = verify_snapshot(Host(), str(path), say=said.append)
    assert said == []
    assert (facts.keys, facts.records) == (50, 400)
    assert count_live_keys(Host(), str(path)) == 50


def test_an_interrupted_compaction_is_counted_the_slow_way(tmp_path: Path) -> None:
    """Of what lies between the finished and the scheduled one, some is gone and some is not."""
    rows = {
        revision(at + 2): stored(b"/k%d" % (at % 50), at % 50 + 2, at + 2, at // 50 + 1, b"v")
        for at in range(20, 100)
    }
    marks = {b"finishedCompactRev": revision(2), b"scheduledCompactRev": revision(60)}
    tree = {**etcd_tree(0), b"key": rows, b"meta": {**etcd_tree(0)[b"meta"], **marks}}
    path, said = tmp_path / "snap.db", list[str]()
    path.write_bytes(hashed(DbMaker(per_leaf=6).file(tree)))
    assert verify_snapshot(Host(), str(path), say=said.append).keys == 50
    assert said
