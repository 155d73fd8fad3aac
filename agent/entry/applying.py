"""`rescue-agent apply` and `resume`: this host's part of a plan, as far as the proofs reach."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from agent.entry import planning, proofs, screen, verbs
from agent.entry.console_check import require_kept
from agent.entry.visit import Asked, Visit, take, through_hangups
from agent.errors import Paused, PreconditionFailed, Refused, RescueError, UsageError
from agent.host import Host
from agent.model.plan import Step
from agent.recipes.parts import given_up


def apply(host: Host, asked: Asked) -> None:
    """Do this host's part of a plan, and say where it goes on.

    Raises Paused where it is another host's turn, PreconditionFailed where nothing can be done here
    before another host's step is proved, and what the steps raise.
    """
    visit = Visit(host, asked)
    if _is_finished(visit):
        return
    if asked.is_resume and visit.proofs.own is None:
        raise UsageError(
            f"plan {visit.plan.short_id} was not begun on {visit.name}",
            "there is nothing to resume",
            visit.command(),
        )
    _require_not_taken_back(visit)
    proofs.require_known(visit.plan, asked.drop)
    proofs.require_put_off(visit.proofs, asked.put_off)
    steps = [*_first(visit), *visit.part().steps]
    is_new = visit.proofs.own is None or visit.proofs.own.state != "open"
    if not steps and visit.left() is not None:
        raise _not_my_turn(visit)
    if not steps and visit.proofs.own is None:
        screen.show(f"plan {visit.plan.short_id} is done, and had nothing to do on {visit.name}")
        _tell_of_open(visit)
        return
    if is_new:
        _require_fitting(visit)
    words = ":" if steps else ": all is done; a last look, and it is closed here"
    screen.show(f"Plan {visit.plan.short_id}, {visit.plan.recipe}, on {visit.name}{words}")
    screen.show_steps(steps)
    if asked.dry_run:
        return
    _ask(visit, steps, is_new)
    _require_no_secret(visit, steps)
    visit.begin()
    with through_hangups():
        _carry_out(visit, steps)


def _first(visit: Visit) -> list[Step]:
    """What was begun here and is no part of what the proofs allow: it is finished all the same."""
    mine = {step.id for step in visit.part().steps}
    left = visit.unfinished()
    return [] if all(step.id in mine for step in left) else left


def _is_finished(visit: Visit) -> bool:
    own = visit.proofs.own
    if own is None or own.state != "complete":
        return False
    visit.write()
    screen.show(f"plan {visit.plan.short_id} is complete on {visit.name}; nothing to do")
    _tell_of_open(visit)
    return True


def _tell_of_open(visit: Visit) -> None:
    """Say which hosts still hold the plan, and where else to go."""
    closed = {visit.name, *visit.proofs.closed()}
    open_on = [name for name in visit.proofs.hosts() if name not in closed]
    if open_on:
        screen.show(f"open still on {', '.join(open_on)}, where it holds the lock")
        screen.show_next(visit.on(open_on[0]))
    else:
        screen.show("once an operator's machine is there: fab import DIRECTORY; fab diagnose")


def _require_not_taken_back(visit: Visit) -> None:
    other = visit.proofs.rolled_back()
    if not other:
        return
    is_open = visit.proofs.own is not None and visit.proofs.own.state == "open"
    raise Refused(
        f"plan {visit.plan.short_id} was taken back on {other}",
        "what is left of it here stands on what is no more so there",
        visit.command("rollback") if is_open else "rescue-agent plan   (makes a new one)",
    )


def _not_my_turn(visit: Visit) -> RescueError:
    """Why nothing is done here now: a step elsewhere is not proved, or all is done here."""
    part = visit.part()
    stop, coming = part.stop, part.next
    visit.write()
    if stop is None and coming is not None:
        return Paused(
            f"{visit.name} has done its part of plan {visit.plan.short_id}",
            f"the next step is {coming.id} ({coming.action.replace('_', ' ')}) on {coming.host}",
            visit.on(coming.host),
        )
    if stop is None:  # part_of: what is left here and cannot be done here has a reason
        raise RescueError(f"internal: plan {visit.plan.short_id} has nothing next on {visit.name}")
    known = stop.host in visit.proofs.seen
    how = "not done, by what was carried here" if known else "nothing was carried here from it"
    where = coming.host if coming else stop.host
    return PreconditionFailed(
        f"step {stop.id} ({stop.action.replace('_', ' ')}) on {stop.host}: {how}",
        f"what is next on {visit.name} stands on it",
        visit.on(where),
    )


def _require_fitting(visit: Visit) -> None:
    seen = planning.observe(visit.host, take(visit.host), visit.stick)
    for text in planning.say_age(visit.host, visit.stick):
        screen.note(text)
    named = proofs.as_named(visit.plan, seen)
    begun = bool(visit.proofs.begun_elsewhere())
    try:
        planning.require_fitting(visit.plan, named, begun, visit.proofs.is_turned())
    except Refused as error:
        error.next = error.next.replace("fab plan --save FILE makes", "rescue-agent plan makes")
        raise


def _ask(visit: Visit, steps: Sequence[Step], is_new: bool) -> None:
    if visit.asked.is_resume or not (steps and is_new):
        return
    turn = " PAST THE POINT OF NO RETURN" if any(step.final for step in steps) else ""
    screen.confirm(f"Do these {len(steps)} steps on {visit.name}{turn}?", visit.asked.yes)


def _require_no_secret(visit: Visit, steps: Sequence[Step]) -> None:
    step = next((s for s in steps if s.action in planning.LENT), None)
    if step is not None:
        raise Refused(
            f"step {step.id} brings the CA of etcd from {step.args.get('source', 'another host')}",
            "its key is a secret, which no stick carries",
            f"on an {screen.OPERATORS}: fab resume {visit.plan.short_id}",
        )


def _carry_out(visit: Visit, steps: Sequence[Step]) -> None:
    """Run the steps, write the stick whatever came of them, and say where it goes on."""
    try:
        visit.run(steps)
        _skip_given_up(visit)
        if visit.left() is None and not visit.asked.put_off:
            _finish(visit)
    except RescueError as error:
        _after_failure(visit, error)
        raise
    finally:
        _lower_guard(visit.host)
    visit.write()
    coming = visit.left()
    if coming is not None:
        raise _turn_of(visit, coming, steps)
    if visit.asked.put_off:
        raise Paused(
            f"all of plan {visit.plan.short_id} is done but for {', '.join(visit.asked.put_off)}",
            "what was put off is still to be done",
            f"when they are there, the same without --put-off: rescue-agent apply "
            f"{visit.plan.short_id} --stick {visit.stick.directory or 'DIRECTORY'}",
        )
    _tell_of_open(visit)


def _skip_given_up(visit: Visit) -> None:
    """Put off for good, by the operator's word, what is here and goes with a host given up."""
    done = visit.proofs.done()
    gone = given_up(visit.plan, visit.asked.drop)
    for step in visit.plan.steps():
        if step.id in gone - done and step.host == visit.name:
            visit.order(verbs.skip, step=step.id, reason="given up by the operator")
    visit.look_again()


def _finish(visit: Visit) -> None:
    said = require_kept(visit.host, visit.plan, visit.name, visit.asked.drop)
    visit.order(verbs.end, kind="complete")
    visit.look_again()
    screen.show(f"plan {visit.plan.short_id} is complete on {visit.name}: {said}")


def _turn_of(visit: Visit, coming: Step, steps: Sequence[Step]) -> Paused:
    done = f"done on {visit.name}: {' '.join(s.id for s in steps)}" if steps else "nothing new here"
    return Paused(
        done,
        f"the next step is {coming.id} ({coming.action.replace('_', ' ')}) on {coming.host}",
        visit.on(coming.host),
    )


def _after_failure(visit: Visit, error: RescueError) -> None:
    """Close what only looked, write the stick, and say how to go on."""
    visit.look_again()
    is_alone = not any(history.state == "open" for history in visit.proofs.others.values())
    own = visit.proofs.own
    is_untouched = own is not None and own.state == "open" and not own.touched_steps()
    if is_alone and is_untouched:
        visit.order(verbs.end, kind="rolled-back")
        screen.note("nothing was changed anywhere; the plan is closed")
    else:
        error.next = screen.console_words(error.next) or visit.command("resume")
    try:
        visit.write()
    except (RescueError, OSError) as second:
        screen.note(f"the stick could not be written: {getattr(second, 'seen', second)}")


def _lower_guard(host: Host) -> None:
    """Take the guard of the peer port along; a visit that raised none has not even loaded it."""
    guard = sys.modules.get("agent.actions.guard")
    if guard is not None and guard.is_up():
        guard.lower(host)
