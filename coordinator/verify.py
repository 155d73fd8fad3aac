"""Verify: a fresh survey and diagnosis, held against the plan's promise."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from agent.diagnosis.cluster import diagnose
from agent.errors import RescueError, StepFailed
from agent.model.plan import KUBERNETES_API, Plan
from agent.model.verdict import Diagnosis
from agent.recipes.promise import broken_promise
from coordinator.channel import fan_out
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
        broken = broken_promise(plan, _kept(plan, done), diagnosis, observations)
        broken = broken or _unequal(fleet, _kept(plan, done), diagnosis)
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


def _kept(plan: Plan, done: Report) -> list[str]:
    """Hosts that the promise still holds for."""
    return [h for h in plan.promise.voters if h not in done.put_off and h not in done.dropped]


def _unequal(fleet: Fleet, hosts: Sequence[str], diagnosis: Diagnosis) -> list[str]:
    """Name what speaks against equal keys on all members: their hashes at one revision."""
    revision = min((m.revision for m in diagnosis.members if m.host in hosts), default=0)
    if len(hosts) < 2 or not revision:
        return []
    said = fan_out(hosts, lambda host: fleet.call(host, "hash", {"revision": revision}, 60))
    failed = [f"{h} told no hash: {a.seen}" for h, a in said.items() if isinstance(a, RescueError)]
    told = {h: a for h, a in said.items() if not isinstance(a, RescueError)}
    if failed or len({a["compact_revision"] for a in told.values()}) > 1:
        return failed or ["one member has compacted what another has not yet"]
    if len({a["hash"] for a in told.values()}) > 1:
        hashes = ", ".join(f"{host} {a['hash']}" for host, a in told.items())
        return [f"the keys differ at revision {revision}: {hashes}"]
    return []


def _outcome(plan: Plan, done: Report, diagnosis: Diagnosis) -> dict[str, Any]:
    total = max(len(plan.promise.voters), diagnosis.voters)  # some may serve unseen by a survey
    outage = done.outage(plan)
    words = [f"{diagnosis.serving}/{total} voters serve"]
    words += [f"revision {max((m.revision for m in diagnosis.members), default=0)}"]
    words += [f"outage {outage:.1f} s"] if outage is not None else []
    left = [name for name in dict.fromkeys(done.put_off) if name != KUBERNETES_API]
    words += [f"still to rejoin: {', '.join(left)}"] if left else []
    words += ["the API's part is still to do"] if KUBERNETES_API in done.put_off else []
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
