"""Two operators, one cluster: who holds it, who is told what, and what a dead one leaves behind."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.lab.console import act
from tests.lab.evidence import STATE, put_binary, require_one_cluster, seed_keys, slow_scratch
from tests.lab.faults import attempts, crash_loop, rescue
from tests.lab.host import Host, wait_until
from tests.lab.lab import Lab
from tests.lab.operator import LOCKED, OK, Running, fab, start_fab

HELD = r"plan [0-9a-f]{12} of \S+@\S+ pid \d+ holds this host, taken \d+ s ago"


def lock_of(host: Host) -> dict[str, Any]:
    """The lock as it lies on a host."""
    found: dict[str, Any] = json.loads(host.read(f"{STATE}/lock.json"))
    return found


def locked_by(lab: Lab, *names: str) -> set[str]:
    """The plans that hold these hosts."""
    return {lock_of(lab.hosts[name])["plan"] for name in names} - {""}


def plans_with_work(lab: Lab) -> set[str]:
    """Every plan of which a step with an effect was begun on any host."""
    found = set()
    for host in lab.hosts.values():
        for journal in sorted(host.path(f"{STATE}/journal").glob("*.jsonl")):
            if b'"kind":"intent"' in journal.read_bytes():
                found.add(journal.stem)
    return found


def send(run: Running, what: signal.Signals) -> None:
    """Send a signal to a coordinator and all helpers of its own."""
    os.killpg(run.process_id, what)


@pytest.mark.reliability(
    "Locks", "a second operator is refused on every host of the cluster: holder, plan, age, alive"
)
@pytest.mark.reliability(
    "Locks", "resume from elsewhere takes over, and the coordinator that was replaced is refused"
)
def test_a_second_operator_and_a_stale_coordinator(lab: Lab) -> None:
    keys, everyone = seed_keys(lab), list(lab.hosts)
    crash_loop(lab.hosts["master-1"])
    slow_scratch(lab, lab.hosts["master-1"], 3)
    first = start_fab("rescue-node", "master-1", "--yes", hosts="master-0")
    first.wait_for("ok master-1: fence")
    send(first, signal.SIGSTOP)  # it is alive, and says nothing: a hung machine, a lost network
    assert len(locked_by(lab, *everyone)) == 1
    assert {lock_of(host)["token"] for host in lab.hosts.values()} == {1}
    second = fab("rescue-node", "master-1", "--yes", hosts="master-2").expect(LOCKED)
    assert re.search(f"{HELD}; that run is at work there now", second.err)
    assert re.search(r"next: fab resume [0-9a-f]{12} ", second.err)

    heir = start_fab("resume", hosts="master-2")
    heir.wait_for("taken over from .*, who was at work on it")
    heir.wait_for("ok master-1: relocate data")
    send(first, signal.SIGCONT)
    stale = first.end().expect(LOCKED)
    assert re.search("this order carries 1|does not hold the lock|has taken plan", stale.err)
    heir.end().expect(OK)
    require_one_cluster(lab, everyone, keys)
    assert locked_by(lab, *everyone) == set()
    assert {lock_of(host)["token"] for host in lab.hosts.values()} == {2}


@pytest.mark.reliability(
    "Locks", "two operators who start at the same moment on different hosts: never two runs"
)
def test_two_operators_start_at_the_same_moment(lab: Lab) -> None:
    keys, everyone = seed_keys(lab), list(lab.hosts)
    crash_loop(lab.hosts["master-1"])
    slow_scratch(lab, lab.hosts["master-1"], 4)
    runs = [
        start_fab("rescue-node", "master-1", "--yes", hosts=through)
        for through in ("master-0", "master-2")
    ]
    ended = [run.end() for run in runs]
    codes = sorted(each.code for each in ended)
    assert codes in ([OK, LOCKED], [LOCKED, LOCKED]), [each.err for each in ended]
    assert len(plans_with_work(lab)) == codes.count(OK)
    if OK not in codes:
        fab("rescue-node", "master-1", "--yes").expect(OK)
    require_one_cluster(lab, everyone, keys)
    assert locked_by(lab, *everyone) == set()


@pytest.mark.reliability(
    "Locks", "a run that died before it changed anything leaves nothing that a person must remove"
)
def test_a_dead_run_that_did_nothing_is_in_nobodys_way(lab: Lab) -> None:
    keys, ill = seed_keys(lab), lab.hosts["master-1"]
    crash_loop(ill)
    put_binary(ill, "sleep 8; exit 1")  # its first look takes long, and changes nothing
    run = start_fab("rescue-node", "master-1", "--yes")
    run.wait_for(r"\[1/")
    (plan,) = locked_by(lab, *lab.hosts)
    run.kill()
    ill.power_cut()
    ill.boot()
    ill.path(f"{STATE}/bin").rename(ill.path(f"{STATE}/bin.slow"))
    wait_until(lambda: attempts(ill) >= 1, 30, "etcd's next failure")
    done = rescue("master-1", through="master-2").expect(OK)
    assert f"plan {plan[:12]}, left open by a run that ended, is closed" in done.err
    require_one_cluster(lab, list(lab.hosts), keys)
    assert locked_by(lab, *lab.hosts) == set()


@pytest.mark.reliability(
    "Locks", "members that the inventory leaves out are locked as well, where they can be reached"
)
def test_a_member_that_no_inventory_names_is_locked_too(lab: Lab, tmp_path: Path) -> None:
    part, other = tmp_path / "part.yaml", lab.hosts["master-2"]
    part.write_text("hosts: [master-0, master-1]\n")
    fab("survey", hosts="master-1").expect(OK)
    for verb in ("park-definition", "stop-etcd"):
        act(lab.hosts["master-1"], verb)
    fab("rescue-node", "master-1", "--yes", "--cluster", str(part), hosts="").expect(OK)
    lab.wait_healthy()
    (journal,) = other.path(f"{STATE}/journal").glob("*.jsonl")
    assert b'"kind":"complete"' in journal.read_bytes()
    assert (lock_of(other)["plan"], lock_of(other)["token"]) == ("", 3)
