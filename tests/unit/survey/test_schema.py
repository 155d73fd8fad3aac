"""etcd's buckets: what is in them, and what is no longer what etcd wrote."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Optional

import pytest

from agent.host import Host
from agent.model.facts import Alarm, DbFacts, Member
from agent.survey.bbolt import Database
from agent.survey.schema import ConfState, conf_state, read_db
from tests.unit.survey.make_bbolt import DbMaker, etcd_tree, key_value, revision

EXPECTED = DbFacts(
    size=0,
    page_size=4096,
    txid=7,
    consistent_index=30,
    consistent_term=2,
    revision=21,
    members=(
        Member(
            "1234567890abcdef", "master-0", ("https://master-0:2380",), ("https://master-0:2379",)
        ),
        Member(
            "0fff000000000001",
            "master-1",
            ("https://master-1:2380",),
            ("https://master-1:2379",),
            is_learner=True,
        ),
        Member("ffff000000000002", "", ("https://:2380",)),
    ),
    removed_ids=("0000000000abcdef",),
    alarms=(Alarm("1234567890abcdef", "NOSPACE"),),
    cluster_version="3.5.0",
    storage_version="3.6.0",
)


def read(tmp_path: Path, tree: dict[bytes, dict[bytes, bytes]], inline: int = 0) -> DbFacts:
    path = tmp_path / "db"
    path.write_bytes(DbMaker(inline_below=inline).file(tree))
    return replace(read_db(Host(), str(path)), size=0)


@pytest.mark.parametrize("inline", [0, 1024])
def test_all_facts(tmp_path: Path, inline: int) -> None:
    facts = read(tmp_path, etcd_tree(), inline)
    assert replace(facts, members=()) == replace(EXPECTED, members=())
    assert {m.id: m for m in facts.members} == {m.id: m for m in EXPECTED.members}


def test_empty_database(tmp_path: Path) -> None:
    assert read(tmp_path, {}) == DbFacts(0, 4096, 7, 0, 0, 0)


def test_size_is_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.write_bytes(DbMaker().file(etcd_tree()))
    assert read_db(Host(), str(path)).size == path.stat().st_size


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_db(Host(), str(tmp_path / "db"))


@pytest.mark.parametrize(
    ("rows", "meta", "expected"),
    [
        ({}, {}, 0),
        ({revision(5): key_value(b"k")}, {}, 5),
        ({revision(5): key_value(b"k"), revision(6, 3, True): key_value(b"k")}, {}, 6),
        ({revision(5): key_value(b"k")}, {b"finishedCompactRev": revision(9)}, 9),
        ({revision(5): key_value(b"k")}, {b"scheduledCompactRev": revision(4)}, 5),
    ],
)
def test_revision(
    tmp_path: Path, rows: dict[bytes, bytes], meta: dict[bytes, bytes], expected: int
) -> None:
    assert read(tmp_path, {b"key": rows, b"meta": meta}).revision == expected


@pytest.mark.parametrize(
    ("state", "learners"),
    [
        (None, {"master-1"}),
        ({"voters": [0x1234567890ABCDEF, 0xFFF000000000001, 0xFFFF000000000002]}, set()),
        ({"voters": [0x1234567890ABCDEF], "learners": [0xFFFF000000000002]}, {"master-1", ""}),
        ({"voters": [0x1234567890ABCDEF], "learners": [0xFFF000000000001]}, {"master-1"}),
        ({}, {"master-1"}),
    ],
)
def test_who_is_a_learner_is_what_raft_says(
    tmp_path: Path, state: dict[str, list[int]] | None, learners: set[str]
) -> None:
    """etcd 3.5.1 to 3.5.19 leaves a promoted member a learner in the bucket of members."""
    tree = etcd_tree()
    del tree[b"meta"][b"confState"]
    if state is not None:
        tree[b"meta"][b"confState"] = json.dumps(state).encode()
    facts = read(tmp_path, tree)
    assert facts.damage is None
    assert {m.name for m in facts.members if m.is_learner} == learners


def test_conf_state(tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.write_bytes(DbMaker().file(etcd_tree()))
    with Database(Host(), str(path)) as db:
        expected = ConfState((f"{1311768467294899695:016x}",), ("0000000000000002",))
        assert conf_state(db) == expected
    path.write_bytes(DbMaker().file({b"meta": {}}))
    with Database(Host(), str(path)) as db:
        assert conf_state(db) is None


@pytest.mark.parametrize(
    ("bucket", "key", "value", "reason"),
    [
        ("members", b"1234567890abcdef", b"{", "not a JSON object"),
        ("members", b"1234567890abcdef", b"[" * 5000, "not a JSON object"),
        ("members", b"nothex", b"{}", "failed to parse member id"),
        ("members", b"1" * 17, b"{}", "failed to parse member id"),
        ("alarm", b"\x0f", b"", "illegal wireType 7"),
        ("meta", b"consistent_index", b"short", "5 bytes instead of 8"),
        ("meta", b"finishedCompactRev", b"short", "invalid revision"),
        ("key", b"\xff" * 8 + b"_" + bytes(8), b"", "negative revision"),
        ("cluster", b"clusterVersion", b"\xff", "not a version"),
    ],
)
def test_content_that_etcd_would_not_take(
    tmp_path: Path, bucket: str, key: bytes, value: bytes, reason: str
) -> None:
    tree = etcd_tree()
    tree[bucket.encode()][key] = value
    facts = read(tmp_path, tree)
    assert facts.damage is not None
    assert reason in facts.damage.reason


@pytest.mark.parametrize("broken", [b"key", b"members", b"meta"])
def test_damage_in_one_bucket_leaves_the_others(tmp_path: Path, broken: bytes) -> None:
    maker = DbMaker()
    data = bytearray(maker.file(etcd_tree()))
    place = maker.places[broken][-1] * 4096
    data[place] ^= 0xFF
    path = tmp_path / "db"
    path.write_bytes(data)
    facts = read_db(Host(), str(path))
    assert facts.damage is not None
    assert (facts.damage.file, facts.damage.offset) == (str(path), place)
    assert bool(facts.members) == (broken != b"members")
    assert facts.consistent_index == (0 if broken == b"meta" else 30)
    assert facts.alarms
    assert (facts.revision > 0) == (broken == b"members")


@pytest.mark.parametrize("data", [b"", bytes(100000), b"\xff" * 100000])
def test_no_database_at_all(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "db"
    path.write_bytes(data)
    facts = read_db(Host(), str(path))
    assert facts == DbFacts(len(data), 0, 0, 0, 0, 0, damage=facts.damage)
    assert facts.damage is not None


def test_commits_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that reuses pages between the meta and the leaves: the next attempt is used."""
    path = tmp_path / "db"
    old = DbMaker().file(etcd_tree(revisions=20), txid=7)
    new = DbMaker().file(etcd_tree(revisions=12), txid=9)
    path.write_bytes(old)
    opened: list[int] = []
    original = Database.bucket

    def bucket(db: Database, name: str) -> Optional[object]:
        if not opened:
            path.write_bytes(new)
        opened.append(db.meta.txid)
        return original(db, name)

    monkeypatch.setattr(Database, "bucket", bucket)
    facts = read_db(Host(), str(path))
    assert (facts.txid, facts.revision, facts.damage) == (9, 13, None)
    assert set(opened) == {7, 9}


def test_numbers_are_big_endian(tmp_path: Path) -> None:
    tree = etcd_tree(index=0x0102030405060708)
    tree[b"meta"][b"term"] = struct.pack(">Q", 258)
    facts = read(tmp_path, tree)
    assert (facts.consistent_index, facts.consistent_term) == (0x0102030405060708, 258)
