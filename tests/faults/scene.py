"""The scene of a trial: a fresh broken cluster under watch, and what must hold of it in the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.faults import gate
from tests.faults.checkpoint import Checkpoint
from tests.faults.kinds import machine
from tests.faults.outcome import Outcome
from tests.faults.points import Point, Track
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
from tests.faults.stops import Killer, Stop
from tests.lab.evidence import DATA, seed_keys
from tests.lab.host import Host
from tests.lab.lab import MANIFEST, Lab
from tests.lab.operator import OK, Ended
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
        self.is_rolling_back = self.was_taken_back = False

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


def prove_all(found: Scene, reference: dict[str, Any] | None, outcome: Outcome) -> None:
    """All that must hold at the end, compared with an undisturbed run where there was one."""
    prove(found)
    prove_like(found, reference)
    prove_again(found, outcome)


def require_definitions(found: Scene) -> None:
    """In every watched directory is what has to be there, and nothing else."""
    for name, host in found.lab.hosts.items():
        if host.is_up:
            require_watched(host, found.row.watched, found.row.pods.get(name, ("etcd.yaml",)))


def prove_restored(found: Scene, back: Ended) -> None:
    """After a rollback: every definition byte for byte, nothing left over, the data untouched.

    A host that is known through a snapshot alone is not asked whether a plan was begun there; the
    next rescue sees that nothing was, and takes its lock over.
    """
    assert back.code == OK or NOTHING_OPEN in back.err, back.err
    assert not found.problems, found.problems
    for host in found.lab.machines:
        changed = differences(found.definitions[host.name], found.picture(host))
        assert not changed, f"{host.name}: {changed[:5]}"
        if host.is_up:
            require_clean(host, may_be_locked=NOTHING_OPEN in back.err)
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
        more = set(left[name]["quarantine"]) ^ set(wanted["quarantine"])
        if more <= ({"files"} if found.was_taken_back else set()):
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
