"""The plans of restores: one host, all at once, and where the revision cannot be raised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.diagnosis.revisions import Bump, Evidence, bump
from agent.errors import Refused
from agent.model.facts import Observation, OfflineFacts
from agent.model.plan import Plan
from agent.recipes.cluster import Cluster
from agent.recipes.invariants import check_plan
from agent.recipes.restore import restore
from agent.recipes.restore_wish import FromSet, Source, Wish, needed_names
from tests.unit.builders import DATA, MANIFEST, SHA, Lab, with_survey
from tests.unit.recipes.making import NOW, anything, as_text, cluster_of, hosts
from tests.unit.recipes.mutants import mutants

LAB = Lab(3)
SNAPSHOT = "ef" * 32
BUMP = bump(400, [Evidence("master-1: /var/lib/etcd", 500)])
THREE = ("master-1", "master-2", "master-3")


def wish(*names: str, **given_values: Any) -> Wish:
    paths = {name: f"/var/lib/etcd-rescue/snapshots/{name}.db" for name in names}
    source = Source("s.db", paths, SNAPSHOT, 1 << 20, 400, 90)
    values: dict[str, Any] = {"token": "fresh", "bump": BUMP}
    return Wish(source, names, **{**values, **given_values})


def sound(plan: Plan, cluster: Cluster) -> str:
    assert check_plan(plan, cluster) == ()
    return as_text(plan)


def args_of(plan: Plan, action: str, number: int = 0) -> dict[str, Any]:
    return [s.args for s in plan.steps() if s.action == action][number]


ALL_CORRUPT = [LAB.corrupt(0), LAB.corrupt(1), LAB.wiped(2)]
REJOIN = (
    "{0}: fence relocate_data master-1: member_add_learner {0}: prejoin install_data "
    "restart_kubelet unpark_definition wait_serving master-1: member_promote "
    "{0}: wait_serving lift_fence"
)


def test_one_host_and_the_others_join_it() -> None:
    cluster = cluster_of(ALL_CORRUPT)
    plan = restore(cluster, NOW, wish("master-1"))
    assert sound(plan, cluster) == "\n".join(
        [
            "|| master-1: preflight restore_snapshot master-2: preflight master-3: preflight",
            "master-1: prove_restored",
            "|| master-2: fence master-3: fence",
            "master-1: peers_silent",
            "|| master-1: park_definition stop_etcd",
            "|| master-1: relocate_data install_data",
            "|| master-1: restart_kubelet",
            "master-1: peers_silent",
            "|| master-1: unpark_definition",
            "|| master-1: wait_serving",
            REJOIN.format("master-2"),
            REJOIN.format("master-3"),
        ]
    )
    assert args_of(plan, "restore_snapshot") == {
        "snapshot": "/var/lib/etcd-rescue/snapshots/master-1.db",
        "sha256": SNAPSHOT,
        "name": "master-1",
        "peer_urls": ["https://10.0.0.1:2380"],
        "initial_cluster": "master-1=https://10.0.0.1:2380",
        "token": "fresh",
        "bump": BUMP.amount,
        "copy": False,
        "tool": "",
        "discard": False,
        "data_dir": DATA,
    }
    assert args_of(plan, "prove_restored") == {
        "revision": BUMP.revision, "keys": 90, "data_dir": DATA,
    }  # fmt: skip
    assert args_of(plan, "unpark_definition") == {"path": MANIFEST, "sha256": SHA}
    assert next(s.action for s in plan.steps() if s.final) == "unpark_definition"
    assert plan.promise.voters == THREE
    assert (plan.promise.cluster_id, plan.promise.revision) == ("", BUMP.revision)
    assert "100 behind the highest found anywhere, 500 (master-1: /var/lib/etcd)" in plan.summary
    assert f"raised by {BUMP.amount} to {BUMP.revision}" in plan.summary


def test_all_hosts_at_once() -> None:
    cluster = cluster_of(ALL_CORRUPT)
    plan = restore(cluster, NOW, wish(*THREE))
    each = "|| master-1: {0} master-2: {0} master-3: {0}"
    assert sound(plan, cluster) == "\n".join(
        [
            each.format("preflight restore_snapshot"),
            "master-1: peers_silent",
            each.format("park_definition stop_etcd"),
            each.format("relocate_data install_data"),
            each.format("restart_kubelet"),
            "master-1: peers_silent",
            each.format("unpark_definition"),
            each.format("wait_serving"),
            "master-1: remove_stale_leases",
        ]
    )
    members = ",".join(f"master-{n}=https://10.0.0.{n}:2380" for n in (1, 2, 3))
    said = [s.args for s in plan.steps() if s.action == "restore_snapshot"]
    assert {(a["initial_cluster"], a["token"]) for a in said} == {(members, "fresh")}
    assert [a["name"] for a in said] == list(THREE)
    assert all(s.final for s in plan.steps() if s.action == "unpark_definition")
    assert args_of(plan, "peers_silent")["endpoints"] == []
    assert args_of(plan, "install_data")["scratch"] is False


@pytest.mark.parametrize(
    "flags",
    [
        {"experimental-initial-corrupt-check": "true"},
        {"feature-gates": "StopGRPCServiceOnDefrag=true,InitialCorruptCheck=true"},
    ],
)
def test_members_that_ask_each_other_first_are_started_one_after_the_other(
    flags: dict[str, str],
) -> None:
    """Together, each would wait out the time-out of a peer that listens and does not answer."""
    survey = ALL_CORRUPT[0].survey
    assert survey is not None
    assert survey.config is not None
    checking = with_survey(ALL_CORRUPT[0], config=replace(survey.config, flags=flags))
    cluster = cluster_of([checking, *ALL_CORRUPT[1:]])
    text = sound(restore(cluster, NOW, wish(*THREE)), cluster)
    assert (
        "\nmaster-1: unpark_definition wait_peer_port master-2: unpark_definition wait_peer_port "
        "master-3: unpark_definition\n"
    ) in text


def test_a_tool_that_cannot_raise_the_revision_restarts_the_control_plane() -> None:
    cluster = cluster_of(ALL_CORRUPT)
    plan = restore(cluster, NOW, wish("master-1", bump=None))
    lines = sound(plan, cluster).splitlines()
    assert lines[10] == "|| master-1: restart_control_plane"
    assert lines[11:] == [
        REJOIN.format("master-2"),
        "|| master-2: restart_control_plane",
        REJOIN.format("master-3"),
        "|| master-3: restart_control_plane",
    ]
    assert "workers" in plan.summary
    everywhere = restore(cluster, NOW, wish(*THREE, bump=None))
    assert sound(everywhere, cluster).splitlines()[-1] == (
        "|| master-1: restart_control_plane master-2: restart_control_plane "
        "master-3: restart_control_plane"
    )


@pytest.mark.parametrize("names", [("master-1",), THREE])
def test_what_serves_is_given_up_by_word_only(names: tuple[str, ...]) -> None:
    cluster = cluster_of([LAB.healthy(0), LAB.healthy(1), LAB.healthy(2)])
    with pytest.raises(Refused, match="linearizable reads work") as refused:
        restore(cluster, NOW, wish(*names))
    assert "100 revisions" in refused.value.why
    assert "--discard-current" in refused.value.next
    plan = restore(cluster, NOW, wish(*names, discard=True))
    sound(plan, cluster)
    assert any("100 revisions after the snapshot are lost" in text for text in plan.losses)


def test_what_comes_back_by_a_start_is_given_up_by_word_only() -> None:
    parked = [
        with_survey(LAB.stopped(n), parked_config=LAB.config(n, definition="/parked"))
        for n in range(3)
    ]
    cluster = cluster_of(parked)
    with pytest.raises(Refused, match="stopped with intact data") as refused:
        restore(cluster, NOW, wish("master-1"))
    assert "fab rescue-node" in refused.value.next
    plan = restore(cluster, NOW, wish("master-1", discard=True))
    sound(plan, cluster)
    actions = [step.action for step in plan.steps()]
    assert "park_definition" not in actions  # it is parked already
    assert "unpark_definition" in actions


def test_members_that_run_and_are_a_quorum_may_serve_in_a_moment() -> None:
    cluster = cluster_of([LAB.no_quorum(0), LAB.no_quorum(1), LAB.no_quorum(2)])
    with pytest.raises(Refused, match="they are a quorum"):
        restore(cluster, NOW, wish("master-1"))


def test_a_host_that_was_not_seen_needs_its_typed_name() -> None:
    hosts_given = [LAB.corrupt(0), LAB.unreachable(1), LAB.unreachable(2)]
    cluster = cluster_of(hosts_given)
    asked = wish("master-1")
    assert [name for name, _ in needed_names(cluster, asked)] == ["master-2", "master-3"]
    with pytest.raises(Refused, match="not declared lost") as refused:
        restore(cluster, NOW, asked)
    assert "--lost master-2 --lost master-3" in refused.value.next

    cluster = cluster_of(hosts_given, "master-2", "master-3")
    asked = replace(asked, lost=("master-2", "master-3"))
    plan = restore(cluster, NOW, asked)
    text = sound(plan, cluster)
    assert REJOIN.format("master-2").replace(" relocate", " preflight relocate", 1) in text
    assert next(s.waits_for for s in plan.stages if s.waits_for) == ("master-2",)
    assert len(args_of(plan, "peers_silent")["endpoints"]) == 4
    assert any("keep them off" in text for text in plan.losses)
    assert plan.declared_lost == ("master-2", "master-3")


def test_a_host_that_lives_and_cannot_be_logged_in_to_stops_it() -> None:
    cluster = cluster_of([LAB.corrupt(0), LAB.corrupt(1), LAB.unreachable(2, (2380,))], "master-3")
    with pytest.raises(Refused, match="cannot be logged in to"):
        restore(cluster, NOW, wish("master-1", lost=("master-3",)))


BARE = {"config": None, "parked": (), "offline": OfflineFacts(DATA, False)}


def test_a_host_without_a_definition_is_told_how_to_get_one() -> None:
    cluster = cluster_of([LAB.wiped(n, **BARE) for n in range(3)])
    with pytest.raises(Refused, match="no etcd definition") as refused:
        restore(cluster, NOW, wish("master-1"))
    assert "kubeadm init phase etcd local" in refused.value.next


def test_no_data_anywhere_and_the_definitions_parked() -> None:
    gone: dict[str, Any] = {"offline": OfflineFacts(DATA, False)}
    parked = [
        with_survey(
            LAB.stopped(n, **gone),
            parked_config=LAB.config(
                n, definition="/parked", advertise_client_urls=(f"https://10.0.0.{n + 1}:2379",)
            ),
        )
        for n in range(3)
    ]
    cluster = cluster_of(parked)
    plan = restore(cluster, NOW, wish("master-1"))
    sound(plan, cluster)
    assert plan.promise.voters == THREE
    sound(restore(cluster, NOW, wish(*THREE)), cluster)


def test_a_definition_out_of_the_backup_set_comes_first() -> None:
    gone = {"offline": OfflineFacts(DATA, False)}
    urls = {"advertise_client_urls": ("https://10.0.0.1:2379",)}
    bare = with_survey(
        LAB.stopped(0, **gone), parked_config=LAB.config(0, definition="/set/etcd.yaml", **urls)
    )
    cluster = cluster_of([bare, LAB.corrupt(1), LAB.corrupt(2)])
    file = FromSet("/set/etcd.yaml", MANIFEST, SHA)
    plan = restore(cluster, NOW, wish("master-1", definitions={"master-1": file}))
    assert sound(plan, cluster).startswith("|| master-1: place_definition preflight restore_snap")
    assert args_of(plan, "place_definition") == {
        "source": "/set/etcd.yaml", "path": MANIFEST, "sha256": SHA,
    }  # fmt: skip
    assert args_of(plan, "unpark_definition") == {"path": MANIFEST, "sha256": SHA}


def test_members_that_only_the_snapshot_names_are_accounted_for() -> None:
    gone: dict[str, Any] = {"offline": OfflineFacts(DATA, False)}
    alone = cluster_of([LAB.crash_looping(0, None, **gone)])
    asked = wish("master-1", named=LAB.members())
    assert [name for name, _ in needed_names(alone, asked)] == ["master-2", "master-3"]
    with pytest.raises(Refused, match="master-2, master-3"):
        restore(alone, NOW, asked)
    plan = restore(alone, NOW, replace(asked, lost=("master-2", "master-3")))
    sound(plan, alone)
    assert args_of(plan, "peers_silent")["endpoints"] == [
        ["master-2", "10.0.0.2", 2380],
        ["master-2", "10.0.0.2", 2379],
        ["master-3", "10.0.0.3", 2380],
        ["master-3", "10.0.0.3", 2379],
    ]

    urls = {"advertise_client_urls": ("https://10.0.0.1:2379",)}
    first = LAB.crash_looping(0, None, config=LAB.config(0, **urls), **gone)
    off = cluster_of([first, LAB.unreachable(1), LAB.crash_looping(2, None, **gone)])
    assert [name for name, _ in needed_names(off, asked)] == ["master-2"]
    plan = restore(off, NOW, replace(asked, lost=("master-2",)))
    sound(plan, off)
    looked_at = {tuple(e[:2]) for e in args_of(plan, "peers_silent")["endpoints"]}
    assert looked_at == {("master-2", "10.0.0.2"), ("master-3", "10.0.0.3")}


def test_a_broken_plan_is_caught() -> None:
    cluster = cluster_of(ALL_CORRUPT)
    plan = restore(cluster, NOW, wish(*THREE))

    def without(action: str) -> Plan:
        stages = tuple(
            replace(stage, steps=tuple(s for s in stage.steps if s.action != action))
            for stage in plan.stages
        )
        return replace(plan, stages=stages)

    for action in ("preflight", "stop_etcd", "install_data", "relocate_data",
                   "unpark_definition", "wait_serving", "remove_stale_leases"):  # fmt: skip
        assert check_plan(without(action), cluster), action
    one_token = replace(
        plan.stages[0].steps[1], args={**plan.stages[0].steps[1].args, "token": "x"}
    )
    steps = (plan.stages[0].steps[0], one_token, *plan.stages[0].steps[2:])
    mixed = replace(plan, stages=(replace(plan.stages[0], steps=steps), *plan.stages[1:]))
    assert any("token" in text for text in check_plan(mixed, cluster))


@pytest.mark.parametrize("names", [("master-1",), THREE])
@pytest.mark.parametrize("raised", [BUMP, None], ids=["raised", "restarted"])
def test_no_step_may_be_left_out(names: tuple[str, ...], raised: Optional[Bump]) -> None:
    """But what only saves time, a second fence, and a look where nobody else is."""
    cluster = cluster_of(ALL_CORRUPT)
    plan = restore(cluster, NOW, wish(*names, bump=raised))
    passed = [
        what.split()[2]
        for kind, what, mutant in mutants(plan)
        if kind == "drop" and not check_plan(mutant, cluster)
    ]
    harmless = (
        {"restart_kubelet", "fence"} if len(names) == 1 else {"restart_kubelet", "peers_silent"}
    )
    assert set(passed) <= harmless
    fences = [step for step in plan.steps() if step.action == "fence"]
    assert passed.count("fence") == len(fences) // 2  # the one right before the rejoin


# ---- every mix of states -------------------------------------------------------------------------


def plan_or_refusal(cluster: Cluster, asked: Wish) -> Optional[Plan]:
    try:
        return restore(cluster, NOW, asked)
    except Refused as refused:
        said = refused
    assert said.seen
    assert said.why, said.seen
    assert said.next, said.seen
    return None


def check(observations: Sequence[Observation], every: bool, raised: bool, discard: bool) -> None:
    cluster = cluster_of(observations)
    seen = [o.host for o in observations if o.survey is not None]
    asked_hosts = tuple(sorted(seen)) if every else tuple(sorted(seen))[:1]
    if not asked_hosts:
        return
    asked = wish(*asked_hosts, bump=BUMP if raised else None, discard=discard)
    lost = tuple(name for name, _reason in needed_names(cluster, asked))
    cluster = cluster_of(observations, *lost)
    plan = plan_or_refusal(cluster, replace(asked, lost=lost))
    if plan is not None:
        assert check_plan(plan, cluster) == ()
        assert set(asked_hosts) <= set(plan.promise.voters)
        assert {s.host for s in plan.steps()} <= set(plan.hosts)


@given(hosts(), st.booleans(), st.booleans(), st.booleans())
def test_sound_for_every_mix(
    observations: list[Observation], every: bool, raised: bool, discard: bool
) -> None:
    check(observations, every, raised, discard)


@given(hosts(serving=False), st.booleans(), st.booleans())
def test_sound_with_the_quorum_lost(
    observations: list[Observation], every: bool, raised: bool
) -> None:
    check(observations, every, raised, discard=False)


@given(anything, st.booleans())
def test_sound_with_parts_of_surveys_missing(observations: list[Observation], every: bool) -> None:
    check(observations, every, raised=True, discard=True)
