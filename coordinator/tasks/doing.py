"""Carrying a plan out: shown, confirmed, run, verified, reported."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from agent.errors import Paused, RescueError, Unsigned
from agent.model.plan import Plan
from agent.model.signed import Signed
from agent.recipes.invariants import require_sound
from coordinator import report
from coordinator.console import Progress, confirm
from coordinator.fleet import Fleet
from coordinator.sequencer import Sequencer
from coordinator.signing import to_be_signed
from coordinator.tasks.common import Looked, Options
from coordinator.tasks.open_plans import settle, without_left_behind
from coordinator.verify import verify


def carry_out(
    looked: Looked,
    plan: Plan,
    options: Options,
    signed: Signed | None = None,
    file: Path | None = None,
    to_end: Callable[[Fleet, Sequencer, Plan, Progress, Options], None] | None = None,
) -> None:
    """Show, confirm, run and verify a plan. Raises what stops it.

    to_end: runs and verifies it (default: run_to_end).

    One that must be signed and is not is written to a file, unless it came from `file`: Unsigned
    says how to go on.
    """
    require_sound(plan, without_left_behind(looked, options.lost).cluster)
    if options.dry_run:
        report.emit(plan, options.output, report.plan_table)
        return
    if options.output == "table" and not options.yes:
        report.plan_table(plan)
    if looked.policy.required and signed is None:
        raise to_be_signed(plan, f"signed plans only: {looked.policy.source}", file)
    confirm(plan, options.yes)
    settle(looked)
    sequencer = Sequencer(
        looked.fleet, plan, looked.progress, signed, looked.policy, unattended=options.unattended
    )
    try:
        sequencer.begin()
    except Unsigned as error:
        if signed is None:
            raise to_be_signed(plan, f"{error.seen}; {error.why}", file) from None
        raise
    (to_end or run_to_end)(looked.fleet, sequencer, plan, looked.progress, options)


def _so_far(plan: Plan, sequencer: Sequencer) -> str:
    """What of a plan is done, for whoever is to mend what it waits for."""
    done = [step for step in plan.steps() if step.id in sequencer.report.done]
    if not done:
        return "nothing is done yet"
    last = done[-1].action.replace("_", " ")
    return (
        f"{len(done)} of {len(plan.steps())} steps are done, the last was {last}; "
        "none of them is repeated"
    )


def run_to_end(
    fleet: Fleet, sequencer: Sequencer, plan: Plan, progress: Progress, options: Options
) -> None:
    """Run what is left of a plan that was begun, and verify it. Raises what stops it."""
    try:
        done = sequencer.run()
    except RescueError as error:
        is_closed = False
        with suppress(RescueError):  # a host that is gone now: the plan stays open
            is_closed = sequencer.give_up()
        if is_closed:
            progress.say("nothing was changed; the plan is closed")
        else:
            sequencer.leave()
            error.next = error.next or f"fab resume {plan.short_id}"
            if isinstance(error, Paused):
                error.why = "\n      ".join(filter(None, (error.why, _so_far(plan, sequencer))))
        raise
    try:
        outcome = verify(fleet, plan, done, progress)
        report.emit(outcome, options.output, report.outcome_table)
        sequencer.finish()
    except RescueError:
        sequencer.leave()
        raise
