"""A plan that lies in a file, signed or not: `fab apply FILE`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from agent.diagnosis.cluster import diagnose_host
from agent.errors import Refused, UsageError
from agent.model.plan import Plan, plan_to_plain
from agent.model.signed import Signed
from agent.recipes.invariants import check_plan
from coordinator import report
from coordinator.sequencer import Sequencer
from coordinator.signing import load_plan
from coordinator.tasks.common import Looked, Options, looking
from coordinator.tasks.doing import carry_out, run_to_end
from coordinator.tasks.open_plans import (
    journal_states,
    refuse_open_plans,
    tell_of_holders,
    without_left_behind,
)

_DIAGNOSED = ("reseed", "restart-member", "replace-member", "remove-member")
"""What a diagnosis offers; other recipes are an operator's wish, and judged by their steps."""
_NEW_CLUSTER = "restore"
_AGAIN = "fab plan --save FILE makes one for the state of now"


def apply(options: Options, file: str) -> None:
    """Carry out the plan in a file, if it fits what the hosts are like now.

    One that is open on the hosts already is gone on with, one that is complete is not done twice.
    """
    plan, signed = load_plan(Path(file))
    with looking(_with_hosts(options, plan)) as looked:
        states = journal_states(looked, plan)
        if "open" in states:
            _go_on(looked, plan, signed, options)
            return
        if "complete" in states:
            looked.progress.say(f"plan {plan.short_id} was carried out before; nothing to do")
            return
        refuse_open_plans(looked)
        require_fitting(plan, without_left_behind(looked, plan.declared_lost))
        carry_out(looked, plan, options, signed, Path(file))


def _with_hosts(options: Options, plan: Plan) -> Options:
    """Take the plan's own hosts where nothing else names any, and its word on who is lost."""
    is_named = options.hosts or options.cluster or Path("cluster.yaml").is_file()
    hosts = options.hosts if is_named else tuple(plan.hosts)
    if not hosts and not is_named:
        raise UsageError(f"plan {plan.short_id} names no hosts", next="-H HOST")
    return replace(options, hosts=hosts, lost=tuple(plan.declared_lost))


def _go_on(looked: Looked, plan: Plan, signed: Signed | None, options: Options) -> None:
    looked.progress.say(f"plan {plan.short_id} was begun before: going on with it")
    looked.fleet.add(plan.hosts)
    if options.dry_run:
        report.emit(plan, options.output, report.plan_table)
        return
    tell_of_holders(looked, plan)
    sequencer = Sequencer(looked.fleet, plan, looked.progress, signed, looked.policy)
    sequencer.begin()
    run_to_end(looked.fleet, sequencer, plan, looked.progress, options)


def require_fitting(plan: Plan, looked: Looked) -> None:
    """Raise Refused where the world is no more what the plan was made for, or it is not safe."""
    some_host = next(o.host for o in looked.observations if o.survey)
    looked.fleet.call(some_host, "vet", {"plan": plan_to_plain(plan)})
    diagnosis, members = looked.diagnosis, {m.host for m in looked.diagnosis.members}
    unknown = sorted({*plan.hosts, *(s.host for s in plan.steps())} - {*looked.cluster.addresses})
    if unknown:
        raise _moved_on(plan, f"{', '.join(unknown)}: no such host here")
    if plan.promise.cluster_id != diagnosis.cluster_id and plan.recipe != _NEW_CLUSTER:
        ids = f"{plan.promise.cluster_id or 'none'}, and this one has {diagnosis.cluster_id}"
        raise _moved_on(plan, f"it is for the cluster with the ID {ids}")
    offered = {diagnosis.recipe} | {
        diagnose_host(diagnosis, host, plan.declared_lost)[0] for host in members
    }
    if plan.recipe in _DIAGNOSED and plan.recipe not in offered:
        fits = ", ".join(sorted(offered - {""})) or "nothing"
        raise _moved_on(plan, f"{plan.recipe} does not fit any more; what fits: {fits}")
    more = [loss for loss in diagnosis.losses if loss not in plan.losses]
    if plan.recipe == diagnosis.recipe and more:
        raise _moved_on(plan, f"nobody agreed to this: {more[0]}")
    broken = check_plan(plan, looked.cluster)
    if broken:
        raise _moved_on(plan, f"it is not safe as the hosts are now: {'; '.join(broken[:3])}")


def _moved_on(plan: Plan, seen: str) -> Refused:
    return Refused(
        f"plan {plan.short_id} does not fit: {seen}",
        "a plan is carried out only in the state that it was made for",
        _AGAIN,
    )
