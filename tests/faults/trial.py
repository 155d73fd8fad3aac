"""One trial: a fresh broken cluster, its rescue, one fault at one point, and the way out of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.faults import gate
from tests.faults.checkpoint import Checkpoint
from tests.faults.kinds import REPEATED, Fault, machine, strike
from tests.faults.outcome import Outcome
from tests.faults.points import BEGIN, Point, Track, not_durable
from tests.faults.proof import (
    Picture,
    aftermath,
    apart,
    differences,
    picture,
    require_clean,
    require_one_flagged,
    require_original_kept,
    require_watched,
    require_whole,
)
from tests.faults.row import Row
from tests.faults.stops import Killer, LastMoment, Stop
from tests.lab.evidence import DATA, seed_keys
from tests.lab.faults import PASSING
from tests.lab.host import Host
from tests.lab.lab import MANIFEST, Lab
from tests.lab.operator import OK, PAUSED, REFUSED, USAGE, Ended, Running
from tests.lab.pool import LabPool

NOTHING_OPEN = "no unfinished plan"


@dataclass
class Kept:
    """A row's broken cluster as disks, and what was known of it by then."""

    checkpoint: Checkpoint
    keys: dict[str, bytes]
    actions: dict[str, str]
    flagged: list[tuple[str, tuple[str, ...]]]


class Stage:
    """Keeps one lab alive, and the broken cluster of the row that is on."""

    def __init__(self, pool: LabPool) -> None:
        self._pool = pool
        self._row: Row | None = None
        self._kept: Kept | None = None

    @contextmanager
    def scene(self, row: Row) -> Iterator[Scene]:
        """A fresh cluster in need of a row's recipe, watched from its first moment."""
        if self._kept is None or self._row is not row:
            self._row, self._kept = row, self._make(row)
        self._kept.checkpoint.restore()
        found = Scene(self._kept.checkpoint.lab, row, self._kept)
        with gate.Gate(found.lab, found.track.watch) as watching, row.around(found.lab):
            try:
                row.ready(found.lab)
                found.remember()
                yield found
            finally:
                for stop in found.stops:
                    stop.release()
            assert not watching.errors, watching.errors

    def _make(self, row: Row) -> Kept:
        lab = self._pool.get(**row.options)
        keys, track = seed_keys(lab), Track(lambda point, call: None)
        with gate.Gate(lab, track.watch):
            row.prepare(lab)
        return Kept(Checkpoint.take(lab), keys, track.actions, track.flagged)


class Scene:
    """A broken cluster under watch: its keys, its original data and manifests."""

    def __init__(self, lab: Lab, row: Row, kept: Kept) -> None:
        self.lab, self.row, self.keys = lab, row, kept.keys
        self.track = Track(self._hear)
        self.track.actions |= kept.actions
        self.track.flagged += kept.flagged
        self.stops: list[Stop] = []
        self.killer: Killer | None = None
        self.originals: dict[str, Picture] = {}
        self.definitions: dict[str, Picture] = {}
        self.problems: list[str] = []
        self.is_rolling_back = False

    def remember(self) -> None:
        """Begin: see what the definitions are like, and count points from here."""
        for host in self.lab.machines:
            self.definitions[host.name] = self.picture(host)
        self.track.restart()

    def picture(self, host: Host) -> Picture:
        """What of a host is brought back bit for bit by a rollback."""
        tops = {folder: picture(host, folder) for folder in self.row.folders}
        return {
            f"{top}/{name}": seen for top, found in tops.items() for name, seen in found.items()
        }

    def contents(self) -> dict[str, str]:
        """Hash -> one of the files that had this content at the beginning."""
        return {
            str(about[5]): f"as {host}:{name} was"
            for host, found in self.definitions.items()
            for name, about in found.items()
            if len(about) > 5
        }

    def _hear(self, point: Point, call: gate.Call) -> None:
        host, data = machine(self.lab, point.host), f"{DATA}/member"
        is_first_touch = point.record == "intent" and point.action in ("copy_data", "relocate_data")
        if is_first_touch and point.host not in self.originals and host.path(data).is_dir():
            self.originals[point.host] = picture(host, data, folder_times=True)
        if self.is_rolling_back and call.target == MANIFEST and point.host in self.originals:
            now = picture(host, data, folder_times=True)
            found = differences(self.originals[point.host], now)
            self.problems += [f"{point.host}: rolled back to other data: {d}" for d in found[:3]]
        for stop in self.stops:
            stop.hold(point, call)
        if self.killer:
            self.killer.meet(point, call)


def enumerate_points(stage: Stage, row: Row) -> tuple[list[Point], dict[str, Any]]:
    """The points of an undisturbed run, each once, and what it leaves on each host.

    In an order that is the same in each run, also of hosts that are at work at the same time.
    """
    with stage.scene(row) as found:
        run = row.run_whole().expect(OK, PAUSED)
        points = list(found.track.points)
        loose = not_durable(points)
        assert not loose, loose
        if run.code == PAUSED:
            row.resume().expect(OK)
        prove(found)
        each_once = {point.key: point for point in points}.values()
        return sorted(each_once, key=lambda point: point.order), marks(found)


def marks(found: Scene) -> dict[str, Any]:
    """What a finished plan leaves on the hosts that are up."""
    up = [host for host in found.lab.machines if host.is_up]
    row, known = found.row, found.contents()
    return {host.name: aftermath(host, row.watched, row.settled, known) for host in up}


def prove(found: Scene) -> None:
    """All that must hold at the end, but for what needs an undisturbed run to compare with."""
    assert not found.problems, found.problems
    require_whole(found.lab, found.row.voters, found.keys)
    require_definitions(found)
    for name, original in found.originals.items():
        require_original_kept(found.lab.hosts[name], original)
    require_one_flagged(found.lab, found.track.flagged)


def require_definitions(found: Scene) -> None:
    """In every watched directory is what has to be there, and nothing else."""
    for name, host in found.lab.hosts.items():
        if host.is_up:
            require_watched(host, found.row.watched, found.row.pods.get(name, ("etcd.yaml",)))


def run_trial(stage: Stage, row: Row, fault: Fault, reference: dict[str, Any] | None) -> Outcome:
    """Carry out one trial; a failure is an outcome too, with what was seen.

    A rescue that refused to begin and said that one should look again is begun again.
    """
    for _ in range(4):
        outcome = _run_once(stage, row, fault, reference)
        if outcome.outcome != "missed" or not PASSING.search(outcome.note):
            break
    return outcome


def _run_once(stage: Stage, row: Row, fault: Fault, reference: dict[str, Any] | None) -> Outcome:
    outcome = Outcome(row.name, fault.kind, fault.how, fault.key, fault.key)
    start = time.monotonic()
    try:
        with stage.scene(row) as found:
            if fault.kind in REPEATED:
                _try_many(found, fault, reference, outcome)
            else:
                _try(found, fault, reference, outcome)
    except Exception as error:
        outcome.outcome, outcome.note = "failed", f"{type(error).__name__}: {error}"
    outcome.seconds = round(time.monotonic() - start, 2)
    return outcome


def _try(found: Scene, fault: Fault, reference: dict[str, Any] | None, outcome: Outcome) -> None:
    stop = Stop(fault.key)
    found.stops.append(stop)
    run = found.row.start()
    call = stop.wait(run)
    if call is None:
        _miss(run, outcome)
        return
    outcome.label = stop.label
    healed = strike(found.lab, fault, call, run)
    stop.release()
    ended = run.end()
    healed()
    is_restored = finish(found, fault, ended, outcome)
    if is_restored and found.row.revive:
        prove_revived(found)
        return
    if is_restored:
        begin_again(found, outcome)
    prove(found)
    prove_like(found, reference)
    prove_again(found, outcome)


def _miss(run: Running, outcome: Outcome) -> None:
    """The run came by no such point."""
    ended = run.end()
    outcome.outcome, outcome.note = "missed", f"exit code {ended.code}: {ended.err[-1500:]}"


def _try_many(
    found: Scene, fault: Fault, reference: dict[str, Any] | None, outcome: Outcome
) -> None:
    """Kill the agents again and again, on their way or on their way back."""
    spared = "" if fault.kind == "rollback-kills" else BEGIN  # single kills meet the delivery
    found.killer = Killer(int(fault.key.rpartition(":")[2]), spared)
    if fault.kind == "rollback-kills":
        _roll_back_killed(found, outcome)
    else:
        found.killer.is_on = True
        ended = found.row.start().end()
        outcome.way = f"by the same run ({ended.code}); "
        if ended.code != OK:
            go_on(found, outcome)
        prove(found)
        prove_like(found, reference)
        prove_again(found, outcome)
    outcome.killed = len(found.killer.killed)
    outcome.label = "; ".join(map(str, found.killer.killed))
    assert outcome.killed or fault.kind == "rollback-kills"


def _roll_back_killed(found: Scene, outcome: Outcome) -> None:
    """Stop at the last moment at which all can be taken back, and kill what takes it back."""
    assert found.killer is not None
    stop = LastMoment(found.track)
    found.stops.append(stop)
    run = found.row.start()
    call = stop.wait(run)
    if call is None:
        _miss(run, outcome)
        return
    run.kill()
    gate.kill(call.agent)
    stop.release()
    found.track.restart()
    found.killer.is_on = found.is_rolling_back = True
    back = found.row.roll_back().expect(OK)
    found.killer.is_on = found.is_rolling_back = False
    outcome.way = "rolled back"
    prove_restored(found, back)
    if found.row.revive:
        prove_revived(found)
    else:
        begin_again(found, outcome)
        prove(found)


def finish(found: Scene, fault: Fault, ended: Ended, outcome: Outcome) -> bool:
    """Go on, or back where that is asked for and possible; True where all was taken back."""
    if fault.how == "rollback":
        known, is_complete = len(found.problems), "journal-write complete" in outcome.label
        found.is_rolling_back = True
        back = found.row.roll_back().expect(OK, REFUSED, USAGE)
        found.is_rolling_back = False
        if back.code == USAGE and is_complete:
            del found.problems[known:]
            outcome.way = "it was complete; "
            go_on(found, outcome)
            return False
        if back.code != REFUSED:
            outcome.way = "rolled back" if back.code == OK else "nothing was begun"
            prove_restored(found, back)
            return True
        # Nothing was taken back: what was seen is the edit of an agent whose line was cut.
        del found.problems[known:]
        assert "no return" in back.err, back.err
        assert "steps remain" in back.err or "nothing remains" in back.err, back.err
        outcome.way = "past the point of no return; "
    if fault.how == "reattach" and ended.code == OK:
        outcome.way = "by the same run"
        return False
    if fault.how == "reattach" and ended.code == PAUSED:
        outcome.way = "by the same run; "
    go_on(found, outcome)
    return False


def begin_again(found: Scene, outcome: Outcome) -> None:
    """After a rollback the cluster needs the recipe as it did; then as an operator goes on."""
    found.row.ready(found.lab)
    go_on(found, outcome)


def go_on(found: Scene, outcome: Outcome) -> None:
    """What an operator does: resume; and where no plan was begun yet, the command again."""
    ended = found.row.resume().expect(OK)
    outcome.way += "resume"
    if NOTHING_OPEN not in ended.err:
        return
    ended = found.row.run_whole().expect(OK, PAUSED, *found.row.again)
    outcome.way += ", the command again"
    if ended.code == PAUSED:
        found.row.resume().expect(OK)


def prove_restored(found: Scene, back: Ended) -> None:
    """After a rollback: every definition byte for byte, nothing left over, the data untouched."""
    assert back.code == OK or NOTHING_OPEN in back.err, back.err
    assert not found.problems, found.problems
    for host in found.lab.machines:
        changed = differences(found.definitions[host.name], found.picture(host))
        assert not changed, f"{host.name}: {changed[:5]}"
        if host.is_up:
            require_clean(host)
    found.originals.clear()  # an etcd that runs again may write to it; the next stop counts


def prove_revived(found: Scene) -> None:
    """The cluster as it was before its hosts were lost: nothing that was done has hurt it."""
    assert found.row.revive is not None
    found.row.revive(found.lab)
    require_whole(found.lab, list(found.lab.hosts), found.keys)
    require_definitions(found)


def prove_like(found: Scene, reference: dict[str, Any] | None) -> None:
    """The hosts are as an undisturbed run leaves them."""
    if reference is None:
        return
    left = marks(found)
    for name, wanted in reference.items():
        same = {"journals"}  # a plan that was begun again has a journal more
        if set(left[name]["quarantine"]) == set(wanted["quarantine"]):
            same.add("quarantine")  # one taken back leaves the new files it had made
        wanted, now = ({k: v for k, v in d.items() if k not in same} for d in (wanted, left[name]))
        changed = apart(wanted, now)
        assert not changed, f"{name} is not as after an undisturbed run: {changed[:5]}"


def prove_again(found: Scene, outcome: Outcome) -> None:
    """The same command once more changes nothing."""
    members = found.lab.members(found.row.voters[0])
    left = marks(found)
    start = time.monotonic()
    ended = found.row.start().end().expect(*found.row.again)
    outcome.again_seconds = round(time.monotonic() - start, 2)
    assert marks(found) == left, f"a second run changed something:\n{ended.err}"
    assert found.lab.members(found.row.voters[0]) == members
