"""What `rescue-node HOST` does for one host."""

from __future__ import annotations

import pytest

from agent.diagnosis.cluster import diagnose, diagnose_host
from agent.model.facts import Observation
from tests.unit.builders import OTHER_CLUSTER, Lab, cause, corrupt_alarm

LAB = Lab(3)
TWO = [LAB.healthy(0), LAB.healthy(1)]


@pytest.mark.parametrize(
    ("third", "recipe"),
    [
        (LAB.healthy(2), ""),
        (LAB.wiped(2), "replace-member"),
        (LAB.corrupt(2), "replace-member"),
        (LAB.stopped(2), "restart-member"),
        (LAB.fenced(2), "restart-member"),
    ],
)
def test_recipe(third: Observation, recipe: str) -> None:
    verdict = diagnose([*TWO, third])
    assert diagnose_host(verdict, "master-3") == (recipe, "master-3", None)
    assert diagnose_host(verdict, LAB.member_id(2)) == (recipe, "master-3", None)


REFUSED = [
    ("cause", [*TWO, LAB.crash_looping(2, cause("config"))], "put the config right"),
    ("unreachable", [*TWO, LAB.unreachable(2)], "fab remove-member master-3"),
    (
        "quorum lost",
        [LAB.no_quorum(0), LAB.unreachable(1), LAB.wiped(2)],
        "fab rescue-quorum --lost master-2",
    ),
    ("nothing left", [LAB.wiped(0), LAB.wiped(1), LAB.wiped(2)], "fab restore SNAPSHOT"),
    ("others parked", [LAB.stopped(0), LAB.stopped(1), LAB.wiped(2)], "fab rescue-node master-1"),
    ("unknown state", [LAB.waiting(0), LAB.waiting(1), LAB.wiped(2)], "fab diagnose"),
    (
        "cause without quorum",
        [LAB.no_quorum(0), LAB.wiped(1), LAB.crash_looping(2, cause("disk"))],
        "put the disk right",
    ),
    ("split", [*TWO, Lab(3, cluster_id=OTHER_CLUSTER).healthy(2)], "decide which cluster"),
]


@pytest.mark.parametrize(
    ("observations", "text"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_refusals(observations: list[Observation], text: str) -> None:
    recipe, _, refusal = diagnose_host(diagnose(observations), "master-3")
    assert recipe == ""
    assert refusal is not None
    assert text in refusal.next
    assert refusal.seen
    assert refusal.why


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    recipe, target, refusal = diagnose_host(diagnose(TWO), "mastre-1")
    assert (recipe, target) == ("", "")
    assert refusal is not None
    assert "master-1, master-2, master-3" in refusal.next


def test_a_parked_member_is_started_even_without_quorum() -> None:
    verdict = diagnose([LAB.stopped(0), LAB.stopped(1), LAB.wiped(2)])
    assert diagnose_host(verdict, "master-2") == ("restart-member", "master-2", None)


def test_the_last_voter_is_never_taken() -> None:
    lab = Lab(1)
    online = lab.online(0, alarms=(corrupt_alarm(lab.member_id(0)),))
    recipe, _, refusal = diagnose_host(diagnose([lab.healthy(0, online=online)]), "master-1")
    assert recipe == ""
    assert refusal is not None
    assert "the last one is never removed" in refusal.why


def test_a_voter_the_quorum_needs_is_not_taken() -> None:
    online = LAB.online(0, alarms=(corrupt_alarm(LAB.member_id(1)),))
    verdict = diagnose([LAB.healthy(0, online=online), LAB.healthy(1), LAB.unreachable(2)])
    recipe, _, refusal = diagnose_host(verdict, "master-2")
    assert recipe == ""
    assert refusal is not None
    assert "1 healthy of 2 voters" in refusal.why
    assert refusal.next == "fab rescue-node master-3"


def test_a_member_declared_lost_is_removed() -> None:
    verdict = diagnose([*TWO, LAB.unreachable(2)], ["master-3"])
    assert diagnose_host(verdict, "master-3", ["master-3"]) == ("remove-member", "master-3", None)
