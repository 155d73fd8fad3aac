"""The plans of single cases, step by step, and each refusal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.errors import Refused
from agent.model.facts import Observation, OfflineFacts
from agent.model.plan import Plan
from agent.recipes.cluster import Cluster
from agent.recipes.invariants import check_plan
from agent.recipes.replace_member import remove_member, replace_member
from agent.recipes.reseed import reseed
from agent.recipes.restart_member import restart_member
from tests.unit.builders import CLUSTER, DATA, MANIFEST, SHA, Lab, cause, with_survey
from tests.unit.recipes.making import NOW, as_text, cluster_of

LAB = Lab(3)
FOUR = Lab(4)
FIVE = Lab(5)
BARE = {"config": None, "parked": ()}
"""A host with no definition at all, as after its /etc was wiped."""

START = "peers_silent guard_peers unpark_definition wait_serving unguard_peers"


def sound(plan: Plan, cluster: Cluster) -> str:
    assert check_plan(plan, cluster) == ()
    return as_text(plan)


def args_of(plan: Plan, action: str, number: int = 0) -> dict[str, object]:
    return [s.args for s in plan.steps() if s.action == action][number]


# ---- reseed --------------------------------------------------------------------------------------

REJOIN = (
    "{0}: fence relocate_data master-1: member_add_learner {0}: prejoin install_data "
    "restart_kubelet unpark_definition wait_serving master-1: member_promote "
    "{0}: wait_serving lift_fence"
)


def test_reseed_of_three() -> None:
    hosts = [LAB.no_quorum(0), LAB.wiped(1), LAB.corrupt(2)]
    cluster = cluster_of(hosts)
    plan = reseed(cluster, NOW)
    assert sound(plan, cluster) == "\n".join(
        [
            "|| master-1: preflight master-2: preflight master-3: preflight",
            "|| master-2: fence master-3: fence",
            "master-1: peers_silent park_definition stop_etcd",
            "master-1: copy_data seed_cluster relocate_data install_data",
            "master-1: peers_silent guard_peers unpark_definition wait_serving unguard_peers",
            REJOIN.format("master-2"),
            REJOIN.format("master-3"),
        ]
    )
    assert plan.promise.voters == ("master-1", "master-2", "master-3")
    assert (plan.promise.cluster_id, plan.promise.revision) == (CLUSTER, LAB.revision)
    assert [s.action for s in plan.steps() if s.final] == [
        "unpark_definition",
        "member_promote",
        "member_promote",
    ]
    assert args_of(plan, "peers_silent")["endpoints"] == [
        ["master-2", "10.0.0.2", 2380],
        ["master-2", "10.0.0.2", 2379],
        ["master-3", "10.0.0.3", 2380],
        ["master-3", "10.0.0.3", 2379],
    ]
    assert args_of(plan, "park_definition") == {"path": MANIFEST, "sha256": SHA}
    assert args_of(plan, "copy_data") == {"data_dir": DATA}
    assert args_of(plan, "prejoin")["sources"] == ["https://10.0.0.1:2379"]
    assert plan.losses == cluster.diagnosis.losses


def test_reseed_through_the_manifest() -> None:
    cluster = cluster_of([LAB.no_quorum(0), LAB.wiped(1), LAB.wiped(2)])
    text = sound(reseed(cluster, NOW, in_manifest=True), cluster)
    assert "master-1: copy_data relocate_data install_data\n" in text
    assert "master-1: peers_silent seed_in_manifest wait_serving\n" in text
    assert "seed_cluster" not in text


def test_reseed_with_a_host_that_is_off() -> None:
    cluster = cluster_of([LAB.no_quorum(0), LAB.unreachable(1), LAB.wiped(2)], "master-2")
    plan = reseed(cluster, NOW, ["master-2"])
    lines = sound(plan, cluster).splitlines()
    assert lines[0] == "|| master-1: preflight master-3: preflight"
    assert lines[1] == "|| master-3: fence"
    assert [g.waits_for for g in plan.stages[5:7]] == [("master-3",), ("master-2",)]
    assert plan.declared_lost == ("master-2",)
    back = plan.stages[6].steps
    assert [s.action for s in back[:3]] == ["fence", "preflight", "relocate_data"]


@pytest.mark.reliability(
    "Resources", "every host that will fetch data is asked for room for it before anything stops"
)
def test_room_for_what_is_fetched_is_asked_for_beforehand() -> None:
    survivor = LAB.no_quorum(0)
    cluster = cluster_of([survivor, LAB.wiped(1), LAB.unreachable(2)], "master-3")
    assert survivor.survey is not None
    assert survivor.survey.offline is not None
    assert survivor.survey.offline.db is not None
    size = survivor.survey.offline.db.size
    assert size > 0
    plan = reseed(cluster, NOW, ["master-3"])
    asked = {s.host: s.args for s in plan.steps() if s.action == "preflight"}
    assert asked["master-1"]["copies"] is True
    for host in ("master-2", "master-3"):
        assert asked[host]["copies"] is False
        assert asked[host]["incoming"] >= size


SEEDS = [
    ("crash-looping", LAB.crash_looping(0), "park_definition stop_etcd", "restart_kubelet "),
    ("parked", LAB.stopped(0), "stop_etcd", ""),
    (
        "parked, back-off",
        with_survey(LAB.stopped(0), runtime=None),
        "stop_etcd",
        "restart_kubelet ",
    ),
]


@pytest.mark.parametrize(("seed", "stop", "kubelet"), [s[1:] for s in SEEDS],
                         ids=[s[0] for s in SEEDS])  # fmt: skip
def test_the_seed_by_its_state(seed: Observation, stop: str, kubelet: str) -> None:
    cluster = cluster_of([seed, LAB.wiped(1), LAB.wiped(2)])
    plan = reseed(cluster, NOW)
    lines = sound(plan, cluster).splitlines()
    assert lines[2] == f"master-1: peers_silent {stop}"
    assert lines[4] == f"master-1: {kubelet}{START}"
    assert args_of(plan, "unpark_definition") == {"path": MANIFEST, "sha256": SHA}
    assert args_of(plan, "copy_data") == {"data_dir": DATA}


def test_a_fenced_seed_gets_its_fence_lifted() -> None:
    cluster = cluster_of([LAB.fenced(0), LAB.wiped(1), LAB.wiped(2)])
    text = sound(reseed(cluster, NOW), cluster)
    assert f"master-1: {START} lift_fence\n" in text


def test_a_host_without_definition_stays_out() -> None:
    empty = OfflineFacts(DATA, False)
    cluster = cluster_of([LAB.no_quorum(0), LAB.wiped(1), LAB.seen(2, offline=empty, **BARE)])
    plan = reseed(cluster, NOW)
    text = sound(plan, cluster)
    assert text.splitlines()[:2] == [
        "|| master-1: preflight master-2: preflight",
        "|| master-2: fence master-3: fence",
    ]
    assert plan.promise.voters == ("master-1", "master-2")
    assert "master-3 does not rejoin: there is no etcd definition on it" in plan.losses[-1]


def test_a_ghost_stays_out_and_must_be_silent() -> None:
    cluster = cluster_of([LAB.no_quorum(0), LAB.wiped(1)], "master-3")
    plan = reseed(cluster, NOW, ["master-3"])
    assert "master-3" not in {s.host for s in plan.steps()}
    assert sound(plan, cluster)
    assert plan.promise.voters == ("master-1", "master-2")
    assert ["master-3", "10.0.0.3", 2380] in args_of(plan, "peers_silent")["endpoints"]  # type: ignore[operator]
    assert "master-3 does not rejoin: no host that was given is it" in plan.losses[-1]


def test_manifests_are_tidied_last_where_they_would_go_wrong() -> None:
    stale = LAB.config(0, initial_cluster=(("master-1", LAB.peer_url(0)),))
    cluster = cluster_of([LAB.no_quorum(0, config=stale), LAB.wiped(1), LAB.wiped(2)])
    plan = reseed(cluster, NOW)
    assert sound(plan, cluster).splitlines()[-1] == "master-1: set_initial_cluster wait_serving"
    assert plan.stages[-1].waits_for == ("master-1", "master-2", "master-3")
    wanted = ",".join(f"master-{n}=https://10.0.0.{n}:2380" for n in (1, 2, 3))
    assert args_of(plan, "set_initial_cluster") == {"members": wanted, "state": "existing"}


# ---- replace, restart, remove --------------------------------------------------------------------

BACK = (
    "master-3: fence relocate_data master-1: member_add_learner master-3: prejoin install_data "
    "restart_kubelet unpark_definition wait_serving master-1: member_promote "
    "master-3: wait_serving lift_fence"
)
REPLACED = [
    ("corrupt", LAB.corrupt(2)),
    ("no data", LAB.wiped(2)),
]


@pytest.mark.parametrize("third", [r[1] for r in REPLACED], ids=[r[0] for r in REPLACED])
def test_replace_a_member(third: Observation) -> None:
    cluster = cluster_of([LAB.healthy(0), LAB.healthy(1), third])
    plan = replace_member(cluster, "master-3", NOW)
    assert sound(plan, cluster) == "\n".join(
        ["master-3: preflight", "master-3: fence master-1: member_remove", BACK]
    )
    assert args_of(plan, "member_remove") == {
        "id": LAB.member_id(2),
        "name": "master-3",
        "peer_urls": [LAB.peer_url(2)],
    }
    assert plan.promise.voters == ("master-1", "master-2", "master-3")
    assert args_of(plan, "prejoin")["sources"] == ["https://10.0.0.1:2379", "https://10.0.0.2:2379"]


def healthy_without(number: int) -> list[Observation]:
    """The other two, in whose list the third is no more."""
    members = LAB.members(without=[number])
    others = [n for n in range(3) if n != number]
    return [LAB.healthy(n, online=LAB.online(n, members=members)) for n in others]


def left_out() -> list[tuple[str, Observation]]:
    parked = replace(LAB.config(2), definition="/var/lib/etcd-rescue/parked/etcd.yaml")
    return [
        ("removed", LAB.removed(2)),
        ("no data", LAB.wiped(2)),
        ("fenced", LAB.fenced(2, parked_config=parked)),
    ]


@pytest.mark.parametrize("third", [r[1] for r in left_out()], ids=[r[0] for r in left_out()])
def test_a_host_that_is_no_member_is_added(third: Observation) -> None:
    cluster = cluster_of([*healthy_without(2), third])
    assert cluster.verdict("master-3").id == ""
    plan = replace_member(cluster, "master-3", NOW)
    lines = sound(plan, cluster).splitlines()
    assert lines[:2] == ["master-3: preflight", "master-3: fence"]
    assert "member_remove" not in "".join(lines)
    assert lines[2].replace("restart_kubelet ", "") == BACK.replace("restart_kubelet ", "")


def test_a_stuck_learner_is_removed_first() -> None:
    lab = Lab(4, learners=(3,))
    cluster = cluster_of([*(lab.healthy(n) for n in range(3)), lab.wiped(3)])
    plan = replace_member(cluster, "master-4", NOW)
    text = sound(plan, cluster)
    assert text.splitlines()[1] == "master-4: fence master-1: member_remove"
    assert plan.promise.voters == ("master-1", "master-2", "master-3", "master-4")


def test_the_acting_host_is_the_leader_unless_it_is_the_target() -> None:
    cluster = cluster_of([LAB.healthy(0), LAB.healthy(1), LAB.wiped(2)])
    led = Cluster(replace(cluster.diagnosis, leader="master-2"), cluster.observations)
    text = sound(replace_member(led, "master-3", NOW), led)
    assert "master-2: member_remove" in text
    assert "master-1" not in text


def test_a_removal_comes_before_the_fence_that_would_cost_the_quorum() -> None:
    two = Lab(2)
    bad = two.online(1, alarms=())
    cluster = cluster_of([two.healthy(0), two.healthy(1, online=bad)])
    members = [
        m if m.host == "master-1" else replace(m, state=type(m.state)("corrupt"))
        for m in cluster.diagnosis.members
    ]
    odd = Cluster(replace(cluster.diagnosis, members=tuple(members)), cluster.observations)
    text = sound(replace_member(odd, "master-2", NOW), odd)
    assert text.splitlines()[1] == "master-1: member_remove master-2: fence"


def test_start_one_member() -> None:
    cluster = cluster_of([LAB.healthy(0), LAB.healthy(1), LAB.stopped(2)])
    plan = restart_member(cluster, "master-3", NOW)
    assert sound(plan, cluster) == "master-3: unpark_definition\nmaster-3: wait_serving"
    assert plan.promise.voters == ("master-1", "master-2", "master-3")


def test_start_a_fenced_member() -> None:
    cluster = cluster_of([LAB.healthy(0), LAB.healthy(1), LAB.fenced(2)])
    text = sound(restart_member(cluster, "master-3", NOW), cluster)
    assert text.splitlines()[-1] == "master-3: wait_serving lift_fence"


def test_start_what_is_in_place_and_does_not_run() -> None:
    cluster = cluster_of([LAB.healthy(0), LAB.healthy(1), LAB.seen(2)])
    text = sound(restart_member(cluster, "master-3", NOW), cluster)
    assert text.splitlines()[0] == "master-3: park_definition restart_kubelet unpark_definition"


@pytest.mark.parametrize("asked", ["master-1", "master-2"])
def test_start_all_that_are_stopped_before_waiting_for_any(asked: str) -> None:
    cluster = cluster_of([LAB.stopped(0), LAB.stopped(1), LAB.wiped(2)])
    plan = restart_member(cluster, asked, NOW)
    assert sound(plan, cluster) == (
        "|| master-1: unpark_definition master-2: unpark_definition\n"
        "|| master-1: wait_serving master-2: wait_serving"
    )
    assert plan.promise.voters == ("master-1", "master-2")


@pytest.mark.parametrize("name", ["master-3", LAB.member_id(2)])
def test_remove_a_ghost_by_name_or_id(name: str) -> None:
    cluster = cluster_of([LAB.healthy(0), LAB.healthy(1)], "master-3")
    plan = remove_member(cluster, name, NOW)
    assert sound(plan, cluster) == "master-1: member_remove"
    assert plan.promise.voters == ("master-1", "master-2")
    assert plan.declared_lost == ("master-3",)


def test_remove_a_host_that_is_off() -> None:
    hosts = [LAB.healthy(0), LAB.healthy(1), LAB.unreachable(2)]
    cluster = cluster_of(hosts, "master-3")
    assert sound(remove_member(cluster, "master-3", NOW), cluster) == "master-1: member_remove"


# ---- refusals ------------------------------------------------------------------------------------

DOWN = [LAB.no_quorum(0), LAB.unreachable(1), LAB.wiped(2)]
REFUSED = [
    ("reseed while it serves", lambda c: reseed(c, NOW), [LAB.healthy(0), LAB.healthy(1)], "reads"),
    ("reseed, not declared", lambda c: reseed(c, NOW), DOWN, "not declared lost"),
    (
        "reseed, no definition",
        lambda c: reseed(c, NOW),
        [LAB.seen(0, **BARE), LAB.wiped(1), LAB.wiped(2)],
        "no etcd definition",
    ),
    (
        "replace a healthy one",
        lambda c: replace_member(c, "master-2", NOW),
        [LAB.healthy(n) for n in range(3)],
        "linearizable reads",
    ),
    (
        "replace one that is off",
        lambda c: replace_member(c, "master-3", NOW),
        [LAB.healthy(0), LAB.healthy(1), LAB.unreachable(2)],
        "no survey",
    ),
    (
        "replace without definition",
        lambda c: replace_member(c, "master-3", NOW),
        [LAB.healthy(0), LAB.healthy(1), LAB.seen(2, offline=OfflineFacts(DATA, False), **BARE)],
        "no etcd definition",
    ),
    (
        "replace without quorum after",
        lambda c: replace_member(c, "master-4", NOW),
        [FOUR.healthy(0), FOUR.healthy(1), FOUR.healthy(2), FOUR.wiped(3)][1:],
        "2 of 4 voters serve",
    ),
    (
        "replace beside a learner",
        lambda c: replace_member(c, "master-3", NOW),
        [Lab(4, learners=(3,)).healthy(n) for n in (0, 1)]
        + [Lab(4, learners=(3,)).wiped(n) for n in (2, 3)],
        "master-4 is a learner",
    ),
    (
        "restart a looping one",
        lambda c: restart_member(c, "master-3", NOW),
        [LAB.healthy(0), LAB.healthy(1), LAB.crash_looping(2, cause("config"))],
        "crash-looping",
    ),
    (
        "restart too few",
        lambda c: restart_member(c, "master-1", NOW),
        [LAB.stopped(0), LAB.wiped(1), LAB.wiped(2)],
        "1 of 3 voters run or can be started",
    ),
    (
        "remove one that lives",
        lambda c: remove_member(c, "master-2", NOW),
        [LAB.healthy(n) for n in range(3)],
        "linearizable reads",
    ),
    (
        "remove nobody",
        lambda c: remove_member(c, "master-9", NOW),
        [LAB.healthy(n) for n in range(3)],
        "no host or member 'master-9'",
    ),
    (
        "remove costs the quorum",
        lambda c: remove_member(c, "master-4", NOW),
        [FOUR.healthy(0), FOUR.healthy(1)],
        "2 of 4 voters serve",
    ),
]


@pytest.mark.parametrize(("make", "hosts", "seen"), [r[1:] for r in REFUSED],
                         ids=[r[0] for r in REFUSED])  # fmt: skip
def test_refusals(make: Any, hosts: list[Observation], seen: str) -> None:
    with pytest.raises(Refused) as caught:
        make(cluster_of(hosts))
    assert seen in caught.value.seen
    assert caught.value.why
    assert caught.value.next
