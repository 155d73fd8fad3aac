"""What a point is: one rename, fsync or write to the journal, of one step on one host.

An fsync of a scratch etcd is a point of the agent that runs it, too: its phase ends in "scratch".
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Any

from tests.faults.gate import Call

BEGIN, END = "begin", "end"
"""Phases beside the steps: delivery, lock and journal before the first; the closing after all."""

SCRATCH = "scratch"
JOURNAL = "/etcd-rescue/journal/"
_KINDS = {
    "write": "journal-write", "fsync": "fsync", "fdatasync": "fsync", "rename": "rename",
    "renameat": "rename", "renameat2": "rename",
}  # fmt: skip


@dataclass(frozen=True)
class Point:
    """The `number`-th such call (from 1) of a phase on a host.

    phase: a step's ID and action ("07 relocate_data"), begin or end. kind: rename, fsync or
    journal-write. record: what a journal-write is about to say (intent, done, …). place: of what;
    source: what is renamed to that.
    """

    host: str
    phase: str
    number: int
    kind: str = ""
    record: str = ""
    place: str = ""
    source: str = ""

    @property
    def key(self) -> str:
        """What finds the same point in another run."""
        return f"{self.host}:{self.phase}:{self.number}"

    @property
    def step(self) -> str:
        """The ID of the step, or begin or end."""
        return self.phase.partition(" ")[0]

    @property
    def action(self) -> str:
        """The action of the step, or begin, end or scratch."""
        return self.phase.rpartition(" ")[2]

    @property
    def order(self) -> tuple[int, str, str, str, int]:
        """For sorting: as one agent comes by, and where several are at work, by host."""
        turn = {BEGIN: 0, END: 2}.get(self.step, 1)
        return turn, self.step if turn == 1 else "", self.host, self.phase, self.number

    def plain(self) -> dict[str, Any]:
        """For a results file."""
        return asdict(self)

    def __str__(self) -> str:
        what = f"{self.kind} {self.record}".strip()
        return f"{self.key} ({what} {self.place})"


def point_of_key(key: str) -> Point:
    """The point that a key names, with nothing known of it but that."""
    host, phase, number = key.split(":")
    return Point(host, phase, int(number))


class Track:
    """Follows the agents of all hosts through their plan, and numbers the points they come to.

    hear: called for each point, before its call is carried out, in the agent's own thread. finals:
    steps past which there is no way back; last: the last step of the plan.
    """

    def __init__(self, hear: Callable[[Point, Call], None]) -> None:
        self._hear = hear
        self._guard = threading.Lock()
        self._phase: dict[str, str] = {}
        self._count: Counter[tuple[str, str]] = Counter()
        self._agent: dict[str, int] = {}
        self.actions: dict[str, str] = {}
        self.finals: set[str] = set()
        self.last = ""
        self.points: list[Point] = []
        self.flagged: list[tuple[str, tuple[str, ...]]] = []

    def restart(self) -> None:
        """Count anew from here; what was started with the flag stays known."""
        with self._guard:
            self._phase.clear()
            self._count.clear()
            self._agent.clear()
            self.points.clear()

    def watch(self, call: Call) -> None:
        """Take one call of a gate."""
        if call.argv:
            if any("force-new-cluster" in word for word in call.argv):
                self.flagged.append((call.host, call.argv))
            return
        if call.name not in _KINDS or not (call.by_agent or _is_scratch(call)):
            return
        if call.name == "write" and JOURNAL not in call.path:
            return
        if "/__pycache__/" in call.target:
            return  # Python's own caches, which it checks itself
        self._hear(self._number(call), call)

    def _number(self, call: Call) -> Point:
        with self._guard:
            record = self._note(call)
            phase = self._phase.get(call.host, BEGIN)
            scratch = f"{phase} {SCRATCH}"
            if self._agent.get(call.host) != call.agent or record == "intent":
                # What a step is begun with again has its number again.
                self._count[call.host, phase] = self._count[call.host, scratch] = 0
            self._agent[call.host] = call.agent
            phase = phase if call.by_agent else scratch
            self._count[call.host, phase] += 1
            place = plainly(call.target or call.path)
            source = plainly(call.path) if call.target else ""
            number = self._count[call.host, phase]
            kind = _KINDS[call.name] if call.by_agent else f"{SCRATCH}-fsync"
            point = Point(call.host, phase, number, kind, record, place, source)
            self.points.append(point)
            return point

    def _note(self, call: Call) -> str:
        """What a write to the journal says; it may begin a phase."""
        if not call.data:
            return ""
        try:
            record = json.loads(call.data)
        except ValueError:
            return ""  # the rest of a large record
        kind, step = str(record["kind"]), str(record["step"])
        if kind == "plan":
            for stage in record["data"]["plan"]["stages"]:
                self.actions |= {s["id"]: s["action"] for s in stage["steps"]}
                self.finals |= {s["id"] for s in stage["steps"] if s["final"]}
                self.last = stage["steps"][-1]["id"]
        elif kind in ("complete", "rolled-back"):
            self._phase[call.host] = END
        elif kind in ("intent", "undone", "skipped"):
            back = "" if kind == "intent" else f"{kind} "
            self._phase[call.host] = f"{step} {back}{self.actions.get(step, '?')}"
        return kind


def not_durable(points: Sequence[Point]) -> list[str]:
    """Where a run notes something that a power cut could still take back; empty for nowhere.

    points: of an undisturbed run. A write to the journal is synced right after it; and before the
    next one, the directories that a rename has changed are. What lies under agent/ is left out: it
    can be sent again.
    """
    found = []
    for host in sorted({point.host for point in points}):
        ours = [p for p in points if p.host == host and p.action != SCRATCH]
        ours = [p for p in ours if "/etcd-rescue/agent/" not in p.place]
        for here, after in zip(ours, [*ours[1:], None], strict=True):
            if here.kind == "journal-write" and (after is None or after.place != here.place):
                found.append(f"{here}: not synced before {after}")
        for index, here in enumerate(ours):
            if here.kind == "rename":
                synced = {p.place for p in takewhile(_is_no_record, ours[index + 1 :])}
                changed = {os.path.dirname(here.place), os.path.dirname(here.source)}
                found += [f"{here}: {folder} not synced" for folder in changed - synced]
    return found


def _is_scratch(call: Call) -> bool:
    """Of what kubectl has looked up it keeps a cache there, too; nothing depends on that."""
    is_work = "/etcd-rescue/work/" in call.path and "/etcd-rescue/work/kube/" not in call.path
    return "sync" in call.name and is_work


def _is_no_record(point: Point) -> bool:
    return point.kind != "journal-write"


def plainly(path: str) -> str:
    """A path without what differs from run to run."""
    path = re.sub(r"\b[0-9a-f]{64}\b", "PLAN", path)
    path = re.sub(r"\b[0-9a-f]{12,16}\b", "ID", path)
    return re.sub(r"\d{10}\.\d{3}", "TIME", path)
