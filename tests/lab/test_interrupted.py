"""Rescues that are cut short: whatever dies in the middle of whatever step, it can be finished."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from tests.lab.evidence import (
    power_off,
    require_no_flag,
    require_one_cluster,
    require_tidy_manifests,
    scratch_pids,
    seed_keys,
    slow_scratch,
    stored,
)
from tests.lab.host import wait_until
from tests.lab.lab import MANIFEST, Lab
from tests.lab.operator import (
    OK,
    PAUSED,
    STEP_FAILED,
    Running,
    agent_pids,
    fab,
    rescue_quorum,
    ssh_sessions,
    start_fab,
)

OLD = ("master-1", "master-2")


def kill_at(run: Running, *moments: str) -> None:
    """SIGKILL fab at each of these lines in turn, and resume in between.

    An agent whose coordinator is gone finishes its step alone: where that was one of the lines, the
    next run is killed at a later one. At the end a run is killed while it still looks around.
    """
    for number in range(len(moments) - 1):
        run.wait_for("|".join(moments[number:]))
        killed = run.kill()
        assert killed.code == -signal.SIGKILL, f"it had ended before:\n{killed.err}"
        run = start_fab("resume")
    run.kill()


@pytest.mark.reliability(
    "Kill at every step", "the coordinator is killed again and again: resume ends the rescue"
)
def test_the_coordinator_is_killed_again_and_again(lab: Lab) -> None:
    host, keys = lab.hosts["master-0"], seed_keys(lab)
    before = stored(host)
    power_off(lab, *OLD)
    on_survivor = ("preflight", "park definition", "copy data", "relocate data", "unpark", "wait")
    kill_at(rescue_quorum(*OLD), *(f"ok master-0: {action}" for action in on_survivor))
    fab("resume").expect(PAUSED)
    assert stored(host) == before
    require_one_cluster(lab, ["master-0"], keys)

    lab.hosts["master-1"].boot()
    on_joiner = ("fence", "prejoin", "install", "unpark", "wait serving")
    kill_at(start_fab("resume"), *(f"ok master-1: {action}" for action in on_joiner))
    fab("resume", "--drop", "master-2").expect(OK)
    require_one_cluster(lab, ("master-0", "master-1"), keys)


@pytest.mark.reliability(
    "Kill at every step",
    "SSH drops in the middle of a step: the agent finishes it, the coordinator takes it up again",
)
def test_the_connection_drops_and_is_taken_up_again(lab: Lab) -> None:
    host, keys = lab.hosts["master-0"], seed_keys(lab)
    slow_scratch(lab, host, 3)
    power_off(lab, *OLD)
    healed = threading.Timer(4, host.heal_network)

    def end_sessions() -> None:
        host.run(["kill", "-9", *map(str, ssh_sessions(host))])

    def cut() -> None:
        host.cut_network(ports=[22])
        healed.start()

    run = rescue_quorum(*OLD)
    run.on("ok master-0: copy data", end_sessions)
    run.on("ok master-0: unpark definition", cut)
    run.end().expect(PAUSED)
    healed.join()
    assert "trying again" in run.err
    require_one_cluster(lab, ["master-0"], keys)


@pytest.mark.reliability(
    "Kill at every step", "the survivor reboots within and between steps: resume ends the rescue"
)
def test_the_survivor_reboots_within_and_between_steps(lab: Lab) -> None:
    host, keys = lab.hosts["master-0"], seed_keys(lab)
    slow_scratch(lab, host, 2)
    before = stored(host)
    power_off(lab, *OLD)

    def reboot() -> None:
        host.power_cut()
        host.boot(wait=False)

    run = rescue_quorum(*OLD)
    for action in ("park definition", "copy data", "relocate data", "install data"):
        run.on(f"ok master-0: {action}", reboot)
    run.end().expect(PAUSED)
    assert stored(host) == before
    require_one_cluster(lab, ["master-0"], keys)


@pytest.mark.reliability(
    "Kill at every step", "every host loses power between two renames: resume ends the rescue"
)
def test_everything_loses_power_between_two_renames(lab: Lab) -> None:
    """Right after the old data left its place: the host comes back with no data and no manifest."""
    host, keys = lab.hosts["master-0"], seed_keys(lab)
    power_off(lab, *OLD)
    run = rescue_quorum(*OLD)
    run.wait_for("ok master-0: relocate data")
    run.kill()
    host.power_cut()
    host.boot()
    fab("resume").expect(PAUSED)
    require_one_cluster(lab, ["master-0"], keys)


@pytest.mark.reliability(
    "Kill at every step",
    "the agent is killed while it copies and while it seeds: the original data is unchanged, "
    "resume ends the rescue",
)
def test_the_agent_is_killed_while_it_copies_and_while_it_seeds(lab: Lab) -> None:
    host, keys = lab.hosts["master-0"], seed_keys(lab)
    power_off(lab, *OLD)
    held: list[int] = []

    def kill_agent() -> None:
        for pid in agent_pids(host):
            os.kill(pid, signal.SIGKILL)

    def hold_scratch_and_kill_agent() -> None:
        wait_until(lambda: bool(scratch_pids(host)), 20, "a scratch etcd")
        held.extend(scratch_pids(host))
        for pid in held:
            os.kill(pid, signal.SIGSTOP)  # it cannot end by itself before its agent is gone
        kill_agent()
        wait_until(lambda: not any(map(lives, held)), 5, "the end of the scratch etcd")

    run = rescue_quorum(*OLD)
    run.on("ok master-0: stop etcd", kill_agent)
    run.on("ok master-0: copy data", hold_scratch_and_kill_agent)
    run.end().expect(PAUSED)
    assert run.err.count("trying again") >= 2
    assert held
    assert not any(map(lives, held))
    assert not scratch_pids(host)
    require_one_cluster(lab, ["master-0"], keys)


def lives(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.reliability(
    "Kill at every step",
    "every host loses power while force-new-cluster is in the manifest: the flag is gone in "
    "the end, and no second member ever had it",
)
def test_everything_loses_power_with_the_flag_in_the_manifest(lab: Lab) -> None:
    host, keys = lab.hosts["master-0"], seed_keys(lab)
    before = stored(host)
    power_off(lab, *OLD)
    run = rescue_quorum(*OLD, more=("--in-manifest",))
    manifest = host.path(MANIFEST)

    def is_flagged() -> bool:
        return manifest.exists() and b"force-new-cluster" in manifest.read_bytes()

    wait_until(is_flagged, 60, "the flag in the manifest")
    run.kill()
    host.power_cut()
    host.boot()
    fab("resume").expect(PAUSED)
    assert stored(host) == before
    require_no_flag(host)
    require_one_cluster(lab, ["master-0"], keys)


@pytest.mark.reliability(
    "Kill at every step", "a joining host reboots on its way: resume ends the rescue"
)
def test_a_joining_host_reboots_on_its_way(lab: Lab) -> None:
    host, keys = lab.hosts["master-1"], seed_keys(lab)
    power_off(lab, *OLD)
    rescue_quorum(*OLD).end().expect(PAUSED)
    for name in OLD:
        lab.hosts[name].boot()
    slow_scratch(lab, host, 2)
    reboots: list[str] = []

    def reboot() -> None:
        reboots.append("master-1")
        host.power_cut()
        host.boot(wait=False)

    run = start_fab("resume")
    for line in ("ok master-1: fence", "ok master-0: member add learner", "ok master-1: install"):
        run.on(line, reboot)
    if run.end().code != OK:  # a dying systemd may refuse the agent's last command
        run.end().expect(1, STEP_FAILED)
        fab("resume").expect(OK)
    assert len(reboots) == 3
    require_one_cluster(lab, ("master-0", *OLD), keys)
    require_tidy_manifests(lab, ("master-0", *OLD))
