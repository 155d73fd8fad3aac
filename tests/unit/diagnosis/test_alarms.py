"""Alarms: which recipe fits, and that CORRUPT is never one for disarming a member."""

from __future__ import annotations

from agent.diagnosis.cluster import diagnose
from agent.model.facts import Alarm, Observation
from agent.model.verdict import ClusterState
from tests.unit.builders import Lab

LAB = Lab(3)


def alarmed(*alarms: Alarm) -> list[Observation]:
    return [LAB.healthy(n, online=LAB.online(n, alarms=alarms)) for n in range(3)]


def test_no_space_is_offered_to_be_cleared() -> None:
    diagnosis = diagnose(alarmed(Alarm(LAB.member_id(1), "NOSPACE")))
    assert (diagnosis.state, diagnosis.recipe) == (ClusterState.DEGRADED, "clear-alarm")
    assert any("fab clear-alarm" in text for text in diagnosis.warnings)


def test_a_member_that_is_marked_corrupt_is_replaced() -> None:
    diagnosis = diagnose(alarmed(Alarm(LAB.member_id(1), "CORRUPT")))
    assert (diagnosis.recipe, diagnosis.target) == ("replace-member", "master-2")


def test_the_mark_of_a_member_that_is_gone_still_forbids_writes() -> None:
    diagnosis = diagnose(alarmed(Alarm("00000000000000ff", "CORRUPT")))
    assert (diagnosis.state, diagnosis.recipe) == (ClusterState.DEGRADED, "clear-alarm")
    assert "00000000000000ff" in diagnosis.why


def test_a_member_that_is_down_comes_first() -> None:
    found = alarmed(Alarm(LAB.member_id(1), "NOSPACE"))
    found[2] = LAB.wiped(2)
    assert diagnose(found).recipe == "replace-member"
