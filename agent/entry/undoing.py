"""`rescue-agent rollback` of a plan of several hosts: this host's part of it.

What a step of another host stands on is taken back only once that one is.
"""

from __future__ import annotations

from typing import Optional

from agent.entry import screen, verbs
from agent.entry.visit import Asked, Visit, through_hangups
from agent.errors import Refused, RescueError
from agent.host import Host
from agent.model.catalog import CATALOG
from agent.model.plan import Step
from agent.recipes.parts import before


def rollback(host: Host, asked: Asked) -> None:
    """Take back, the last first, what a plan did on this host, and close it here.

    Raises Refused past the point of no return, and where a step of another host may stand on one
    of this host: what is done there is taken back first, and a stick must prove that it was.
    """
    visit = Visit(host, asked)
    own = visit.proofs.own
    if own is None or own.state == "rolled-back":
        screen.show(f"plan {visit.plan.short_id} has nothing to take back on {visit.name}")
        visit.write()
        _tell_where_else(visit)
        return
    _require_not_turned(visit)
    mine = _mine(visit)
    if not asked.alone:
        _require_nothing_stands_on(visit, mine)
    visit.begin()
    try:
        with through_hangups():
            for step in reversed(mine):
                outcome = visit.order(verbs.undo, step=step.id)
                screen.told(step, outcome["outcome"], outcome["seconds"], {})
            visit.order(verbs.end, kind="rolled-back")
    except RescueError as error:
        error.next = screen.console_words(error.next) or visit.command("rollback")
        raise
    visit.look_again()
    visit.write()
    screen.show(f"plan {visit.plan.short_id} is taken back on {visit.name}")
    _tell_where_else(visit)


def _mine(visit: Visit) -> list[Step]:
    """Steps of this host that were begun or done, in the order in which they were."""
    own = visit.proofs.own
    ids = [*own.done_steps(), *own.begun_steps()] if own else []
    found = [visit.plan.step(step_id) for step_id in ids]
    return [step for step in found if step is not None]


def _require_not_turned(visit: Visit) -> None:
    if not visit.proofs.is_turned():
        return
    final = next(step for step in visit.plan.steps() if step.final)
    raise Refused(
        f"plan {visit.plan.short_id} is past its point of no return, step {final.id} "
        f"({final.action.replace('_', ' ')}) on {final.host}",
        "what came after it can only be finished, not taken back",
        visit.command("resume"),
    )


def _require_nothing_stands_on(visit: Visit, mine: list[Step]) -> None:
    """Every host with a step that needs one of these must be proved not to have begun it."""
    undone = {step.id for step in mine if CATALOG[step.action].effects}
    for name in reversed([n for n in visit.proofs.hosts() if n != visit.name]):
        needing = [s for s in visit.plan.steps() if s.host == name and _needs(visit, s, undone)]
        if not needing:
            continue
        if name not in visit.proofs.seen:
            raise _unknown(visit, needing[0])
        touched = set(visit.proofs.touched(name))
        begun: Optional[Step] = next((s for s in reversed(needing) if s.id in touched), None)
        if begun is not None:
            raise Refused(
                f"step {begun.id} ({begun.action.replace('_', ' ')}) on {name} was begun, and "
                "stands on what would be taken back here",
                "a plan is taken back from its end, on all hosts",
                visit.on(name, "rollback"),
            )


def _needs(visit: Visit, step: Step, undone: set[str]) -> bool:
    if not CATALOG[step.action].effects:
        return False
    return any(earlier.id in undone for earlier in before(visit.plan, step.id))


def _unknown(visit: Visit, step: Step) -> Refused:
    return Refused(
        f"nothing was carried here from {step.host}, whose step {step.id} "
        f"({step.action.replace('_', ' ')}) stands on what would be taken back",
        "if that is done, taking this back could leave two clusters, or none",
        f"on {step.host}: rescue-agent export DIRECTORY; bring it here, and type:\n"
        f"{visit.command('rollback')}\n(--alone: you know that it did nothing)",
    )


def _tell_where_else(visit: Visit) -> None:
    """Say where the plan is open still, as far as it is known."""
    for name in reversed(visit.proofs.hosts()):
        history = visit.proofs.others.get(name)
        if history is not None and history.state == "open":
            screen.show_next(visit.on(name, "rollback"))
            return
    screen.show_next("rescue-agent diagnose")
