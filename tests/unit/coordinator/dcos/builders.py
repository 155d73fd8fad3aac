"""Services in the states that the tests need."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from coordinator.dcos.model import Agent, EtcdAnswer, PlanStatus, TaskRun, View

COMPLETE = PlanStatus("deploy", "COMPLETE", later=True)


def run(pod: str, state: str = "TASK_RUNNING", agent: str = "", since: float = 1.0) -> TaskRun:
    """A run of a pod's peer task, by default on an agent of its own."""
    agent = agent or f"A{pod[-1]}"
    return TaskRun(f"kubernetes__{pod}-peer__{since}", f"{pod}-peer", agent, state, since)


def serves(revision: int = 10, keys: int = 5) -> EtcdAnswer:
    """What a member answers through the quorum."""
    return EtcdAnswer(True, revision, keys)


def alone(revision: int = 10) -> EtcdAnswer:
    """What a member answers without a quorum."""
    return EtcdAnswer(False, revision, 5)


def view(
    states: dict[str, str | None],
    answers: dict[str, EtcdAnswer] | None = None,
    away: tuple[str, ...] = (),
    **changes: Any,
) -> View:
    """A service of these pods. states: of each one's task; None: it never had one."""
    pods = tuple(states)
    found = View(
        cluster="https://dcos.example.com",
        service="kubernetes",
        version="1.3.0-1.10.8",
        high_availability=len(pods) == 3,
        pods=pods,
        runs=tuple(run(pod, state) for pod, state in states.items() if state),
        agents=tuple(Agent(f"A{n}", f"10.0.0.{n}", f"A{n}" not in away) for n in range(5)),
        answers=answers or {},
        deploy=COMPLETE,
        recovery=PlanStatus("recovery", "COMPLETE"),
        voters=len(pods),
    )
    return replace(found, **changes)


THREE = ("etcd-0", "etcd-1", "etcd-2")


def three(*serving: str, away: tuple[str, ...] = (), **changes: Any) -> View:
    """Three members, of which these serve; the others' agents do not answer."""
    states: dict[str, str | None] = {
        pod: "TASK_RUNNING" if pod in serving else "TASK_UNREACHABLE" for pod in THREE
    }
    gone = tuple(f"A{pod[-1]}" for pod in THREE if pod not in serving)
    return view(states, {pod: serves() for pod in serving}, (*gone, *away), **changes)
