"""Which steps of a plan are to be done next: of a stage, and by one host alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Optional

from agent.model.catalog import CATALOG
from agent.model.plan import Plan, Stage, Step


def left_in(stage: Stage, done: Collection[str]) -> list[Step]:
    """The steps not yet done; a look is repeated where anything is left to do after it."""
    missing = [step.id not in done for step in stage.steps]
    acts = [CATALOG[step.action].effects for step in stage.steps]
    last = max((i for i, is_missing in enumerate(missing) if is_missing and acts[i]), default=-1)
    return [step for i, step in enumerate(stage.steps) if missing[i] or (i < last and not acts[i])]


@dataclass(frozen=True)
class Part:
    """What one host may do by itself now.

    steps: in their order, each of them allowed once those before it are done. stop: the step of
    another host that must be proved done before this one goes on; None where nothing is left here.
    next: the step that is the plan's next one after these, on whatever host; None at its end.
    """

    steps: tuple[Step, ...]
    stop: Optional[Step] = None
    next: Optional[Step] = None


def part_of(plan: Plan, host: str, done: Collection[str], put_off: Collection[str] = ()) -> Part:
    """The part of a plan that `host` can do alone, given what is proved done on all hosts.

    put_off: hosts whose stages come later, by the operator's word; a stage that waits for one of
    them is neither done nor waited for. A step needs every step before it, but for those of other
    hosts in the same parallel stage.
    """
    mine: list[Step] = []
    stop: Optional[Step] = None
    for stage in plan.stages:
        if set(stage.waits_for) & set(put_off):
            continue
        if stop is None:
            taken, stop = _of_stage(stage, host, done)
            mine += taken
    later = {*done, *(step.id for step in mine)}
    left = [step for step in _due(plan, put_off) if step.id not in later]
    has_more = any(step.host == host for step in left)
    return Part(tuple(mine), stop if has_more else None, left[0] if left else None)


def _of_stage(stage: Stage, host: str, done: Collection[str]) -> tuple[list[Step], Optional[Step]]:
    """(what this host can do of a stage now, the step of another host that is in the way)."""
    left = {step.id for step in left_in(stage, done)}
    mine: list[Step] = []
    stop: Optional[Step] = None
    for step in stage.steps:
        if step.host == host:
            mine += [step] if step.id in left else []
        elif step.id not in done:
            stop = stop or step
            if not stage.parallel:
                break
        elif not stage.parallel:
            mine = [s for s in mine if s.id not in done]  # looks for what was done long since
    while mine and mine[-1].id in done:
        mine.pop()  # a look, repeated for what comes after it, and that is not yet to be done
    return mine, stop


def _due(plan: Plan, put_off: Collection[str]) -> list[Step]:
    return [s for g in plan.stages if not set(g.waits_for) & set(put_off) for s in g.steps]


def given_up(plan: Plan, hosts: Collection[str]) -> set[str]:
    """IDs of the steps that go with these hosts: their own, and all of what waits for them."""
    return {
        step.id
        for stage in plan.stages
        for step in stage.steps
        if step.host in hosts or set(stage.waits_for) & set(hosts)
    }


def before(plan: Plan, step_id: str) -> list[Step]:
    """Every step that a step stands on: all of earlier stages, and in its own what comes first."""
    found: list[Step] = []
    for stage in plan.stages:
        own = next((s for s in stage.steps if s.id == step_id), None)
        if own is None:
            found += stage.steps
            continue
        for step in stage.steps:
            if step.id == step_id:
                return found
            if not stage.parallel or step.host == own.host:
                found.append(step)
    return found


def name_in(plan: Plan, hostname: str, addresses: Collection[str]) -> str:
    """What a plan calls the host of this name and these addresses; empty for one it has not."""
    by_address = [n for n, address in plan.hosts.items() if address in addresses]
    if len(by_address) == 1:
        return by_address[0]
    if hostname in plan.hosts:
        return hostname
    short = hostname.partition(".")[0]
    by_name = [name for name in plan.hosts if name.partition(".")[0] == short]
    return by_name[0] if len(by_name) == 1 else ""


def to_finish(plan: Plan, host: str, begun: Collection[str]) -> list[Step]:
    """The steps that were begun on a host and came to no end, each after the looks it stands on.

    They were begun once what is before them was proved; a look has to be taken anew.
    """
    found: list[Step] = []
    for stage in plan.stages:
        looks: list[Step] = []
        for step in stage.steps:
            if step.host != host:
                looks = looks if stage.parallel else []
            elif step.id in begun:
                found += [*looks, step]
                looks = []
            elif not CATALOG[step.action].effects:
                looks.append(step)
    return found
