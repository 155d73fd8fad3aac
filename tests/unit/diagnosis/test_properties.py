"""What holds for every mix of states."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.diagnosis.cluster import diagnose, diagnose_host
from agent.diagnosis.quorum import quorum_after_remove
from agent.model.facts import Observation
from agent.model.verdict import ClusterState, Diagnosis, MemberState
from tests.unit.builders import Lab
from tests.unit.strategies import clusters, torn

RECIPES = {"", "replace-member", "restart-member", "remove-member", "reseed"}
many = settings(max_examples=150, deadline=None)


def check(verdict: Diagnosis) -> None:
    """Invariants of every diagnosis."""
    assert verdict.recipe in RECIPES
    assert verdict.why
    assert bool(verdict.recipe) == bool(verdict.target) == bool(verdict.recipe_why)
    assert all(member.why for member in verdict.members)
    assert all(r.seen and r.why and r.next for r in verdict.refusals)
    assert all(name and reason for name, reason in verdict.consent)
    for member in verdict.members:
        recipe, _, refusal = diagnose_host(verdict, member.host)
        assert recipe in RECIPES - {"reseed"}
        assert not (recipe and refusal)
        assert refusal is None or (refusal.seen and refusal.why and refusal.next)
        assert not (member.stopped and member.runs)


def check_reseed(verdict: Diagnosis) -> None:
    """Invariants of a reseed that is offered."""
    target = verdict.member(verdict.target)
    assert target is not None
    assert target.usable
    usable = [m for m in verdict.members if m.usable]
    assert target.position == max(m.position for m in usable)
    assert verdict.state is ClusterState.QUORUM_LOST
    assert not any(m.serves for m in verdict.members)
    assert not any(r.recipe == "reseed" for r in verdict.refusals)
    unseen = {
        m.host
        for m in verdict.members
        if m.id and m.voter and m.state in (MemberState.UNREACHABLE, MemberState.GHOST)
    }
    assert unseen <= {name for name, _ in verdict.consent}
    assert not any(m.seen_alive for m in verdict.members if m.id)


@many
@given(clusters())
def test_invariants(drawn: tuple[Lab, list[Observation]]) -> None:
    verdict = diagnose(drawn[1])
    check(verdict)
    if verdict.recipe == "reseed":
        check_reseed(verdict)


@many
@given(torn())
def test_never_crashes_on_missing_parts(observations: list[Observation]) -> None:
    verdict = diagnose(observations)
    check(verdict)
    if verdict.recipe == "reseed":
        check_reseed(verdict)


@many
@given(clusters(serving=True))
def test_never_a_reseed_while_reads_work(drawn: tuple[Lab, list[Observation]]) -> None:
    verdict = diagnose(drawn[1])
    assert verdict.state in (ClusterState.HEALTHY, ClusterState.DEGRADED)
    assert verdict.recipe != "reseed"
    assert any(r.recipe == "reseed" for r in verdict.refusals)


@many
@given(clusters(serving=True))
def test_a_change_of_the_membership_keeps_the_quorum(
    drawn: tuple[Lab, list[Observation]],
) -> None:
    verdict = diagnose(drawn[1])
    target = verdict.member(verdict.target)
    if verdict.recipe in ("replace-member", "remove-member") and target and target.voter:
        assert quorum_after_remove(verdict.voters, verdict.serving, target.serves).is_allowed


@many
@given(clusters(), st.randoms(use_true_random=False))
def test_the_order_of_observations_does_not_matter(
    drawn: tuple[Lab, list[Observation]], random: st.DataObject
) -> None:
    observations = drawn[1]
    shuffled = list(observations)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert diagnose(shuffled) == diagnose(observations)


@many
@given(clusters(serving=False), st.data())
def test_consent_names_all_that_is_not_declared(
    drawn: tuple[Lab, list[Observation]], data: st.DataObject
) -> None:
    observations = drawn[1]
    members = diagnose(observations).members
    absent = [
        m.host
        for m in members
        if m.state in (MemberState.UNREACHABLE, MemberState.GHOST) and not m.seen_alive
    ]
    declared = data.draw(st.sets(st.sampled_from(absent)) if absent else st.just(set()))
    verdict = diagnose(observations, sorted(declared))
    voters = {m.host for m in verdict.members if m.id and m.voter}
    if verdict.recipe == "reseed":
        named = {name for name, _ in verdict.consent}
        assert (set(absent) & voters) - declared <= named
        assert not declared & named


@many
@given(clusters(serving=False), st.data())
def test_a_host_that_answers_is_never_taken_as_lost(
    drawn: tuple[Lab, list[Observation]], data: st.DataObject
) -> None:
    observations = drawn[1]
    present = [o.host for o in observations if o.survey is not None]
    if present:
        verdict = diagnose(observations, [data.draw(st.sampled_from(present))])
        assert verdict.recipe != "reseed"


@many
@given(clusters(serving=False, states=("stopped",)))
def test_nothing_but_stopped_members_are_started(drawn: tuple[Lab, list[Observation]]) -> None:
    lab, observations = drawn
    verdict = diagnose(observations)
    if len(observations) > lab.size // 2:
        assert verdict.recipe == "restart-member"
