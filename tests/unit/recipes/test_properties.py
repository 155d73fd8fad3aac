"""What holds for every mix of states: a plan that breaks nothing, or a refusal that says all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agent.diagnosis.cluster import diagnose
from agent.errors import Refused, UsageError
from agent.model.facts import Observation
from agent.model.plan import Plan, plan_from_plain, plan_to_plain
from agent.model.verdict import MemberState
from agent.recipes.cluster import Cluster
from agent.recipes.invariants import check_plan, require_sound
from agent.recipes.reseed import reseed
from tests.unit.builders import Lab
from tests.unit.recipes.making import NOW, hosts, offers, plan_or_refusal
from tests.unit.recipes.mutants import KINDS as MUTATIONS
from tests.unit.recipes.mutants import changes, disasters
from tests.unit.strategies import clusters, torn

IN_CI = settings().max_examples > 100
EXAMPLES = 2600 if IN_CI else 40
"""Of each of the four kinds of clusters below: more than 10,000 in all where it counts."""

KINDS = {
    "of any kind": (hosts(), {"reseed", "restart-member", "replace-member", "remove-member"}),
    "that serve": (hosts(serving=True), {"restart-member", "replace-member", "remove-member"}),
    "without a quorum": (hosts(serving=False), {"reseed", "restart-member"}),
    "known in parts": (torn(), {"reseed", "restart-member", "replace-member", "remove-member"}),
}
MUTANTS_EACH = 1
FEW = settings(max_examples=300 if IN_CI else 40)


@dataclass
class Seen:
    """What was generated and what came of it: a test that saw no plan has proved nothing."""

    clusters: int = 0
    planned: int = 0
    plans: Counter[str] = field(default_factory=Counter)
    states: Counter[MemberState] = field(default_factory=Counter)
    sizes: set[int] = field(default_factory=set)
    mutants: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    dangerous: int = 0
    missed: list[str] = field(default_factory=list)


def think_through(observations: list[Observation], seen: Seen, chance: Random) -> None:
    """Every recipe offered for these hosts gives a sound plan, or a whole refusal."""
    seen.clusters += 1
    diagnosis = diagnose(observations)
    seen.states.update(member.state for member in diagnosis.members)
    seen.sizes.add(diagnosis.voters)
    before = seen.plans.total()
    for cluster, recipe, target, lost in offers(observations):
        plan = plan_or_refusal(cluster, recipe, target, lost)
        if plan is None:
            continue
        seen.plans[recipe] += 1
        require_sound(plan, cluster)
        assert plan.recipe == recipe
        assert plan.stages
        assert plan.summary
        assert {s.host for s in plan.steps()} <= set(plan.hosts)
        assert disasters(plan, cluster, lost) == []
        change_and_refuse(plan, cluster, lost, seen, chance)
    seen.planned += seen.plans.total() > before


def change_and_refuse(
    plan: Plan, cluster: Cluster, lost: tuple[str, ...], seen: Seen, chance: Random
) -> None:
    """Every change of the plan that would do harm is refused; some of all changes are tried."""
    all_of_them = list(changes(plan))
    for kind, what, make in chance.sample(all_of_them, min(MUTANTS_EACH, len(all_of_them))):
        mutant = make()
        is_refused = bool(check_plan(mutant, cluster))
        seen.mutants[kind] += 1
        seen.refused[kind] += is_refused
        harm = disasters(mutant, cluster, lost)
        seen.dangerous += bool(harm)
        if harm and not is_refused:
            seen.missed.append(f"{plan.recipe} {what}: {harm[0]}")


@pytest.mark.reliability(
    "Plans checked twice",
    "every plan for generated clusters of 1 to 7 members in any mix of states keeps all "
    "invariants after each of its steps, and with each host put off",
)
@pytest.mark.reliability(
    "Plans checked twice",
    "a plan with one step left out, moved, done elsewhere or with another argument is refused "
    "wherever a simulator that knows no rule sees harm come of it",
)
@pytest.mark.parametrize("kind", KINDS)
def test_every_plan_for_generated_clusters(kind: str, figure: Callable[[str, int], None]) -> None:
    strategy, expected = KINDS[kind]
    seen, chance = Seen(), Random(7)

    @settings(max_examples=EXAMPLES)
    @given(strategy)
    def think(observations: list[Observation]) -> None:
        think_through(observations, seen, chance)

    think()
    assert seen.missed == []
    figure("generated clusters thought through", seen.clusters)
    figure("of these with a plan", seen.planned)
    for recipe, number in seen.plans.items():
        figure(f"plans made by {recipe}", number)
    figure("plans changed in one place", seen.mutants.total())
    figure("of these refused", seen.refused.total())
    figure("of these dangerous to a simulator, every one refused", seen.dangerous)
    if IN_CI:
        require_broad(seen, expected, everything=kind == "of any kind")


def require_broad(seen: Seen, expected: set[str], everything: bool) -> None:
    """The clusters generated are no thin sample: each recipe had its plans, each change its try."""
    assert seen.clusters >= EXAMPLES
    assert seen.planned >= seen.clusters // 10
    assert {recipe for recipe, number in seen.plans.items() if number >= 25} == expected
    assert set(seen.mutants) == set(MUTATIONS)
    assert min(seen.mutants.values()) >= 25
    assert seen.refused.total() >= 0.75 * seen.mutants.total()
    assert seen.dangerous >= 100
    if everything:
        assert set(seen.states) == set(MemberState)
        assert min(seen.states.values()) >= 25
        assert {1, 3, 5, 7} <= seen.sizes


@FEW
@given(clusters(serving=False), st.booleans())
def test_reseed_both_ways(drawn: tuple[Lab, list[Observation]], in_manifest: bool) -> None:
    for cluster, recipe, _, lost in offers(drawn[1]):
        if recipe == "reseed":
            plan = reseed(cluster, NOW, lost, in_manifest)
            assert check_plan(plan, cluster) == ()
            flagged = [s.action for s in plan.steps() if s.action.startswith("seed_")]
            assert flagged == ["seed_in_manifest" if in_manifest else "seed_cluster"]


@FEW
@given(hosts(serving=False))
def test_never_a_reseed_without_the_word_for_a_member_not_seen(
    observations: list[Observation],
) -> None:
    for cluster, recipe, target, lost in offers(observations):
        if recipe == "reseed" and lost and plan_or_refusal(cluster, recipe, target, lost):
            with pytest.raises(Refused, match="not declared lost"):
                reseed(cluster, NOW, lost[1:])


def a_plan(observations: list[Observation]) -> Plan:
    plans = (plan_or_refusal(*offer) for offer in offers(observations))
    plan = next((p for p in plans if p is not None), None)
    assume(plan is not None)
    assert plan is not None
    return plan


@FEW
@given(hosts())
def test_the_id_is_that_of_the_json(observations: list[Observation]) -> None:
    plan = a_plan(observations)
    text = json.dumps(plan_to_plain(plan))
    again = plan_from_plain(json.loads(text))
    assert again == plan
    assert again.with_id().id == plan.id
    assert json.dumps(plan_to_plain(again)) == text


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path to every single value of a JSON document."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [p for key, item in items for p in places(item, (*path, key))] if items else [path]


def altered(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return f"{value}x"
    return ["x"]


@FEW
@given(hosts(), st.data())
def test_a_plan_altered_in_any_one_field_is_refused(
    observations: list[Observation], data: st.DataObject
) -> None:
    plain = json.loads(json.dumps(plan_to_plain(a_plan(observations))))
    path = data.draw(st.sampled_from(places(plain)))
    holder = plain
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = altered(holder[path[-1]])
    with pytest.raises(UsageError):
        plan_from_plain(plain)
