"""What holds for every mix of states: a plan that breaks nothing, or a refusal that says all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent.errors import Refused, UsageError
from agent.model.facts import Observation
from agent.model.plan import Plan, plan_from_plain, plan_to_plain
from agent.recipes.invariants import check_plan, require_sound
from agent.recipes.reseed import reseed
from tests.unit.builders import Lab
from tests.unit.recipes.making import NOW, anything, hosts, offers, plan_or_refusal
from tests.unit.strategies import clusters


def check(observations: list[Observation]) -> None:
    """Every recipe offered for these hosts gives a sound plan, or a refusal."""
    for cluster, recipe, target, lost in offers(observations):
        plan = plan_or_refusal(cluster, recipe, target, lost)
        if plan is None:
            continue
        assert check_plan(plan, cluster) == ()
        require_sound(plan, cluster)
        assert plan.recipe == recipe
        assert plan.stages
        assert plan.summary
        assert {s.host for s in plan.steps()} <= set(plan.hosts)


@given(hosts())
def test_every_recipe_offered_is_sound(observations: list[Observation]) -> None:
    check(observations)


@given(hosts(serving=True))
def test_while_the_cluster_serves(observations: list[Observation]) -> None:
    check(observations)


@given(hosts(serving=False))
def test_with_the_quorum_lost(observations: list[Observation]) -> None:
    check(observations)


@given(anything)
def test_with_parts_of_surveys_missing(observations: list[Observation]) -> None:
    check(observations)


@given(clusters(serving=False), st.booleans())
def test_reseed_both_ways(drawn: tuple[Lab, list[Observation]], in_manifest: bool) -> None:
    for cluster, recipe, _, lost in offers(drawn[1]):
        if recipe == "reseed":
            plan = reseed(cluster, NOW, lost, in_manifest)
            assert check_plan(plan, cluster) == ()
            flagged = [s.action for s in plan.steps() if s.action.startswith("seed_")]
            assert flagged == ["seed_in_manifest" if in_manifest else "seed_cluster"]


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
