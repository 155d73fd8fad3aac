"""Carries a plan out on this machine: intent → fsync → act → done, so that it can be resumed."""

from __future__ import annotations

import time
from typing import Any

from agent.errors import CommandFailed, Refused, RescueError, StepFailed, Unreachable
from agent.model.plan import Plan, Stage, Step
from agent.records.journal import Journal
from coordinator.dcos.actions import ACTIONS, Context
from coordinator.dcos.model import PodState


def begin(ctx: Context, plan: Plan) -> Journal:
    """The plan's journal. An older plan of the service that failed is closed with it.

    Raises Refused where one was interrupted: nobody knows yet how far its last step came.
    """
    for other in ctx.state.open_ones(ctx.dcos.service):
        if other.plan.id == plan.id:
            continue
        last = other.records[-1]
        if last.kind == "intent":
            raise Refused(
                f"plan {other.plan.short_id} ({other.plan.recipe}) was interrupted in step "
                f"{last.step}",
                "how far that step came is not looked at yet",
                f"fab resume {other.plan.short_id}",
            )
        other.append("rolled-back", data={"in favour of": plan.id})
        ctx.progress.say(f"plan {other.plan.short_id} ({other.plan.recipe}) is given up")
    return Journal.create(ctx.state.host, plan)


def run(ctx: Context, journal: Journal) -> dict[str, float]:
    """Do what is left, in order; step → seconds. Raises the first error, which the journal has."""
    plan, seconds = journal.plan, dict[str, float]()
    for number, stage in enumerate(plan.stages, 1):
        _announce(ctx, journal, number, stage)
        for step in stage.steps:
            if not journal.is_done(step.id):
                seconds[step.id] = _do(ctx, journal, step)
    return seconds


def _announce(ctx: Context, journal: Journal, number: int, stage: Stage) -> None:
    done = all(journal.is_done(step.id) for step in stage.steps)
    ctx.progress.stage(number, len(journal.plan.stages), stage, "done before" if done else "")


def _do(ctx: Context, journal: Journal, step: Step) -> float:
    began = time.monotonic()
    action = ACTIONS[step.action]
    is_begun = step.id in journal.begun_steps()
    outcome, result, has_begun = "done", {}, False
    try:
        if is_begun and action.is_there(ctx, step, journal.undo_data(step.id) or {}):
            outcome = "already"
        else:
            before = {} if is_begun and action.repeats else action.before(ctx, step)
            journal.append("intent", step.id, before)
            has_begun = True
            result = _acted(ctx, step)
        journal.append("done", step.id, result)
    except RescueError as error:
        if has_begun and not isinstance(error, Unreachable):
            # A cut connection says nothing of the act: the intent stays, and resume looks.
            journal.append("failed", step.id, error.to_plain())
        ctx.progress.step(step, "failed", time.monotonic() - began, {})
        raise
    spent = time.monotonic() - began
    ctx.progress.step(step, outcome, spent, result)
    return spent


def _acted(ctx: Context, step: Step) -> dict[str, Any]:
    try:
        return ACTIONS[step.action].act(ctx, step)
    except CommandFailed as error:
        raise StepFailed(error.seen, error.why, error.next) from None


def verify(ctx: Context, plan: Plan) -> dict[str, object]:
    """A fresh look, held against the plan's promise. Raises StepFailed where it is not kept."""
    view, verdict = ctx.look()
    serving = [pod.pod for pod in verdict.pods if pod.state is PodState.SERVING]
    missing = [pod for pod in plan.promise.voters if pod not in serving]
    if missing:
        raise StepFailed(
            f"not as promised: {', '.join(missing)} do not serve ({verdict.why})",
            "every step was done, and yet the cluster is not as the plan says",
            "fab dcos-diagnose",
        )
    revision = max((pod.revision for pod in verdict.pods), default=0)
    keys = max((answer.keys for answer in view.answers.values()), default=0)
    summary = f"recovered: {len(serving)}/{len(verdict.pods)} members serve, revision {revision}"
    return {
        "summary": f"{summary}, {keys} keys", "plan": plan.id, "state": verdict.state,
        "serving": serving, "revision": revision, "keys": keys, "warnings": list(verdict.warnings),
    }  # fmt: skip
