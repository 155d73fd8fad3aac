"""The journal of one plan on one host: append-only, checksummed, fsynced around every act.

A file `/var/lib/etcd-rescue/journal/PLAN.jsonl` of JSON lines:
    {"seq": 1, "time": 1700000000.0, "kind": "plan", "step": "", "data": {...}, "crc": "89abcdef"}
kind: plan (the plan itself, first), signed, intent, done, failed, undone, skipped, reopened,
carried (written to a file that leaves the host), unattended (it goes on by itself), complete,
rolled-back.
crc: CRC-32 of the previous record's crc and this record's canonical JSON without `crc`, so that a
record cannot be lost, altered or moved without being noticed. A last line that a crash cut short,
or left with holes (NUL bytes) in it, is dropped; anything else that is wrong stops the run.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, Optional

from agent.errors import Damaged, RescueError, UsageError
from agent.host import STATE_DIR, Host
from agent.model.catalog import CATALOG
from agent.model.codec import canonical, from_plain, parse_json
from agent.model.facts import JournalFacts
from agent.model.plan import Plan, plan_from_plain, plan_to_plain

JOURNAL_DIR = f"{STATE_DIR}/journal"
_CLOSING = {"complete", "rolled-back"}
_MAX_JOURNAL = 64 * 1024 * 1024


@dataclass(frozen=True)
class Record:
    """One line. data: for intent the undo data, for done the result, for failed the error."""

    seq: int
    time: float
    kind: str
    step: str
    data: dict[str, Any]
    crc: str


class History:
    """What a plan's journal says, wherever it was read: here, or in a file carried in."""

    def __init__(self, path: str, records: list[Record]) -> None:
        self.path, self.records = path, records
        self.plan: Plan = _plan_of(path, records[0]) if records else _no_plan()

    def last(self, step: str) -> Optional[Record]:
        """The newest record about a step, or None."""
        return next((r for r in reversed(self.records) if r.step == step), None)

    def is_done(self, step: str) -> bool:
        """True if the newest record says that the step's effect was reached, or was put off."""
        last = self.last(step)
        return last is not None and last.kind in ("done", "skipped")

    def undo_data(self, step: str) -> Optional[dict[str, Any]]:
        """What the FIRST intent after the last undo recorded.

        A step that is run again after a crash must not take the half-changed host for the original.
        """
        found: Optional[dict[str, Any]] = None
        for record in self.records:
            if record.step == step and record.kind == "intent" and found is None:
                found = record.data
            elif record.step == step and record.kind == "undone":
                found = None
        return found

    def done_steps(self) -> list[str]:
        """IDs of steps whose effect stands, in the order in which they were done."""
        order = [r.step for r in self.records if r.kind in ("done", "skipped")]
        return [s for i, s in enumerate(order) if self.is_done(s) and s not in order[i + 1 :]]

    def begun_steps(self) -> list[str]:
        """IDs of steps with an intent and no end: interrupted or failed, and not undone."""
        begun = {r.step: r.kind for r in self.records if r.step}
        return [s for s, kind in begun.items() if kind in ("intent", "failed")]

    def touched_steps(self) -> list[str]:
        """IDs of steps with effects that were begun or done on this host, and not undone."""
        last = {r.step: r.kind for r in self.records if r.step}
        begun = [step for step, kind in last.items() if kind in ("intent", "failed", "done")]
        return [step for step in begun if self._has_effects(step)]

    def _has_effects(self, step_id: str) -> bool:
        step = self.plan.step(step_id)
        spec = CATALOG.get(step.action) if step else None
        return spec is None or spec.effects

    @property
    def state(self) -> str:
        """open, complete or rolled-back."""
        last = self.records[-1].kind
        return last if last in _CLOSING else "open"


class Journal(History):
    """A plan's journal on this host, open for appending."""

    def __init__(self, host: Host, path: str, records: list[Record], good_size: int) -> None:
        super().__init__(path, records)
        self._host, self._good_size = host, good_size

    @classmethod
    def create(cls, host: Host, plan: Plan) -> Journal:
        """Start the journal of `plan`, or open the one there is."""
        host.makedirs(JOURNAL_DIR)
        path = journal_path(plan.id)
        if host.exists(path):
            records, good = _read(host, path)
            if records:
                return cls(host, path, records, good)
        first = _seal(Record(1, host.now(), "plan", "", {"plan": plan_to_plain(plan)}, ""), "")
        line = canonical(first) + b"\n"
        host.write_atomic(path, line)  # whole or not at all: half a plan could not be resumed
        host.append_synced(path, b"", keep=len(line))  # takes the room that the next records need
        return cls(host, path, [first], len(line))

    @classmethod
    def open(cls, host: Host, plan_id: str) -> Journal:
        """Open the journal whose plan ID starts with `plan_id`. Raises UsageError, Damaged."""
        there = [n for n in host.listdir(JOURNAL_DIR) if n.endswith(".jsonl")]
        names = [n for n in there if n.startswith(plan_id)]
        if not plan_id or len(names) != 1:
            known = ", ".join(n[:12] for n in there) or "none"
            raise UsageError(
                f"{len(names)} journals on {host.hostname()} match plan {plan_id or '(none)'}",
                f"known here: {known}",
                "fab journal",
            )
        path = f"{JOURNAL_DIR}/{names[0]}"
        records, good = _read(host, path)
        if not records:
            raise Damaged(
                f"{path}: no plan in it", "its first record is not whole", _way_out(host, path)
            )
        return cls(host, path, records, good)

    def append(self, kind: str, step: str = "", data: Optional[dict[str, Any]] = None) -> Record:
        """Write one record and fsync it before returning."""
        last = self.records[-1]
        bare = Record(last.seq + 1, self._host.now(), kind, step, data or {}, "")
        record = _seal(bare, last.crc)
        self._write(record)
        self.records.append(record)
        return record

    def _write(self, record: Record) -> None:
        line = canonical(record) + b"\n"
        self._host.append_synced(self.path, line, keep=self._good_size)
        self._good_size += len(line)


def _plan_of(path: str, first: Record) -> Plan:
    try:
        return plan_from_plain(first.data.get("plan"))
    except UsageError as error:
        raise Damaged(
            f"{path}: record 1: {error.seen}",
            "a journal that does not hold its plan cannot be carried on",
            "look at the host: rescue-agent survey; then make a new plan",
        ) from None


def _no_plan() -> Plan:
    raise Damaged("a journal without a plan record")


def journal_path(plan_id: str) -> str:
    """Where the journal of a plan lies."""
    return f"{JOURNAL_DIR}/{plan_id}.jsonl"


def read_journals(host: Host) -> tuple[JournalFacts, ...]:
    """All journals of this host, newest last; a damaged one is reported, never skipped."""
    found = []
    for name in host.listdir(JOURNAL_DIR):
        if not name.endswith(".jsonl"):
            continue
        try:
            journal = Journal.open(host, name[: -len(".jsonl")])
        except (RescueError, OSError) as error:
            found.append(JournalFacts(name[: -len(".jsonl")], "", "damaged", problem=_told(error)))
            continue
        found.append(
            JournalFacts(
                plan=journal.plan.id,
                recipe=journal.plan.recipe,
                state=journal.state,
                done=tuple(journal.done_steps()),
                begun=tuple(journal.begun_steps()),
                updated=journal.records[-1].time,
            )
        )
    return tuple(sorted(found, key=lambda facts: facts.updated))


def _told(error: Exception) -> str:
    """What was seen, without the why and the next that whoever refuses says himself."""
    return error.seen if isinstance(error, RescueError) else str(error)


def _seal(record: Record, previous: str) -> Record:
    bare = canonical(
        {"seq": record.seq, "time": record.time, "kind": record.kind, "step": record.step,
         "data": record.data}
    )  # fmt: skip
    crc = zlib.crc32(previous.encode() + bare)
    return Record(record.seq, record.time, record.kind, record.step, record.data, f"{crc:08x}")


def _read(host: Host, path: str) -> tuple[list[Record], int]:
    """(records, size of the good part). Raises Damaged for damage before the end."""
    return parse_records(host.read_bytes(path, _MAX_JOURNAL), path, _way_out(host, path))


def parse_records(data: bytes, path: str, way_out: str) -> tuple[list[Record], int]:
    """(records, size of the good part) of a journal's bytes. path: its name, for errors.

    Raises Damaged for damage before the end; way_out: what to do about that.
    """
    records: list[Record] = []
    offset = 0
    while offset < len(data):
        end = data.find(b"\n", offset)
        line = data[offset : end if end >= 0 else len(data)]
        reason = "no end of line"
        if end >= 0:
            record, reason = _parse(line, records)
            if record is not None:
                records.append(record)
                offset = end + 1
                continue
        if end >= 0 and (end + 1 < len(data) or b"\0" not in line):
            raise Damaged(
                f"{path}: record {len(records) + 1} at offset {offset}: {reason}",
                "a damaged journal cannot say what was done",
                way_out,
            )
        break  # the torn tail of a crash: the act it announces did not begin
    return records, offset


def _way_out(host: Host, path: str) -> str:
    plan = path.rpartition("/")[2].removesuffix(".jsonl")
    return f"on {host.hostname()}: rescue-agent set-aside-journal {plan[:12]}; then: fab diagnose"


def _parse(line: bytes, before: list[Record]) -> tuple[Optional[Record], str]:
    try:
        record = from_plain(Record, parse_json(line, "journal record"), "journal record")
    except (ValueError, RecursionError, UsageError) as error:
        return None, str(error).splitlines()[0]
    if record.seq != len(before) + 1:
        return None, f"sequence number {record.seq}, expected {len(before) + 1}"
    if _seal(record, before[-1].crc if before else "").crc != record.crc:
        return None, "checksum does not match"
    return record, ""


def newest_open(host: Host) -> Optional[str]:
    """The plan ID of the newest open journal, or None."""
    journals = [facts for facts in read_journals(host) if facts.state == "open"]
    return journals[-1].plan if journals else None


def export(host: Host, plan_id: str) -> bytes:
    """The whole records of a journal, to the byte, to be carried elsewhere."""
    path = Journal.open(host, plan_id).path
    data = host.read_bytes(path, _MAX_JOURNAL)
    return data[: parse_records(data, path, _way_out(host, path))[1]]
