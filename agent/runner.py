"""Runs steps: precondition, intent (fsync), act, proof, done (fsync); and takes them back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from agent.actions.base import Action, Context
from agent.actions.registry import action_named
from agent.errors import RescueError, StepFailed, UsageError
from agent.host import Host
from agent.journal import Journal
from agent.model.catalog import CATALOG
from agent.model.codec import from_plain
from agent.model.plan import FORMAT, Plan, Promise, Stage, Step
from agent.platforms import detect
from agent.platforms.base import Platform

Say = Callable[[str], None]


class Runner:
    """Carries out one plan's steps on this host."""

    def __init__(self, host: Host, journal: Journal, say: Say) -> None:
        self._host, self._journal, self._say = host, journal, say
        self._platform: Platform = detect(host)

    def _parts(self, step_id: str) -> tuple[Step, Action[Any], Any, Context]:
        step = self._journal.plan.step(step_id)
        if step is None:
            raise UsageError(
                f"plan {self._journal.plan.short_id} has no step {step_id!r}", next="fab journal"
            )
        action = action_named(step.action)
        args = from_plain(action.args_type, step.args, f"step {step_id} ({step.action})")
        short = self._journal.plan.short_id
        return step, action, args, Context(self._host, self._platform, short, step_id, self._say)

    def run(self, step_id: str) -> dict[str, Any]:
        """Run one step; {"step", "outcome": "done" or "already", "seconds", "result"}.

        Raises PreconditionFailed before, StepFailed (or what the act raised) after the intent.
        """
        start = time.monotonic()
        step, action, args, ctx = self._parts(step_id)
        journal = self._journal
        earlier = journal.undo_data(step_id)
        if (journal.is_done(step_id) or earlier is not None) and action.is_done(ctx, args, earlier):
            if not journal.is_done(step_id):
                journal.append("done", step_id, {"found": "the effect was already there"})
            return _outcome(step_id, "already", start, {})
        action.check(ctx, args)
        undo = earlier if earlier is not None else action.prepare(ctx, args)
        journal.append("intent", step_id, undo)
        try:
            result = action.act(ctx, args, undo)
            action.prove(ctx, args, undo)
        except (RescueError, OSError) as error:
            failure = error if isinstance(error, RescueError) else _os_failure(step, error)
            journal.append("failed", step_id, failure.to_plain())
            raise failure from error
        journal.append("done", step_id, result)
        return _outcome(step_id, "done", start, result)

    def skip(self, step_id: str, reason: str) -> None:
        """Record that a step was put off for good, by the operator's word."""
        self._parts(step_id)
        self._journal.append("skipped", step_id, {"reason": reason})

    def undo(self, step_id: str) -> dict[str, Any]:
        """Take one step back; {"step", "outcome": "undone" or "nothing"}."""
        start = time.monotonic()
        _step, action, args, ctx = self._parts(step_id)
        undo = self._journal.undo_data(step_id)
        if undo is None:
            return _outcome(step_id, "nothing", start, {})
        action.undo(ctx, args, undo)
        self._journal.append("undone", step_id)
        return _outcome(step_id, "undone", start, {})


def single_step_plan(host: Host, action: str, values: dict[str, Any]) -> Plan:
    """Give the plan that a lone verb stands for: one stage, one step, nothing promised."""
    spec = CATALOG[action]
    step = Step("01", host.hostname(), action, values, "by hand", spec.precondition, spec.undo)
    return Plan(
        format=FORMAT,
        recipe="single-step",
        summary=spec.title,
        created=host.now(),
        hosts={host.hostname(): ""},
        stages=(Stage(spec.title, (step,)),),
        promise=Promise(()),
    ).with_id()


def preview(host: Host, plan: Plan, say: Say) -> None:
    """Check every step's precondition as it is now; no effects, no journal."""
    platform = detect(host)
    for step in plan.steps():
        action = action_named(step.action)
        args = from_plain(action.args_type, step.args, f"step {step.id} ({step.action})")
        action.check(Context(host, platform, plan.short_id, step.id, say), args)


def _os_failure(step: Step, error: OSError) -> StepFailed:
    return StepFailed(
        f"step {step.id} ({step.action}): {error.strerror or error}: {error.filename or ''}".rstrip(
            ": "
        ),
        "the operating system refused it; what was done so far is in the journal",
        "mend that, then: fab resume   (or: fab rollback)",
    )


def _outcome(step: str, outcome: str, start: float, result: dict[str, Any]) -> dict[str, Any]:
    seconds = round(time.monotonic() - start, 3)
    return {"step": step, "outcome": outcome, "seconds": seconds, "result": result}
