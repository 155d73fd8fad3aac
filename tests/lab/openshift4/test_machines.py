"""A control-plane machine that is gone: replaced through the API, whatever breaks on the way."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

import pytest

from tests.lab.evidence import require_one_cluster, seed_keys
from tests.lab.host import wait_until
from tests.lab.lab import Lab
from tests.lab.openshift4.actor import Actor
from tests.lab.openshift4.actor.machines import reinstall
from tests.lab.openshift4.api.faults import Fault
from tests.lab.openshift4.api.kinds import condition
from tests.lab.openshift4.api.store import StoreDown
from tests.lab.openshift4.api_on_hosts import FAULTS, faults_text
from tests.lab.operator import OK, PAUSED, REFUSED, agent_pids, fab, start_fab

OLD, NEW = "lab-x7k2p-master-1", "lab-x7k2p-master-3"
MACHINES = ("machines.machine.openshift.io", "openshift-machine-api")
SECRETS = ("secrets", "openshift-etcd")
THREE = ("master-0", "master-1", "master-2")
TWINS = ("master-10", "master-1.lab", "x-master-1")
LEFT = "master-0,master-2"
ROLES = ("peer", "serving", "serving-metrics")


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    """Three fresh hosts in OpenShift's layout."""
    return make_lab(layout="openshift4")


def faults(lab: Lab, *rules: Fault) -> None:
    """Have these faults on every host's API server, and no others."""
    for host in lab.hosts.values():
        host.write(FAULTS, faults_text(*rules))


def uids(actor: Actor, resource: str, namespace: str) -> dict[str, str]:
    return {o["metadata"]["name"]: o["metadata"]["uid"] for o in actor.list(resource, namespace)}


def phase_of(actor: Actor, name: str) -> str:
    """The phase of a machine, or gone; the two members that are left may be on their way."""
    found: list[str] = []

    def look() -> bool:
        with contextlib.suppress(StoreDown):
            machine = actor.get(MACHINES[0], name, MACHINES[1])
            found.append(str(machine["status"].get("phase")) if machine else "gone")
        return bool(found)

    wait_until(look, 60, "the API to answer")
    return found[0]


def is_ready(actor: Actor, node: str) -> bool:
    """What the node's own condition says; a store that is away says nothing."""
    with contextlib.suppress(StoreDown):
        return condition(actor.get("nodes", node) or {}, "Ready") == "True"
    return False


def acting_host(said: str) -> str:
    """The host that the steps are done on."""
    return said.split("ok ", 1)[1].split(":", 1)[0]


def test_a_dead_machine_is_replaced_whatever_breaks_on_the_way(lab: Lab) -> None:
    keys = seed_keys(lab)
    with Actor(lab) as actor:
        for name in (f"etcd-{role}-{twin}" for role in ROLES for twin in TWINS):
            actor.make("secrets", name, SECRETS[1], data={})
        secrets, members = uids(actor, *SECRETS), {m.name: m.id for m in lab.members("master-0")}
        lab.hosts["master-1"].power_cut()
        lab.wait_healthy(["master-0", "master-2"])

        # A webhook forbids new machines: everything up to there is done, and stays done.
        faults(
            lab,
            Fault("throttle", ("delete",), "secrets", times=2),
            Fault("webhook", ("create",), "machines"),
        )
        run = start_fab("replace-machine", OLD, "--yes", hosts=LEFT)
        run.wait_for("ok master-.: member remove")
        run.kill()  # the operator's machine dies, and another one goes on
        paused = fab("resume", hosts=LEFT).expect(PAUSED)
        assert "(apply_machine)" in paused.err
        assert "frozen until Monday" in paused.err
        assert "fab resume" in paused.err
        assert phase_of(actor, OLD) == phase_of(actor, NEW) == "gone"

        # The webhook is mended, and the agent dies while it waits for the new machine.
        faults(lab, Fault("gone", ("connect",), times=3, after=4))
        run = start_fab("resume", hosts=LEFT)
        run.wait_for("ok master-.: apply machine")
        acting = lab.hosts[acting_host(run.err)]
        for pid in agent_pids(acting):
            os.kill(pid, signal.SIGKILL)
        ended = run.end().expect(OK)

        assert phase_of(actor, NEW) == "Running"
        require_one_cluster(lab, THREE, keys)
        now = {m.name: m.id for m in lab.members("master-0")}
        assert {name for name in now if now[name] != members[name]} == {"master-1"}
        since = uids(actor, *SECRETS)
        changed = {name for name in secrets if since.get(name) != secrets[name]}
        assert changed == {f"etcd-{role}-master-1" for role in ROLES}
        assert "master-10" not in ended.err
        sets = [h for h in ("master-0", "master-2")
                if lab.hosts[h].path("/var/lib/etcd-rescue/backups").is_dir()]  # fmt: skip
        assert len(sets) == 1
        look = ["grep", "-rl", "PRIVATE KEY", "/var/lib/etcd-rescue/journal"]
        assert lab.hosts[sets[0]].run(look, check=False).stdout == ""


@pytest.mark.wide("LAB_OPENSHIFT4")
def test_a_host_that_no_machine_api_made_is_waited_for(lab: Lab) -> None:
    keys = seed_keys(lab)
    with Actor(lab, machine_api=False) as actor:
        lab.hosts["master-1"].power_cut()
        lab.wait_healthy(["master-0", "master-2"])
        paused = fab("replace-machine", "master-1", "--yes", hosts=LEFT).expect(PAUSED)
        assert "no machine API made master-1" in paused.err
        fab("resume", hosts=LEFT).expect(PAUSED)
        reinstall(lab.hosts["master-1"])
        wait_until(lambda: is_ready(actor, "master-1"), 60, "the node to say that it is ready")
        fab("resume", hosts=LEFT).expect(OK)
        require_one_cluster(lab, THREE, keys)


def test_a_second_member_that_is_ill_makes_it_refuse(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(layout="openshift4", hosts=5)
    with Actor(lab) as actor:
        lab.hosts["master-1"].power_cut()
        lab.hosts["master-3"].crash_etcd()
        wait_until(lambda: not lab.is_healthy("master-3"), 30, "the end of its etcd")
        lab.wait_healthy(["master-0", "master-2", "master-4"])
        before = uids(actor, *SECRETS), uids(actor, *MACHINES), lab.members("master-0")
        refused = fab("replace-machine", "master-1", "--yes").expect(REFUSED)
        assert "fab rescue-node master-3" in refused.err
        assert (
            uids(actor, *SECRETS),
            uids(actor, *MACHINES),
            lab.members("master-0"),
        ) == before
