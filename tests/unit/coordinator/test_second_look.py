from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.model.facts import Container, EtcdProcess, Observation, Runtime, Service
from coordinator.second_look import attempting, doubtful
from tests.unit.builders import NOW, Lab, cause

LAB = Lab(3)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({}, {}, []),
        ({}, {"linearizable": False}, ["master-2"]),
        ({}, {"answers": False, "linearizable": False}, ["master-2"]),
        ({"answers": False}, {}, ["master-1"]),  # the read came back in time, the status did not
        ({"linearizable": False}, {"linearizable": False}, []),  # nobody serves: that is no doubt
    ],
)
def test_who_missed_a_question_while_the_quorum_serves_is_looked_at_again(
    first: dict[str, bool], second: dict[str, bool], expected: list[str]
) -> None:
    seen = [
        LAB.healthy(n, online=LAB.online(n, **given)) for n, given in enumerate((first, second))
    ]
    assert doubtful({o.host: o for o in [*seen, LAB.stopped(2)]}) == expected


def young(age: float = 0.5, kind: str = "data", attempt: int = 3, **given: Any) -> Observation:
    """An etcd that has run for so long, after others that ended for such a reason."""
    seen = LAB.crash_looping(1, cause(kind, time=NOW - 30), **given)
    assert seen.survey is not None
    container = Container("c", "s", "running", attempt=attempt, created=NOW - age)
    survey = replace(
        seen.survey, time=NOW, processes=(EtcdProcess(7, NOW - age, ("etcd",)),),
        runtime=Runtime(True, (container,), 1),
    )  # fmt: skip
    return replace(seen, survey=survey)


@pytest.mark.parametrize(
    ("seen", "is_attempt"),
    [
        (young(), True),
        (young(4.9), True),
        (young(6.0), False),  # one that cannot start has ended by then
        (young(attempt=0), False),  # it was never started before
        (young(kind="network"), False),  # that ends no etcd
        (young(kind="quorum"), False),
        (young(online=LAB.online(1)), False),  # it answers
        (LAB.crash_looping(1, cause("data")), False),  # between two attempts
        (LAB.healthy(1), False),
    ],
)
def test_one_that_was_caught_in_an_attempt_is_looked_at_again(
    seen: Observation, is_attempt: bool
) -> None:
    assert attempting({"a": LAB.healthy(0), "b": seen}) == (["b"] if is_attempt else [])


@pytest.mark.parametrize(("restarts", "is_attempt"), [(0, False), (3, True)])
def test_a_unit_that_systemd_starts_again(restarts: int, is_attempt: bool) -> None:
    unit = Service("etcd.service", "active", restarts=restarts)
    assert attempting({"b": young(unit=unit)}) == (["b"] if is_attempt else [])
