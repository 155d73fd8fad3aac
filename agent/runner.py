"""Runs steps: precondition, intent (fsync), act, proof, done (fsync); and takes them back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Optional, Union

from agent.actions.base import Action, Context
from agent.errors import PreconditionFailed, RescueError, StepFailed, UsageError
from agent.host import Host
from agent.model.catalog import CATALOG
from agent.model.codec import from_plain
from agent.model.plan import FORMAT, Plan, Promise, Stage, Step
from agent.platforms import detect
from agent.platforms.base import Platform
from agent.records.journal import Journal

Say = Callable[[str], None]
SINGLE_STEP = "single-step"
BY_HAND = "by-hand"


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
        action = _action_named(step.action)
        args = from_plain(action.args_type, step.args, f"step {step_id} ({step.action})")
        plan = self._journal.plan
        return step, action, args, _context(self._host, self._platform, plan, step_id, self._say)

    def lend(self, step_id: str) -> dict[str, Any]:
        """Give what a step of the plan looks at, to be taken to another host.

        The CA of etcd: {"certificate", "key"}, as PEM. OpenShift 3.11's CA files: {"files"}.
        """
        step, _action, _args, ctx = self._parts(step_id)
        if step.action == "check_ca_files":
            from agent.actions.openshift311.ca_files import lend_ca_files

            return lend_ca_files(ctx)
        if step.action != "check_authority":
            raise UsageError(f"step {step_id} ({step.action}) lends nothing", next="fab journal")
        from agent.actions.certificates import lend_authority

        return lend_authority(ctx)

    def run(
        self,
        step_id: str,
        secrets: Optional[Mapping[str, str]] = None,
        api_patience: Optional[float] = None,
    ) -> dict[str, Any]:
        """Run one step; {"step", "outcome": "done" or "already", "seconds", "result"}.

        secrets: what the action needs beside its arguments; it goes into no journal. api_patience:
        seconds for each request to the Kubernetes API; None for as many as usual.
        Raises PreconditionFailed before, StepFailed (or what the act raised) after the intent.
        """
        start = time.monotonic()
        step, action, args, ctx = self._parts(step_id)
        ctx = replace(ctx, secrets=secrets or {}, api_patience=api_patience)
        try:
            undo = self._undo_data_unless_done(action, ctx, args)
        except OSError as error:
            raise PreconditionFailed(
                _told(step, error),
                "what cannot be looked at is not touched",
                "mend that, then: fab resume",
            ) from error
        if undo is None:
            return _outcome(step_id, "already", start, {})
        self._journal.append("intent", step_id, undo)
        try:
            result = action.act(ctx, args, undo)
            action.prove(ctx, args, undo)
        except (RescueError, OSError) as error:
            failure = _failure(step, error)
            self._journal.append("failed", step_id, failure.to_plain())
            raise failure from error
        self._journal.append("done", step_id, result)
        return _outcome(step_id, "done", start, result)

    def _undo_data_unless_done(
        self, action: Action[Any], ctx: Context, args: Any
    ) -> Optional[dict[str, Any]]:
        """Look and check, with no effect on the host: the undo data, or None where it is done."""
        journal, earlier = self._journal, self._journal.undo_data(ctx.step)
        was_done = journal.is_done(ctx.step)
        if (was_done or earlier is not None) and action.is_done(ctx, args, earlier):
            if not was_done:
                journal.append("done", ctx.step, {"found": "the effect was already there"})
            return None
        action.check(ctx, args)
        return earlier if earlier is not None else action.prepare(ctx, args)

    def skip(self, step_id: str, reason: str) -> None:
        """Record that a step was put off for good, by the operator's word."""
        self._parts(step_id)
        self._journal.append("skipped", step_id, {"reason": reason})

    def undo(self, step_id: str) -> dict[str, Any]:
        """Take one step back; {"step", "outcome": "undone" or "nothing"}."""
        start = time.monotonic()
        step, action, args, ctx = self._parts(step_id)
        undo = self._journal.undo_data(step_id)
        if undo is None:
            return _outcome(step_id, "nothing", start, {})
        try:
            action.undo(ctx, args, undo)
        except (RescueError, OSError) as error:
            raise _failure(step, error) from error
        self._journal.append("undone", step_id)
        return _outcome(step_id, "undone", start, {})


def _context(host: Host, platform: Platform, plan: Plan, step: str, say: Say) -> Context:
    """The context of a step; steps done by hand share their places, so that one can follow another.

    Names of what they park and relocate hold the step's ID, which is the time of day then.
    """
    name = BY_HAND if plan.recipe == SINGLE_STEP else plan.short_id
    return Context(host, platform, name, step, say, plan.id)


def single_step_plan(host: Host, action: str, values: dict[str, Any]) -> Plan:
    """Give the plan that a lone verb stands for: one stage, one step, nothing promised."""
    spec = CATALOG[action]
    now = host.now()
    # Milliseconds: two verbs of one second must not share what they park or keep.
    number = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now))}.{int(now * 1000) % 1000:03d}"
    step = Step(number, host.hostname(), action, values, "by hand", spec.precondition, spec.undo)
    return Plan(
        format=FORMAT,
        recipe=SINGLE_STEP,
        summary=spec.title,
        created=host.now(),
        hosts={host.hostname(): ""},
        stages=(Stage(spec.title, (step,)),),
        promise=Promise(()),
    ).with_id()


def vet(plan: Plan) -> None:
    """Raise UsageError where a step names an action or arguments that this agent does not know."""
    for step in plan.steps():
        action = _action_named(step.action)
        from_plain(action.args_type, step.args, f"step {step.id} ({step.action})")


def preview(host: Host, plan: Plan, say: Say) -> None:
    """Check every step's precondition as it is now; no effects, no journal."""
    platform = detect(host)
    for step in plan.steps():
        action = _action_named(step.action)
        args = from_plain(action.args_type, step.args, f"step {step.id} ({step.action})")
        action.check(_context(host, platform, plan, step.id, say), args)


def _failure(step: Step, error: Union[RescueError, OSError]) -> RescueError:
    if isinstance(error, RescueError):
        return error
    return StepFailed(
        _told(step, error),
        "the operating system refused it; what was done so far is in the journal",
        "mend that, then: fab resume   (or: fab rollback)",
    )


def _told(step: Step, error: OSError) -> str:
    place = f": {error.filename}" if error.filename else ""
    return f"step {step.id} ({step.action}): {error.strerror or error}{place}"


def _outcome(step: str, outcome: str, start: float, result: dict[str, Any]) -> dict[str, Any]:
    seconds = round(time.monotonic() - start, 3)
    return {"step": step, "outcome": outcome, "seconds": seconds, "result": result}


def _action_named(name: str) -> Action[Any]:
    """Load the actions when a step first asks for one: a survey needs none."""
    from agent.actions.registry import action_named

    return action_named(name)
