"""Live keys: the newest change of each key decides."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import Damaged
from agent.host import Host
from agent.survey.livekeys import count_live_keys, iter_keys
from tests.unit.survey.make_bbolt import DbMaker, key_value, revision


def write(tmp_path: Path, keys: dict[bytes, bytes]) -> str:
    path = tmp_path / "db"
    path.write_bytes(DbMaker().file({b"key": keys}))
    return str(path)


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=200), st.integers(0, 220))
def test_streams_what_a_dictionary_would_hold(
    tmp_path: Path, changes: list[tuple[int, bool]], compacted: int
) -> None:
    """After a compaction too, which keeps the newest record of a key up to it."""
    live: dict[bytes, int] = {}
    rows: dict[bytes, bytes] = {}
    kept: dict[bytes, bytes] = {}
    for main, (number, deleted) in enumerate(changes, 2):
        key = b"/registry/%d" % number
        if main <= compacted:
            rows.pop(kept.pop(key, b""), None)
        if main > compacted or not deleted:
            kept[key] = revision(main, 0, deleted)
            rows[kept[key]] = key_value(key)
        live.pop(key, None)
        if not deleted:
            live[key] = main
    tree = {b"key": rows, b"meta": {b"finishedCompactRev": revision(compacted)}}
    path = tmp_path / "db"
    path.write_bytes(DbMaker().file(tree))
    found = list(iter_keys(Host(), str(path)))
    assert {(k.key, k.revision) for k in found} == set(live.items())
    assert [k.revision for k in found] == sorted(live.values(), reverse=True)


def test_many_keys_long_keys_and_prefixes(tmp_path: Path) -> None:
    keys = [b"/a/%d" % at for at in range(9000)] + [b"/b/" + b"x" * 6000]
    rows = {revision(at + 2): key_value(key) for at, key in enumerate(keys)}
    path = write(tmp_path, rows)
    assert count_live_keys(Host(), path) == 9001
    assert count_live_keys(Host(), path, b"/b/") == 1


def test_no_key_space(tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.write_bytes(DbMaker().file({b"meta": {}}))
    assert count_live_keys(Host(), str(path)) == 0


@pytest.mark.parametrize("value", [b"\x12\x01a", b"\x0a\xff\x01a", b"\x0a"])
def test_value_that_is_no_key_value(tmp_path: Path, value: bytes) -> None:
    with pytest.raises(Damaged):
        count_live_keys(Host(), write(tmp_path, {revision(2): value}))


def test_key_that_is_no_revision(tmp_path: Path) -> None:
    with pytest.raises(Damaged, match="invalid revision"):
        count_live_keys(Host(), write(tmp_path, {b"foo": key_value(b"k")}))


def test_the_empty_record_of_a_raised_revision_is_no_key(tmp_path: Path) -> None:
    rows = {revision(2): key_value(b"/a"), revision(1_000_000_002): b""}
    assert [k.key for k in iter_keys(Host(), write(tmp_path, rows))] == [b"/a"]
