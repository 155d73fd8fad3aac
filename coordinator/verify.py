"""Verify: a fresh survey and diagnosis, held against the plan's promise."""

from __future__ import annotations

import time
from typing import Any

from agent.diagnosis.cluster import diagnose
from agent.errors import StepFailed
from agent.model.facts import Observation
from agent.model.plan import Plan
from agent.model.verdict import Diagnosis, MemberState
from coordinator.console import Progress
from coordinator.fleet import Fleet
from coordinator.sequencer import Report

_SETTLE_SECONDS = 30.0


def verify(fleet: Fleet, plan: Plan, done: Report, progress: Progress) -> dict[str, Any]:
    """Look again until the promise is kept; the outcome for the report.

    Hosts that were put off, and those the operator dropped, are not held against the plan. Raises
    StepFailed with what is not as promised after 30 s.
    """
    deadline = time.monotonic() + _SETTLE_SECONDS
    told: list[str] = []
    while True:
        observations = fleet.observe()
        diagnosis = diagnose(observations, plan.declared_lost)
        broken = _broken(plan, done, diagnosis, observations)
        if not broken:
            return _outcome(plan, done, diagnosis)
        if time.monotonic() > deadline:
            raise StepFailed(
                f"not as promised: {'; '.join(broken)}",
                "every step was done, and yet the cluster is not as the plan says",
                "fab diagnose",
            )
        if broken != told:
            progress.say(f"looking again: {'; '.join(broken)}")
            told = broken
        time.sleep(0.5)


def _broken(
    plan: Plan, done: Report, diagnosis: Diagnosis, observations: tuple[Observation, ...]
) -> list[str]:
    """Name what the promise says and the diagnosis does not; empty where it is kept."""
    found = []
    for host in plan.promise.voters:
        if host in done.put_off or host in done.dropped:
            continue
        verdict = diagnosis.member(host)
        state = verdict.state.value if verdict else "unknown"
        if verdict is None or verdict.state is not MemberState.HEALTHY:
            found.append(f"{host} is {state}{': ' + verdict.why if verdict else ''}")
        elif verdict.revision < plan.promise.revision:
            found.append(
                f"{host} is at revision {verdict.revision}, promised {plan.promise.revision}"
            )
    if plan.promise.cluster_id and diagnosis.cluster_id != plan.promise.cluster_id:
        found.append(f"cluster ID is {diagnosis.cluster_id}, promised {plan.promise.cluster_id}")
    for observation in observations:
        survey = observation.survey
        argvs = [p.argv for p in survey.processes] if survey else []
        flagged = any("force-new-cluster" in a for argv in argvs for a in argv)
        if flagged or (survey and survey.config and survey.config.force_new_cluster):
            found.append(f"{observation.host} runs with --force-new-cluster")
    return found


def _outcome(plan: Plan, done: Report, diagnosis: Diagnosis) -> dict[str, Any]:
    total = max(len(plan.promise.voters), diagnosis.voters)  # some may serve unseen by a survey
    outage = done.outage(plan)
    words = [f"{diagnosis.serving}/{total} voters serve"]
    words += [f"revision {max((m.revision for m in diagnosis.members), default=0)}"]
    words += [f"outage {outage:.1f} s"] if outage is not None else []
    words += [f"still to rejoin: {', '.join(dict.fromkeys(done.put_off))}"] if done.put_off else []
    return {
        "plan": plan.id,
        "recipe": plan.recipe,
        "summary": f"recovered: {', '.join(words)}",
        "voters": total,
        "serving": diagnosis.serving,
        "state": diagnosis.state.value,
        "outage_seconds": round(outage, 3) if outage is not None else None,
        "outage_parts": _parts(plan, done),
        "put_off": list(dict.fromkeys(done.put_off)),
        # This plan is closed right after: that it is open still is no news.
        "warnings": [w for w in diagnosis.warnings if not w.startswith(f"plan {plan.short_id} ")],
    }


def _parts(plan: Plan, done: Report) -> dict[str, float]:
    """Where each second of the outage went: step → seconds, from the first stop to service."""
    if done.outage(plan) is None:
        return {}
    steps = plan.steps()
    first = next(i for i, s in enumerate(steps) if s.action == "park_definition")
    last = next(i for i, s in enumerate(steps) if s.action == "wait_serving")
    return {
        f"{step.id} {step.host}: {step.action.replace('_', ' ')}": round(end - start, 3)
        for step in steps[first : last + 1]
        for start, end in [done.timings.get(step.id, (0.0, 0.0))]
    }
