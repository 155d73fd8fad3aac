"""A check on the checker: one thing wrong in a sound plan is caught, but for what does no harm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from agent.errors import RescueError
from agent.model.plan import Plan, Promise, Stage, Step
from agent.recipes.cluster import Cluster
from agent.recipes.invariants import check_plan, require_sound
from agent.recipes.reseed import reseed
from tests.unit.builders import Lab
from tests.unit.recipes.making import NOW, cluster_of, make

LAB = Lab(3)
STALE = {"initial_cluster": (), "initial_cluster_state": "new"}
LOST = cluster_of(
    [
        LAB.no_quorum(0, config=LAB.config(0, **STALE)),
        LAB.wiped(1, config=LAB.config(1, **STALE)),
        LAB.unreachable(2),
    ],
    "master-3",
)
ONE_DOWN = cluster_of([LAB.healthy(0), LAB.healthy(1), LAB.corrupt(2)])
TWO_STOPPED = cluster_of([LAB.stopped(0), LAB.seen(1), LAB.wiped(2)])
ONE_GONE = cluster_of([LAB.healthy(0), LAB.healthy(1)], "master-3")

RESEED = reseed(LOST, NOW, ["master-3"])
IN_MANIFEST = reseed(LOST, NOW, ["master-3"], in_manifest=True)
REPLACE = make(ONE_DOWN, "replace-member", "master-3")
RESTART = make(TWO_STOPPED, "restart-member", "master-1")
REMOVE = make(ONE_GONE, "remove-member", "master-3")

PLANS = {
    "reseed": (RESEED, LOST),
    "in-manifest": (IN_MANIFEST, LOST),
    "replace": (REPLACE, ONE_DOWN),
    "restart": (RESTART, TWO_STOPPED),
    "remove": (REMOVE, ONE_GONE),
}
NAMES = list(PLANS)


def with_stages(plan: Plan, stages: list[Stage]) -> Plan:
    return replace(plan, stages=tuple(stages))


def with_steps(plan: Plan, number: int, steps: list[Step]) -> Plan:
    """The plan with other steps in one stage."""
    stages = list(plan.stages)
    stages[number] = replace(stages[number], steps=tuple(steps))
    return with_stages(plan, [s for s in stages if s.steps])


def each(plan: Plan) -> Iterator[tuple[int, int, list[Step]]]:
    for number, stage in enumerate(plan.stages):
        for place in range(len(stage.steps)):
            yield number, place, list(stage.steps)


def label(step: Step) -> str:
    return f"{step.id} {step.host} {step.action}"


def uncaught(plan: Plan, cluster: Cluster, mutants: Iterator[tuple[str, Plan]]) -> list[str]:
    assert check_plan(plan, cluster) == ()
    return [what for what, mutant in mutants if not check_plan(mutant, cluster)]


def dropped(plan: Plan) -> Iterator[tuple[str, Plan]]:
    for number, place, steps in each(plan):
        what = label(steps[place])
        yield what, with_steps(plan, number, steps[:place] + steps[place + 1 :])


def doubled(plan: Plan) -> Iterator[tuple[str, Plan]]:
    for number, place, steps in each(plan):
        again = replace(steps[place], id=f"{steps[place].id}b")
        what = label(steps[place])
        yield what, with_steps(plan, number, [*steps[: place + 1], again, *steps[place + 1 :]])


def swapped(plan: Plan) -> Iterator[tuple[str, Plan]]:
    for number, place, steps in each(plan):
        if place + 1 < len(steps):
            what = f"{label(steps[place])} / {label(steps[place + 1])}"
            steps[place], steps[place + 1] = steps[place + 1], steps[place]
            yield what, with_steps(plan, number, steps)


def stages_swapped(plan: Plan) -> Iterator[tuple[str, Plan]]:
    for place in range(len(plan.stages) - 1):
        stages = list(plan.stages)
        stages[place], stages[place + 1] = stages[place + 1], stages[place]
        yield (
            f"{plan.stages[place].title} / {plan.stages[place + 1].title}",
            with_stages(plan, stages),
        )


# A step may be left out of a plan only if it is named here: the second fence of a host that has
# one, what only saves time, and the tidying, which nothing else depends on.
HARMLESS_DROPS = {
    "reseed": [
        "16 master-2 fence",
        "21 master-2 restart_kubelet",
        "33 master-3 restart_kubelet",
        "39 master-1 set_initial_cluster",
        "41 master-2 set_initial_cluster",
        "43 master-3 set_initial_cluster",
    ],
    "in-manifest": [
        "13 master-2 fence",
        "18 master-2 restart_kubelet",
        "30 master-3 restart_kubelet",
        "36 master-1 set_initial_cluster",
        "38 master-2 set_initial_cluster",
        "40 master-3 set_initial_cluster",
    ],
    "replace": ["04 master-3 fence", "09 master-3 restart_kubelet"],
    "restart": ["03 master-2 restart_kubelet"],
    "remove": [],
}

# What only looks, or brings about what is there already, may be done twice.
HARMLESS_TWICE = {
    "preflight", "peers_silent", "guard_peers",
    "fence", "stop_etcd", "restart_kubelet", "wait_serving",
}  # fmt: skip

# On two hosts that do not depend on each other; on a host that is fenced since an earlier stage;
# and the kubelet may restart whenever the definition is parked.
HARMLESS_SWAPS = {
    "reseed": [
        "01 master-1 preflight / 02 master-2 preflight",
        "16 master-2 fence / 17 master-2 relocate_data",
        "20 master-2 install_data / 21 master-2 restart_kubelet",
        "32 master-3 install_data / 33 master-3 restart_kubelet",
    ],
    "in-manifest": [
        "01 master-1 preflight / 02 master-2 preflight",
        "13 master-2 fence / 14 master-2 relocate_data",
        "17 master-2 install_data / 18 master-2 restart_kubelet",
        "29 master-3 install_data / 30 master-3 restart_kubelet",
    ],
    "replace": [
        "04 master-3 fence / 05 master-3 relocate_data",
        "08 master-3 install_data / 09 master-3 restart_kubelet",
    ],
    "restart": [
        "01 master-1 unpark_definition / 02 master-2 park_definition",
        "05 master-1 wait_serving / 06 master-2 wait_serving",
    ],
    "remove": [],
}

HARMLESS_STAGE_SWAPS = [
    "Rejoin master-2 / Rejoin master-3",
    "Bring master-1's --initial-cluster up to date / Bring master-2's --initial-cluster up to date",
    "Bring master-2's --initial-cluster up to date / Bring master-3's --initial-cluster up to date",
]


@pytest.mark.parametrize("name", NAMES)
def test_no_step_can_be_left_out(name: str) -> None:
    plan, cluster = PLANS[name]
    assert uncaught(plan, cluster, dropped(plan)) == HARMLESS_DROPS[name]


@pytest.mark.parametrize("name", NAMES)
def test_no_step_can_be_done_twice(name: str) -> None:
    plan, cluster = PLANS[name]
    expected = [label(s) for s in plan.steps() if s.action in HARMLESS_TWICE]
    assert uncaught(plan, cluster, doubled(plan)) == expected


@pytest.mark.parametrize("name", NAMES)
def test_no_two_steps_can_change_places(name: str) -> None:
    plan, cluster = PLANS[name]
    assert uncaught(plan, cluster, swapped(plan)) == HARMLESS_SWAPS[name]


@pytest.mark.parametrize("name", NAMES)
def test_no_two_stages_can_change_places(name: str) -> None:
    plan, cluster = PLANS[name]
    expected = HARMLESS_STAGE_SWAPS if name in ("reseed", "in-manifest") else []
    assert uncaught(plan, cluster, stages_swapped(plan)) == expected


# ---- single invariants, by what is said of them --------------------------------------------------


def changed(plan: Plan, step_id: str, **given: Any) -> Plan:
    """The plan with fields of one step replaced."""
    stages = [
        replace(g, steps=tuple(replace(s, **given) if s.id == step_id else s for s in g.steps))
        for g in plan.stages
    ]
    return with_stages(plan, stages)


def step_of(plan: Plan, action: str, host: str = "", number: int = 0) -> Step:
    found = [s for s in plan.steps() if s.action == action and s.host == (host or s.host)]
    return found[number]


def without(plan: Plan, *steps: Step) -> Plan:
    ids = {step.id for step in steps}
    stages = [replace(g, steps=tuple(s for s in g.steps if s.id not in ids)) for g in plan.stages]
    return with_stages(plan, [g for g in stages if g.steps])


FENCE = step_of(RESEED, "fence", "master-2")
SEED = step_of(RESEED, "seed_cluster")
START = step_of(RESEED, "unpark_definition", "master-1")
PROMOTE = step_of(RESEED, "member_promote")
ADD = step_of(REPLACE, "member_add_learner")
OUT = step_of(REPLACE, "member_remove")
BROKEN = [
    ("not fenced", without(RESEED, FENCE), LOST, "with master-2 neither fenced nor declared lost"),
    ("not declared", replace(RESEED, declared_lost=()), LOST, "with master-3 neither fenced nor"),
    (
        "not copied",
        without(RESEED, step_of(RESEED, "copy_data")),
        LOST,
        "in the only data there is",
    ),
    (
        "a second seed",
        changed(RESEED, step_of(RESEED, "prejoin", "master-2").id, action="seed_cluster"),
        LOST,
        "a second time, after master-1",
    ),
    ("not the best", changed(RESEED, SEED.id, host="master-2"), LOST, "not the best survivor"),
    (
        "no last look",
        without(RESEED, step_of(RESEED, "peers_silent", number=1)),
        LOST,
        "without a last look right before it",
    ),
    ("not final", changed(RESEED, START.id, final=False), LOST, "without saying so"),
    (
        "looks for too few",
        changed(RESEED, step_of(RESEED, "peers_silent").id, args={"endpoints": []}),
        LOST,
        "does not look for master-2, master-3",
    ),
    (
        "promoted too early",
        without(RESEED, step_of(RESEED, "wait_serving", "master-2")),
        LOST,
        "before it was seen to run under the kubelet",
    ),
    ("flag by itself", changed(RESEED, SEED.id, action="set_force_new_cluster"), LOST, "no part"),
    ("unknown action", changed(RESEED, SEED.id, action="rm"), LOST, "no such action"),
    ("unknown host", changed(RESEED, FENCE.id, host="x"), LOST, "the plan does not know"),
    ("same ID", changed(RESEED, "02", id="01"), LOST, "used twice"),
    ("other words", changed(RESEED, "02", undo="none"), LOST, "the catalog says"),
    ("no way back", changed(RESEED, PROMOTE.id, final=False), LOST, "no way back"),
    ("local member", changed(REPLACE, OUT.id, host="master-3"), ONE_DOWN, "the local member"),
    ("not removed", without(REPLACE, OUT), ONE_DOWN, "whose old member is still there"),
    (
        "removes another",
        changed(REPLACE, OUT.id, args={**OUT.args, "id": LAB.member_id(1)}),
        ONE_DOWN,
        "not the one at its peer URL",
    ),
    (
        "removes a healthy one",
        changed(
            REPLACE,
            OUT.id,
            args={"id": LAB.member_id(1), "name": "master-2", "peer_urls": [LAB.peer_url(1)]},
        ),
        ONE_DOWN,
        "it would leave 1 healthy of 2 voters",
    ),
    (
        "through one that is down",
        changed(REPLACE, ADD.id, host="master-3"),
        ONE_DOWN,
        "through master-3, which does not serve",
    ),
    (
        "promises too much",
        replace(REMOVE, promise=Promise(("master-1", "master-3"))),
        ONE_GONE,
        "master-3 is promised",
    ),
]


@pytest.mark.parametrize(
    ("plan", "cluster", "said"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN]
)
def test_says_what_is_broken(plan: Plan, cluster: Cluster, said: str) -> None:
    assert any(said in text for text in check_plan(plan, cluster)), check_plan(plan, cluster)


def test_a_reseed_of_a_cluster_that_serves_is_caught() -> None:
    healthy = cluster_of([LAB.healthy(0), LAB.healthy(1), LAB.unreachable(2)], "master-3")
    assert any("while reads are answered" in text for text in check_plan(RESEED, healthy))


def test_a_step_on_a_host_that_was_put_off_is_caught() -> None:
    late = replace(step_of(RESEED, "wait_serving", "master-2"), id="99", host="master-3")
    stages = [*RESEED.stages[:7], replace(RESEED.stages[-1], steps=(late,), waits_for=())]
    assert any(
        "which was put off" in text for text in check_plan(with_stages(RESEED, stages), LOST)
    )


def test_membership_changes_are_never_parallel() -> None:
    stages = [replace(g, parallel=True) for g in REPLACE.stages]
    assert any("while other hosts" in t for t in check_plan(with_stages(REPLACE, stages), ONE_DOWN))


def test_one_started_alone_waits_for_a_quorum_that_cannot_come() -> None:
    first, second = RESTART.stages
    lone = replace(first, steps=(*first.steps[:1], second.steps[0], *first.steps[1:]))
    plan = with_stages(RESTART, [replace(lone, parallel=False), second])
    assert any("1 of 3 voters run" in text for text in check_plan(plan, TWO_STOPPED))


def test_an_unsound_plan_is_never_carried_out() -> None:
    require_sound(RESEED, LOST)
    with pytest.raises(RescueError, match="internal: the plan made") as caught:
        require_sound(without(RESEED, FENCE), LOST)
    assert caught.value.next
    assert caught.value.exit_code == 1
