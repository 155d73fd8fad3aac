from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import Damaged, UsageError
from agent.host import Host
from agent.records.journal import (
    JOURNAL_DIR,
    Journal,
    export,
    journal_path,
    newest_open,
    read_journals,
)
from tests.unit.rooted import plan_of

PLAN = plan_of(("park_definition", {}), ("copy_data", {}))
RECORDS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("intent", "01", {"path": "/etc/é \udcff"}),
    ("done", "01", {"parked": "x"}),
    ("intent", "02", {"text": 'quotes " and \n lines'}),
)


def written(root: Path, records: tuple[tuple[str, str, dict[str, Any]], ...] = RECORDS) -> Path:
    journal = Journal.create(Host(str(root)), PLAN)
    for kind, step, data in records:
        journal.append(kind, step, data)
    return root / journal.path.lstrip("/")


def lines_of(file: Path) -> list[bytes]:
    return file.read_bytes().splitlines(keepends=True)


def reopened(root: Path) -> Journal:
    return Journal.open(Host(str(root)), PLAN.id)


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    written(tmp_path)
    journal = reopened(tmp_path)
    assert journal.plan == PLAN
    assert [(r.kind, r.step, r.data) for r in journal.records[1:]] == list(RECORDS)
    assert [r.seq for r in journal.records] == [1, 2, 3, 4]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(
    records=st.lists(
        st.tuples(
            st.sampled_from(["intent", "done", "failed", "undone"]),
            st.sampled_from(["01", "02"]),
            st.dictionaries(st.text(), JSON, max_size=3),
        ),
        max_size=6,
    )
)
def test_any_records_come_back_as_they_were(
    records: list[tuple[str, str, dict[str, Any]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("journal")
    written(root, tuple(records))
    journal = reopened(root)
    assert [(r.kind, r.step, r.data) for r in journal.records[1:]] == records


@pytest.mark.reliability(
    "Journal and resume", "a journal's tail is torn at any byte: it is dropped and written anew"
)
def test_a_tail_torn_at_any_byte_is_dropped_and_written_anew(tmp_path: Path) -> None:
    file = written(tmp_path)
    whole, last = file.read_bytes(), len(lines_of(file)[-1])
    for cut in range(1, last + 1):
        file.write_bytes(whole[:-cut])
        journal = reopened(tmp_path)
        assert [r.kind for r in journal.records] == ["plan", "intent", "done"], cut
        journal.append("intent", "02", RECORDS[2][2])
        assert [r.seq for r in reopened(tmp_path).records] == [1, 2, 3, 4], cut


def test_a_tail_with_holes_in_it_is_a_torn_one(tmp_path: Path) -> None:
    """A crash may have made the file longer before its blocks were written."""
    file = written(tmp_path)
    whole, last = file.read_bytes(), len(lines_of(file)[-1])
    file.write_bytes(whole[: -last + 10] + bytes(last - 20) + whole[-10:])
    assert len(reopened(tmp_path).records) == 3


@pytest.mark.reliability(
    "Journal and resume", "a journal is damaged at any byte before its end: told with its place"
)
def test_damage_at_any_byte_before_the_end_is_told_with_its_place(tmp_path: Path) -> None:
    file = written(tmp_path)
    whole = file.read_bytes()
    offset = 0
    for number, line in enumerate(lines_of(file), 1):
        step = max(1, len(line) // 60)
        for at in range(offset, offset + len(line) - (number == 4), step):
            damaged = bytearray(whole)
            damaged[at] ^= 0x04
            file.write_bytes(damaged)
            with pytest.raises(Damaged) as caught:
                reopened(tmp_path)
            told = f"{journal_path(PLAN.id)}: record {number} at offset {offset}:"
            assert told in caught.value.seen, (number, at)
        offset += len(line)


@pytest.mark.reliability("Journal and resume", "a record is missing from a journal: noticed")
@pytest.mark.parametrize("gone", [1, 2])
def test_a_record_that_is_missing_is_noticed(tmp_path: Path, gone: int) -> None:
    file = written(tmp_path)
    lines = lines_of(file)
    file.write_bytes(b"".join(lines[:gone] + lines[gone + 1 :]))
    with pytest.raises(Damaged, match=f"sequence number {gone + 2}, expected {gone + 1}"):
        reopened(tmp_path)


def test_records_that_changed_places_are_noticed(tmp_path: Path) -> None:
    file = written(tmp_path)
    one, two, three, four = lines_of(file)
    file.write_bytes(one + three + two + four)
    with pytest.raises(Damaged, match="record 2"):
        reopened(tmp_path)


def test_a_record_of_another_journal_does_not_fit(tmp_path: Path) -> None:
    """Same sequence number, valid checksum of its own: the chain gives it away."""
    file = written(tmp_path / "one")
    other = written(tmp_path / "two", (("intent", "01", {}), *RECORDS[1:]))
    one, two, _three, four = lines_of(file)
    file.write_bytes(one + two + lines_of(other)[2] + four)
    with pytest.raises(Damaged, match=r"record 3 .* checksum"):
        reopened(tmp_path / "one")


@pytest.mark.reliability(
    "Journal and resume", "the creation of a journal is cut: it is created anew"
)
@pytest.mark.parametrize("left", [b"", b'{"crc":"12'])
def test_a_journal_whose_creation_was_cut_is_created_anew(tmp_path: Path, left: bytes) -> None:
    file = tmp_path / journal_path(PLAN.id)[1:]
    file.parent.mkdir(parents=True)
    file.write_bytes(left)
    host = Host(str(tmp_path))
    with pytest.raises(Damaged, match="no plan in it"):
        Journal.open(host, PLAN.id)
    (facts,) = read_journals(host)
    assert facts.state == "damaged"
    Journal.create(host, PLAN).append("intent", "01")
    assert len(reopened(tmp_path).records) == 2


def test_creating_twice_opens_what_is_there(tmp_path: Path) -> None:
    written(tmp_path)
    assert len(Journal.create(Host(str(tmp_path)), PLAN).records) == 4


@pytest.mark.parametrize("umask", [0, 0o077, 0o277])
def test_journals_are_for_root_only(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        file = written(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for directory in (JOURNAL_DIR, "/var/lib/etcd-rescue"):
        assert stat.S_IMODE((tmp_path / directory[1:]).stat().st_mode) == 0o700


UNDO: tuple[tuple[Any, dict[str, Any] | None], ...] = (
    ((), None),
    ((("intent", {"n": 1}),), {"n": 1}),
    ((("intent", {"n": 1}), ("failed", {}), ("intent", {"n": 2})), {"n": 1}),
    ((("intent", {"n": 1}), ("done", {}), ("intent", {"n": 2})), {"n": 1}),
    ((("intent", {"n": 1}), ("undone", {})), None),
    ((("intent", {"n": 1}), ("undone", {}), ("intent", {"n": 2})), {"n": 2}),
    ((("intent", {}), ("intent", {"n": 2})), {}),
    ((("skipped", {"reason": "x"}),), None),
)


@pytest.mark.parametrize(("records", "expected"), UNDO)
def test_undo_data_is_the_first_intents_after_the_last_undo(
    tmp_path: Path, records: tuple[tuple[str, dict[str, Any]], ...], expected: dict[str, Any] | None
) -> None:
    written(tmp_path, tuple((kind, "01", data) for kind, data in records))
    assert reopened(tmp_path).undo_data("01") == expected
    assert reopened(tmp_path).undo_data("02") is None


STATES: tuple[Any, ...] = (
    # records: (kind, step) → state, done, begun, touched
    ((), "open", [], [], []),
    ((("intent", "01"),), "open", [], ["01"], ["01"]),
    ((("intent", "01"), ("failed", "01")), "open", [], ["01"], ["01"]),
    ((("intent", "01"), ("done", "01")), "open", ["01"], [], ["01"]),
    ((("intent", "01"), ("done", "01"), ("intent", "01")), "open", [], ["01"], ["01"]),
    ((("done", "02"), ("done", "01"), ("done", "02")), "open", ["01", "02"], [], ["02", "01"]),
    ((("done", "01"), ("undone", "01")), "open", [], [], []),
    ((("skipped", "01"),), "open", ["01"], [], []),
    ((("done", "01"), ("complete", "")), "complete", ["01"], [], ["01"]),
    ((("rolled-back", ""),), "rolled-back", [], [], []),
    ((("rolled-back", ""), ("intent", "01")), "open", [], ["01"], ["01"]),
)


@pytest.mark.parametrize(("records", "state", "done", "begun", "touched"), STATES)
def test_states(
    tmp_path: Path, records: tuple[tuple[str, str], ...], state: str,
    done: list[str], begun: list[str], touched: list[str],
) -> None:  # fmt: skip
    written(tmp_path, tuple((kind, step, {}) for kind, step in records))
    journal = reopened(tmp_path)
    assert (journal.state, journal.done_steps(), journal.begun_steps()) == (state, done, begun)
    assert journal.touched_steps() == touched
    (facts,) = read_journals(Host(str(tmp_path)))
    assert (facts.state, facts.done, facts.begun) == (state, tuple(done), tuple(begun))


def test_a_journal_is_found_by_the_beginning_of_its_plan(tmp_path: Path) -> None:
    host = Host(str(tmp_path))
    plans = [plan_of(("copy_data", {}), created=float(i)) for i in range(3)]
    for plan in plans:
        Journal.create(host, plan)
    assert Journal.open(host, plans[1].short_id).plan == plans[1]
    for asked in ("", "no-such", "../../etc"):
        with pytest.raises(UsageError, match="match plan"):
            Journal.open(host, asked)
    Journal.open(host, plans[2].id).append("complete")
    assert newest_open(host) == plans[1].id
    assert json.loads(export(host, plans[0].id).splitlines()[0])["kind"] == "plan"


def test_a_file_that_is_no_journal_is_listed_as_damaged(tmp_path: Path) -> None:
    host = Host(str(tmp_path))
    written(tmp_path)
    (tmp_path / JOURNAL_DIR[1:] / "junk.jsonl").write_text("x\ny\n")
    (tmp_path / JOURNAL_DIR[1:] / "notes.txt").write_text("not a journal")
    states = {facts.plan: facts.state for facts in read_journals(host)}
    assert states == {PLAN.id: "open", "junk": "damaged"}
