"""Hosts declared lost that come back by themselves: never do two clusters accept writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pytest

from tests.lab.evidence import (
    Writers,
    power_off,
    require_one_cluster,
    seed_keys,
    slow_scratch,
    stored,
)
from tests.lab.host import Host, wait_until
from tests.lab.kubelet.timing import KubeletTiming
from tests.lab.lab import Lab
from tests.lab.operator import OK, PAUSED, REFUSED, Ended, Running, fab, rescue_quorum, start_fab

THREE = ("master-0", "master-1", "master-2")
OLD = ("master-1", "master-2")


@dataclass
class Return:
    """A rescue from master-0 during which the others come back, and what was written to whom."""

    lab: Lab
    writers: Writers
    keys: dict[str, bytes]
    before: object
    turned: list[float] = field(default_factory=list)
    fenced: dict[str, float] = field(default_factory=dict)
    threads: list[threading.Thread] = field(default_factory=list)

    def rescue(self, moment: str, come_back: Callable[[Host], None]) -> Ended:
        """Rescue; the others come back as soon as fab says `moment`. Returns when both ended."""
        run = rescue_quorum(*OLD)
        run.on(moment, lambda: self.bring_back(come_back))
        run.on("ok master-0: unpark definition", lambda: self.turned.append(time.monotonic()))
        self._watch_fences(run)
        ended = run.end()
        for thread in self.threads:
            thread.join()
        return ended

    def _watch_fences(self, run: Running) -> None:
        """Note when each old member is fenced: what its host takes afterwards, it may take."""
        for name in OLD:
            run.on(rf"\[\d/\d\] Rejoin {name}$", partial(self._note_fence, name))

    def _note_fence(self, name: str) -> None:
        self.fenced.setdefault(name, time.monotonic())

    def bring_back(self, come_back: Callable[[Host], None]) -> None:
        """Let both come back at once, without waiting for it."""
        for name in OLD:
            self.threads.append(threading.Thread(target=come_back, args=(self.lab.hosts[name],)))
            self.threads[-1].start()

    def settle(self, ended: Ended) -> None:
        """Whatever became of the rescue: no rival was written to, and nothing is lost."""
        if ended.code == REFUSED:
            self._settle_old(ended)
        else:
            self._settle_rescued(ended.expect(PAUSED, OK))
        for name in THREE:
            self.writers.wait_for(name)
        self.writers.stop()
        require_one_cluster(self.lab, THREE, {**self.keys, **self.writers.keys()})

    def _settle_old(self, ended: Ended) -> None:
        """The old quorum is back: the rescue stopped in time, and the survivor goes back to it."""
        assert "answers on" in ended.err
        assert "fab rollback" in ended.err
        assert not self.turned
        fab("rollback", "--yes").expect(OK)
        assert stored(self.lab.hosts["master-0"]) == self.before

    def _settle_rescued(self, ended: Ended) -> None:
        """The rescued member is the cluster: nobody else was written to until the others rejoin."""
        first = next(w for w in self.writers.of("master-0") if w.begun > self.turned[0])
        for name in OLD:
            self.lab.hosts[name].wait_for_ssh()
        if ended.code == PAUSED:
            run = start_fab("resume")
            self._watch_fences(run)
            run.end().expect(OK)
        for name in OLD:
            until = self.fenced[name]
            rivals = [w for w in self.writers.of(name) if first.ended < w.ended and w.begun < until]
            assert not rivals, f"{len(rivals)} writes to a rival: {rivals[:3]}"


def boot(host: Host) -> None:
    """Give a host its power back."""
    host.boot(wait=False)


@pytest.mark.reliability(
    "Kill at every step",
    "hosts declared lost boot in the middle of the rescue: no second cluster, nothing "
    "acknowledged is lost",
)
@pytest.mark.parametrize("moment", ["park definition", "unpark definition"])
def test_they_boot_in_the_middle(lab: Lab, moment: str) -> None:
    keys, before = seed_keys(lab), stored(lab.hosts["master-0"])
    power_off(lab, *OLD)
    with Writers(lab) as writers:
        scene = Return(lab, writers, keys, before)
        scene.settle(scene.rescue(f"ok master-0: {moment}", boot))


@pytest.mark.reliability(
    "Kill at every step",
    "hosts declared lost regain their quorum while the survivor is down: the rescue stops "
    "and is taken back",
)
def test_they_regain_their_quorum_while_the_survivor_is_down(lab: Lab) -> None:
    host = lab.hosts["master-0"]
    keys, before = seed_keys(lab), stored(host)
    slow_scratch(lab, host, 12)
    power_off(lab, *OLD)
    with Writers(lab) as writers:
        scene = Return(lab, writers, keys, before)
        scene.settle(scene.rescue("ok master-0: copy data", boot))


@pytest.mark.reliability(
    "Kill at every step",
    "hosts declared lost start right after the last look: the survivor's guard tells them to go",
)
def test_they_start_right_after_the_last_look(lab: Lab) -> None:
    """The narrowest moment: nobody looks any more, and the survivor does not serve yet.

    The guard on its peer port tells them what its etcd will: that they were removed.
    """
    host = lab.hosts["master-0"]
    host.write("/etc/lab-kubelet.yaml", KubeletTiming(teardown=12.0, readmit=15.0).to_yaml())
    host.kubelet_restart()
    keys, before = seed_keys(lab), stored(host)
    for name in OLD:
        lab.hosts[name].run(["systemctl", "stop", "kubelet"])
        lab.hosts[name].stop_etcd_kill9()
        lab.hosts[name].cut_network()
    wait_until(lambda: not lab.is_healthy(host), 15, "the loss of the quorum")
    with Writers(lab) as writers:
        scene = Return(lab, writers, keys, before)
        scene.settle(scene.rescue("ok master-0: unpark definition", reconnect))
    assert "etcd_rescue" not in host.run(["nft", "list", "tables"]).stdout


def reconnect(host: Host) -> None:
    """Plug a host in again, with its kubelet at work."""
    host.heal_network()
    host.run(["systemctl", "start", "kubelet"])


@pytest.mark.reliability(
    "Kill at every step",
    "hosts declared lost boot after the rescue: they are told to go, and rejoin",
)
def test_they_boot_after_it(lab: Lab) -> None:
    keys, before = seed_keys(lab), stored(lab.hosts["master-0"])
    power_off(lab, *OLD)
    with Writers(lab) as writers:
        scene = Return(lab, writers, keys, before)
        ended = scene.rescue("ok master-0: wait serving", lambda host: None).expect(PAUSED)
        scene.bring_back(boot)
        old = [lab.hosts[name] for name in OLD]
        wait_until(lambda: all(map(was_removed, old)), 30, "the end of the old members")
        assert not [w for w in writers.of(*OLD) if w.ended > scene.turned[0]]
        scene.settle(ended)


def was_removed(host: Host) -> bool:
    """Whether etcd said in its log that the cluster told it to go."""
    logs = host.path("/var/log/pods").glob("kube-system_etcd-*/etcd/*.log")
    return any(b"permanently removed" in log.read_bytes() for log in logs)
