"""The write-ahead log: positions, torn tails, damage, and any garbage."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.etcd import protobuf
from agent.host import Host
from agent.model.facts import WalFacts
from agent.survey import crc32c, wal_record
from agent.survey.wal import read_wal, segment_names
from tests.unit.survey.make_wal import CLUSTER, MEMBER, WalMaker, frame, numbers, small_log, text

FUZZ = settings(
    deadline=2000,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def read(directory: Path, from_index: int = 0) -> WalFacts:
    facts = read_wal(Host(), str(directory), from_index)
    assert facts is not None
    return facts


def position(facts: WalFacts) -> tuple[int, int]:
    return facts.last_term, facts.last_index


def test_intact_log(tmp_path: Path) -> None:
    small_log(entries=10).write(tmp_path)
    assert read(tmp_path) == WalFacts(
        member_id=f"{MEMBER:016x}",
        cluster_id=f"{CLUSTER:016x}",
        term=2,
        commit=10,
        last_term=2,
        last_index=10,
        snapshot_term=0,
        snapshot_index=0,
        segments=1,
        records=15,
    )


def test_several_segments_and_other_files(tmp_path: Path) -> None:
    small_log(entries=10, per_segment=3).write(tmp_path)
    for name in ("0.tmp", "1.tmp", "0000000000000003-000000000000000a.wal.broken", "x.wal"):
        (tmp_path / name).write_bytes(b"not read")
    facts = read(tmp_path)
    assert (facts.segments, position(facts), facts.damage) == (4, (2, 10), None)
    assert [s.first for s in segment_names(Host(), str(tmp_path))] == [0, 4, 7, 10]


def test_no_segment(tmp_path: Path) -> None:
    (tmp_path / "0.tmp").write_bytes(b"")
    assert read_wal(Host(), str(tmp_path)) is None
    assert read_wal(Host(), str(tmp_path / "missing")) is None


def test_entry_for_an_earlier_index_overwrites_what_followed(tmp_path: Path) -> None:
    wal = small_log(entries=10)
    wal.entry(3, 11)
    wal.entry(3, 12)
    wal.entry(5, 11)
    wal.hard_state(5, 10)
    wal.write(tmp_path)
    facts = read(tmp_path)
    assert (position(facts), facts.term, facts.commit) == ((5, 11), 5, 10)


def test_newest_committed_snapshot(tmp_path: Path) -> None:
    wal = small_log(entries=10)
    wal.snapshot(2, 6)
    wal.snapshot(2, 9)
    wal.snapshot(2, 11)
    wal.write(tmp_path)
    facts = read(tmp_path)
    assert (facts.snapshot_term, facts.snapshot_index) == (2, 9)


def test_snapshot_received_from_a_leader_moves_the_end(tmp_path: Path) -> None:
    wal = small_log(entries=10)
    wal.snapshot(4, 500)
    wal.hard_state(4, 500)
    wal.write(tmp_path)
    facts = read(tmp_path)
    assert (position(facts), facts.snapshot_index, facts.damage) == ((4, 500), 500, None)
    wal.entry(4, 501)
    wal.write(tmp_path)
    assert position(read(tmp_path)) == (4, 501)


def test_reading_from_the_snapshot_on_skips_older_segments(tmp_path: Path) -> None:
    wal = small_log(entries=12, per_segment=4)
    wal.snapshot(2, 8)
    paths = wal.write(tmp_path)
    paths[0].write_bytes(b"\1garbage")
    assert read(tmp_path).damage is not None
    facts = read(tmp_path, from_index=8)
    assert (facts.damage, position(facts), facts.segments) == (None, (2, 12), 2)


# ---- torn tails ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 4, 7, 8, 9, 60, 100])
def test_truncated_in_the_last_record(tmp_path: Path, cut: int) -> None:
    wal = small_log(entries=10)
    wal.entry(2, 11)
    offset = wal.offsets[-1]
    wal.entry(2, 12, b"x" * 200)
    offset = wal.offsets[-1]
    (path,) = wal.write(tmp_path, spare=0)
    os.truncate(path, offset + cut)
    facts = read(tmp_path)
    assert facts.damage is None
    assert facts.torn_tail is not None
    assert (facts.torn_tail.file, facts.torn_tail.offset) == (str(path), offset)
    assert facts.torn_tail.reason.startswith("unexpected EOF")
    assert position(facts) == (2, 11)


def test_truncated_between_records_is_a_regular_end(tmp_path: Path) -> None:
    wal = small_log(entries=10)
    wal.entry(2, 11)
    (path,) = wal.write(tmp_path, spare=0)
    os.truncate(path, wal.offsets[-1])
    facts = read(tmp_path)
    assert (facts.torn_tail, facts.damage, facts.last_index) == (None, None, 10)


def test_sector_of_zeros_in_the_last_segment_is_a_torn_write(tmp_path: Path) -> None:
    wal = small_log(entries=3)
    wal.entry(2, 4, b"x" * 3000)
    (path,) = wal.write(tmp_path)
    data = bytearray(path.read_bytes())
    data[1536:2048] = bytes(512)
    path.write_bytes(data)
    facts = read(tmp_path)
    assert (facts.damage, facts.last_index) == (None, 3)
    assert facts.torn_tail is not None
    assert facts.torn_tail.offset == wal.offsets[-1]


def test_sector_of_zeros_in_an_older_segment_is_damage(tmp_path: Path) -> None:
    wal = WalMaker()
    wal.hard_state(2, 0)
    wal.entry(2, 1, b"x" * 3000)
    offset = wal.offsets[-1]
    wal.cut(1, 2)
    wal.entry(2, 2)
    wal.hard_state(2, 2)
    path = wal.write(tmp_path)[0]
    data = bytearray(path.read_bytes())
    data[1536:2048] = bytes(512)
    path.write_bytes(data)
    facts = read(tmp_path)
    assert facts.torn_tail is None
    assert facts.damage is not None
    assert (facts.damage.file, facts.damage.offset) == (str(path), offset)
    assert facts.damage.reason.startswith("crc mismatch: expected: ")


def test_data_behind_a_zero_length_is_reported(tmp_path: Path) -> None:
    wal = small_log(entries=3)
    (path,) = wal.write(tmp_path)
    end = len(wal.data)
    with open(path, "r+b") as file:
        file.seek(end + 1000)
        file.write(b"\7")
    facts = read(tmp_path)
    assert facts.torn_tail is not None
    assert facts.torn_tail.offset == end
    assert f"data again at {end + 1000}" in facts.torn_tail.reason


# ---- damage --------------------------------------------------------------------------------------


def test_flipped_bit_in_data(tmp_path: Path) -> None:
    wal = small_log(entries=10)
    (path,) = wal.write(tmp_path)
    offset = wal.offsets[8]
    data = bytearray(path.read_bytes())
    data[offset + 60] ^= 4
    path.write_bytes(data)
    facts = read(tmp_path)
    assert facts.damage is not None
    assert (facts.damage.file, facts.damage.offset) == (str(path), offset)
    words = facts.damage.reason.split()
    assert words[:3] == ["crc", "mismatch:", "expected:"]
    assert words[4] == "computed:"
    # The records before it stand: head, state and entries 1-4.
    assert (facts.last_index, facts.commit, facts.records) == (4, 0, 8)
    assert facts.member_id == f"{MEMBER:016x}"


def test_missing_segment(tmp_path: Path) -> None:
    paths = small_log(entries=10, per_segment=3).write(tmp_path)
    paths[2].unlink()
    facts = read(tmp_path)
    assert facts.damage is not None
    assert facts.damage.file == str(paths[3])
    assert "do not increase continuously" in facts.damage.reason
    assert facts.last_index == 6


def test_truncated_older_segment_is_damage(tmp_path: Path) -> None:
    paths = small_log(entries=10, per_segment=3).write(tmp_path)
    os.truncate(paths[1], paths[1].stat().st_size - 3)
    facts = read(tmp_path)
    assert facts.torn_tail is None
    assert facts.damage is not None
    assert facts.damage.file == str(paths[1])
    assert facts.damage.reason.startswith("unexpected EOF")


def test_segment_of_another_log(tmp_path: Path) -> None:
    paths = small_log(entries=10, per_segment=3).write(tmp_path)
    other = small_log(entries=10, per_segment=3, size=50).write(tmp_path / "other")
    paths[2].write_bytes(other[2].read_bytes())
    facts = read(tmp_path)
    assert facts.damage is not None
    assert (facts.damage.file, facts.damage.offset) == (str(paths[2]), 0)
    assert facts.damage.reason.startswith("crc mismatch")


def conflicting_metadata(wal: WalMaker) -> None:
    wal.record(wal_record.METADATA, numbers(1, 2))


def unknown_type(wal: WalMaker) -> None:
    wal.record(9, b"x")


def gap(wal: WalMaker) -> None:
    wal.entry(2, 15)
    wal.hard_state(2, 15)


def commit_beyond_the_end(wal: WalMaker) -> None:
    wal.hard_state(2, 99)


def snapshot_mismatch(wal: WalMaker) -> None:
    wal.snapshot(2, 8)
    wal.snapshot(1, 8)


def entry_that_is_none(wal: WalMaker) -> None:
    wal.record(wal_record.ENTRY, b"\x0f")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (conflicting_metadata, "wal: conflicting metadata found"),
        (unknown_type, "unexpected block type 9"),
        (gap, "entry 15 follows entry 10: entries are missing"),
        (commit_beyond_the_end, "state.commit 99 is out of range [0, 10]"),
        (snapshot_mismatch, "wal: snapshot mismatch at index 8"),
        (entry_that_is_none, "record: proto: illegal wireType 7"),
    ],
)
def test_what_only_the_content_shows(
    tmp_path: Path, spoil: Callable[[WalMaker], None], reason: str
) -> None:
    wal = small_log(entries=10)
    spoil(wal)
    wal.write(tmp_path)
    facts = read(tmp_path)
    assert facts.damage is not None
    assert facts.damage.reason == reason


def test_empty_and_headless_logs(tmp_path: Path) -> None:
    (tmp_path / "0000000000000000-0000000000000000.wal").write_bytes(bytes(100))
    facts = read(tmp_path)
    assert (facts.member_id, facts.cluster_id) == ("", "")
    assert facts.damage is not None
    assert facts.damage.reason.startswith("no metadata record")


# ---- unusual records -----------------------------------------------------------------------------


def test_record_in_another_order_of_fields(tmp_path: Path) -> None:
    wal = small_log(entries=2)
    data = numbers(0, 2, 3)
    wal.crc = crc32c.update(wal.crc, data)
    record = text(3, data) + b"\x10" + numbers(wal.crc)[1:] + b"\x08\x02" + b"\x78\x01"
    wal.data.extend(frame(record))
    wal.write(tmp_path)
    assert (read(tmp_path).last_index, read(tmp_path).damage) == (3, None)


@pytest.mark.parametrize("size", [1024 * 1024 - 40, 1024 * 1024, 3_000_000, 9_000_000])
@pytest.mark.parametrize("flip", [False, True])
def test_large_record(tmp_path: Path, size: int, flip: bool) -> None:
    wal = small_log(entries=2)
    wal.entry(2, 3, b"\xa5" * size)
    offset = wal.offsets[-1]
    wal.entry(2, 4)
    (path,) = wal.write(tmp_path)
    if flip:
        with open(path, "r+b") as file:
            file.seek(offset + size // 2)
            file.write(b"\xa4")
    facts = read(tmp_path)
    assert facts.last_index == (2 if flip else 4)
    assert (facts.damage.offset if facts.damage else None) == (offset if flip else None)


def test_huge_length_does_not_take_memory(tmp_path: Path) -> None:
    wal = small_log(entries=2)
    (path,) = wal.write(tmp_path)
    with open(path, "r+b") as file:
        file.seek(len(wal.data))
        file.write(struct.pack("<Q", 60 * 1024 * 1024) + b"\xff" * 64)
        file.truncate(64 * 1024 * 1024)
    facts = read(tmp_path)
    assert facts.last_index == 2
    assert facts.torn_tail is not None


# ---- properties ----------------------------------------------------------------------------------


@FUZZ
@given(data=st.binary(max_size=4000))
def test_any_bytes_give_facts(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "0000000000000000-0000000000000000.wal").write_bytes(data)
    facts = read(tmp_path)
    assert facts.damage is not None or facts.member_id


@FUZZ
@given(choice=st.data())
def test_mutated_logs_give_facts_and_never_more_entries(
    tmp_path: Path, choice: st.DataObject
) -> None:
    wal = small_log(entries=9, per_segment=4, size=300)
    paths = wal.write(tmp_path, spare=600)
    path = choice.draw(st.sampled_from(paths))
    data = bytearray(path.read_bytes())
    for _ in range(choice.draw(st.integers(1, 4))):
        at = choice.draw(st.integers(0, len(data) - 1))
        data[at] = choice.draw(st.integers(0, 255))
    cut = choice.draw(st.one_of(st.none(), st.integers(0, len(data))))
    path.write_bytes(data[:cut])
    facts = read(tmp_path)
    assert facts.last_index <= 9
    for damage in (facts.damage, facts.torn_tail):
        assert damage is None or (damage.offset >= 0 and damage.reason)


@FUZZ
@given(cut=st.integers(0, 3000))
def test_any_cut_of_a_one_segment_log_is_repairable(tmp_path: Path, cut: int) -> None:
    wal = small_log(entries=9, size=300)
    (path,) = wal.write(tmp_path, spare=0)
    ends = [*wal.offsets[1:], len(wal.data)]
    os.truncate(path, min(cut, len(wal.data)))
    facts = read(tmp_path)
    assert facts.records == sum(end <= cut for end in ends)
    torn = cut < len(wal.data) and cut not in (0, *ends)
    assert (facts.torn_tail is not None) == torn


@FUZZ
@given(st.binary(max_size=80))
def test_fast_path_reads_what_the_general_reader_reads(raw: bytes) -> None:
    expected: Optional[tuple[int, int, bytes]] = None
    shape = {1: protobuf.VARINT, 2: protobuf.VARINT, 3: protobuf.BYTES}
    head = b"\x08\x02\x10\x07"
    for data in (raw, head + raw, head + text(3, raw)):
        try:
            found = protobuf.message(data, shape)
            last = found.get(3, b"")
            assert isinstance(last, bytes)
            crc = protobuf.unsigned(found, 2) & 0xFFFFFFFF
            expected = (protobuf.unsigned(found, 1), crc, last)
        except protobuf.Malformed:
            expected = None
        try:
            assert wal_record.parse_record(data) == expected
        except protobuf.Malformed:
            assert expected is None
