"""Hosts whose etcd is run by systemd: what the state of the unit means."""

from __future__ import annotations

from typing import Any

import pytest

from agent.diagnosis import signs
from agent.diagnosis.cluster import diagnose
from agent.model.facts import Cause, Service
from agent.model.verdict import MemberState
from tests.unit.builders import Lab

LAB = Lab(3)


def unit(active: str, restarts: int = 0, enabled: str = "enabled") -> dict[str, Any]:
    return {"unit": Service("etcd.service", active, restarts=restarts, enabled=enabled),
            "runtime": None, "kubelet": None}  # fmt: skip


def state(**more: Any) -> tuple[MemberState, str]:
    observed = [LAB.healthy(0), LAB.healthy(1), LAB.stopped(2, **more)]
    verdict = diagnose(observed).member("master-3")
    assert verdict is not None
    return verdict.state, verdict.why


def test_a_stopped_unit_is_a_stopped_member() -> None:
    in_place = {"config": LAB.config(2), "parked": ()}
    found, why = state(**unit("inactive", restarts=7), **in_place)
    assert found is MemberState.STOPPED
    assert "etcd.service is inactive" in why
    last = Cause("stream", "network", "lost a stream", "x", "e", "y")
    stopped = LAB.stopped(2, **unit("inactive"), **in_place, causes=(last,))
    diagnosis = diagnose([LAB.healthy(0), LAB.healthy(1), stopped])
    assert (diagnosis.recipe, diagnosis.target) == ("restart-member", "master-3")


@pytest.mark.parametrize("active", ["activating", "failed"])
def test_one_that_is_restarted_and_has_a_cause_loops(active: str) -> None:
    config = LAB.config(2, wal_dir="")
    shown = unit(active, restarts=3) if active == "activating" else unit(active)
    cause = Cause("flag", "config", "a flag is wrong", "x", "e", "y")
    assert state(**shown, causes=(cause,), config=config)[0] is MemberState.CRASH_LOOPING


def test_only_without_a_quorum_it_waits() -> None:
    cause = Cause("no-leader", "quorum", "no leader", "x", "e", "y")
    more = {**unit("activating", restarts=3), "config": LAB.config(2), "parked": ()}
    survey = LAB.stopped(2, **more, causes=(cause,)).survey
    assert survey is not None
    assert not signs.is_looping(survey)
    assert signs.is_waiting(survey)


@pytest.mark.parametrize(
    ("shown", "is_stopped"),
    [
        (unit("inactive"), False),
        (unit("failed"), False),
        (unit("inactive", enabled="masked"), True),
        (unit("not-found"), True),
    ],
)
def test_a_unit_that_cannot_be_read_is_not_proved_stopped(
    shown: dict[str, Any], is_stopped: bool
) -> None:
    survey = LAB.stopped(2, **shown, config=None, parked=()).survey
    assert survey is not None
    assert signs.is_proved_stopped(survey) is is_stopped
