"""A plan that lies in a file, signed or not: `fab apply FILE`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from agent.errors import UsageError
from agent.model.plan import Plan, plan_to_plain
from agent.model.signed import Signed
from agent.recipes.fitting import require_fit
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
    require_fit(plan, looked.cluster)
