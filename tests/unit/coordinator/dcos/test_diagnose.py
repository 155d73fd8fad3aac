"""Which scenario holds: a table of states, and what no state may allow."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.dcos.diagnose import diagnose
from coordinator.dcos.model import PlanStatus, PodState, Remedy, TaskRun, View
from coordinator.dcos.refusals import forbidden
from tests.unit.coordinator.dcos.builders import THREE, alone, run, serves, three, view

DEPLOYING = PlanStatus("deploy", "IN_PROGRESS", (("etcd-0:[peer]", "STARTING"),))
SCALING = PlanStatus(
    "deploy", "IN_PROGRESS", (("etcd-0:[peer]", "COMPLETE"), ("etcd-1:[peer]", "STARTING")), True
)
SCALED_BADLY = PlanStatus("deploy", "ERROR", SCALING.etcd, True, ("etcd-1 failed",))
ONE = {"etcd-0": "TASK_RUNNING"}
NEW: dict[str, str | None] = {"etcd-0": "TASK_RUNNING", "etcd-1": None, "etcd-2": None}
CRASHED = tuple(run("etcd-1", "TASK_FAILED", since=float(n)) for n in range(3))


@pytest.mark.parametrize(
    ("seen", "lost", "scenario", "state", "remedy"),
    [
        (view(dict(ONE), {"etcd-0": serves()}), (), 0, "healthy", Remedy.NONE),
        (three(*THREE), (), 0, "healthy", Remedy.NONE),
        # 1: the first installation
        (view({"etcd-0": "TASK_FAILED"}, deploy=DEPLOYING, api_ran=False), (), 1, "installing",
         Remedy.WATCH),
        (view({"etcd-0": None}, deploy=DEPLOYING, api_ran=False), (), 1, "installation-failed",
         Remedy.REINSTALL),
        (view({"etcd-0": None}, deploy=DEPLOYING, api_ran=False, away=("A3",)), (), 1,
         "installation-failed", Remedy.WATCH),
        # 2: scaling up
        (view(NEW, {"etcd-0": serves()}, deploy=SCALING), (), 2, "scaling", Remedy.WATCH),
        (view(NEW, {"etcd-0": alone()}, deploy=SCALED_BADLY), (), 2, "scale-up-failed",
         Remedy.REBUILD),
        # 3: one member
        (view({"etcd-0": "TASK_FAILED"}), (), 3, "down", Remedy.WATCH),
        (view({"etcd-0": "TASK_STAGING"}), (), 3, "down", Remedy.WATCH),
        (view({"etcd-0": "TASK_UNREACHABLE"}, away=("A0",)), (), 3, "down", Remedy.WATCH),
        (view({"etcd-0": "TASK_UNREACHABLE"}, away=("A0",)), ("etcd-0",), 3, "data-lost",
         Remedy.RESTORE),
        (view({"etcd-0": "TASK_GONE_BY_OPERATOR"}, away=("A0",)), (), 3, "data-lost",
         Remedy.RESTORE),
        # 4: three members
        (three("etcd-0", "etcd-1"), (), 4, "degraded", Remedy.WATCH),
        (three("etcd-0", "etcd-1"), ("etcd-2",), 4, "degraded", Remedy.REPLACE),
        (three(), ("etcd-1",), 4, "no-quorum", Remedy.WATCH),
        (three(), ("etcd-1", "etcd-2"), 4, "quorum-lost", Remedy.RESTORE),
    ],
)  # fmt: skip
def test_states(
    seen: View, lost: tuple[str, ...], scenario: int, state: str, remedy: Remedy
) -> None:
    verdict = diagnose(seen, lost)
    assert (verdict.scenario, verdict.state, verdict.remedy) == (scenario, state, remedy)
    assert forbidden(seen, verdict, remedy, verdict.target) is None
    assert verdict.why


def test_a_member_that_keeps_crashing_on_a_healthy_agent_is_replaced() -> None:
    states: dict[str, str | None] = dict.fromkeys(THREE, "TASK_RUNNING")
    answers = {"etcd-0": serves(), "etcd-2": serves()}
    seen = view(states, answers)
    runs = (seen.runs[0], *CRASHED, seen.runs[2])
    verdict = diagnose(View(**{**seen.__dict__, "runs": runs}))
    assert (verdict.remedy, verdict.target) == (Remedy.REPLACE, "etcd-1")
    assert verdict.pods[1].state is PodState.CRASHING
    fewer = View(**{**seen.__dict__, "runs": (runs[0], *CRASHED[1:], runs[-1])})
    assert diagnose(fewer).remedy is Remedy.WATCH, "a passing failure: it is started again"


def test_the_option_may_be_unknown_and_failures_are_told() -> None:
    seen = view(dict(ONE), {"etcd-0": serves()}, high_availability=None)
    assert diagnose(seen).remedy is Remedy.NONE
    assert any("cannot be read" in text for text in diagnose(seen).warnings)
    assert not any("suspect" in text for text in diagnose(seen, failures=1).warnings)
    assert any("suspect" in text for text in diagnose(seen, failures=2).warnings)


STATES = ("TASK_RUNNING", "TASK_FAILED", "TASK_UNREACHABLE", "TASK_GONE", "TASK_STAGING", None)


def all_views() -> st.SearchStrategy[tuple[View, tuple[str, ...]]]:
    """Any mix of task states, agents, answers and plans, of one member or three."""
    answers = st.sampled_from((None, serves(), alone(3), alone(12)))

    def build(
        size: int, states: list[str | None], said: list[object], away: list[bool], plan: PlanStatus,
        lost: list[bool], api_ran: bool,
    ) -> tuple[View, tuple[str, ...]]:  # fmt: skip
        pods = THREE[:size]
        told = {
            p: a for p, s, a in zip(pods, states, said, strict=False) if a and s == "TASK_RUNNING"
        }
        gone = tuple(f"A{p[-1]}" for p, off in zip(pods, away, strict=False) if off)
        seen = view(
            dict(zip(pods, states, strict=False)), told, gone, deploy=plan, api_ran=api_ran  # type: ignore[arg-type]
        )  # fmt: skip
        return seen, tuple(p for p, is_lost in zip(pods, lost, strict=False) if is_lost)

    def three_of(one: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
        return st.lists(one, min_size=3, max_size=3)

    return st.builds(
        build, st.sampled_from((1, 3)), three_of(st.sampled_from(STATES)), three_of(answers),
        three_of(st.booleans()),
        st.sampled_from((PlanStatus("deploy", "COMPLETE"), DEPLOYING, SCALING, SCALED_BADLY)),
        three_of(st.booleans()), st.booleans(),
    )  # fmt: skip


@given(all_views())
def test_nothing_that_destroys_fits_where_it_must_not(case: tuple[View, tuple[str, ...]]) -> None:
    seen, lost = case
    verdict = diagnose(seen, lost)
    fits = {r for r in Remedy if r is not Remedy.NONE and forbidden(seen, verdict, r) is None}
    assert verdict.remedy in {*fits, Remedy.NONE}
    if verdict.quorum:
        assert not fits & {Remedy.RESTORE, Remedy.REBUILD}
    else:
        assert Remedy.REPLACE not in fits
        assert Remedy.SCALE_UP not in fits
    if len(verdict.pods) == 1:
        assert Remedy.REPLACE not in fits
    if Remedy.REINSTALL in fits:
        assert not any(answer.keys for answer in seen.answers.values())
        assert not seen.api_ran
    if Remedy.RESTORE in fits and verdict.scenario != 2:
        gone = [pod for pod in verdict.pods if pod.state is PodState.LOST]
        assert len(gone) > len(verdict.pods) // 2


@given(all_views())
def test_exactly_the_failed_pod_is_replaced(case: tuple[View, tuple[str, ...]]) -> None:
    seen, lost = case
    verdict = diagnose(seen, lost)
    for pod in verdict.pods:
        if forbidden(seen, verdict, Remedy.REPLACE, pod.pod) is None:
            assert pod.state in (PodState.LOST, PodState.CRASHING)
            assert verdict.quorum


def test_runs_of_another_agent_do_not_count_as_crashes() -> None:
    old = tuple(TaskRun(f"x{n}", "etcd-1-peer", "A9", "TASK_FAILED", float(n)) for n in range(5))
    seen = view(dict.fromkeys(THREE, "TASK_RUNNING"), {"etcd-0": serves(), "etcd-2": serves()})
    runs = (*old, seen.runs[0], run("etcd-1", "TASK_FAILED", since=9.0), seen.runs[2])
    assert diagnose(View(**{**seen.__dict__, "runs": runs})).pods[1].state is PodState.RESTARTING


@pytest.mark.parametrize(("size", "remedy"), list(product((1, 3), Remedy)))
def test_every_refusal_says_why_and_what_next(size: int, remedy: Remedy) -> None:
    seen = view(dict.fromkeys(THREE[:size], "TASK_FAILED"))
    refusal = forbidden(seen, diagnose(seen), remedy)
    if refusal is not None:
        assert refusal.seen
        assert refusal.why
        assert refusal.next.startswith("fab dcos-")
