"""Tasks for a plan that was begun and not finished: resume, rollback."""

from __future__ import annotations

from collections.abc import Sequence

from agent.errors import UsageError
from agent.model.holding import damaged_journal
from agent.model.plan import Plan, plan_from_plain
from coordinator import inventory_edit, report, tasks
from coordinator.console import confirm
from coordinator.sequencer import Sequencer
from coordinator.tasks import carried
from coordinator.tasks.common import Looked, Options, looking
from coordinator.tasks.doing import run_to_end
from coordinator.tasks.inventories import finish_inventories
from coordinator.tasks.open_plans import is_of_dcos, stored_signature, tell_of_holders


def resume(options: Options, plan_id: str = "", drop: Sequence[str] = ()) -> None:
    """Go on with an unfinished plan: the hosts are looked at again, then what is left is done."""
    if is_of_dcos(options, plan_id):
        tasks.dcos.resume(options, plan_id)
        return
    with looking(options) as looked:
        plan = _stored_plan(looked, plan_id)
        if plan is None and finish_inventories(looked):
            return
        if plan is None:
            looked.progress.say(f"no unfinished plan; cluster {looked.diagnosis.state.value}")
            return
        looked.fleet.add(plan.hosts)
        looked.progress.say(f"resuming plan {plan.short_id} ({plan.recipe})")
        if options.dry_run:
            report.emit(plan, options.output, report.plan_table)
            return
        sequencer = _sequencer(looked, plan)
        sequencer.begin(given_up=drop)
        for host in drop:
            sequencer.skip_host(host, "given up by the operator")
        run_to_end(looked.fleet, sequencer, plan, looked.progress, options)
        inventory_edit.carry_out(plan.id, looked.progress.say)


def rollback(options: Options, plan_id: str = "") -> None:
    """Take an unfinished plan back, up to the point of no return."""
    if is_of_dcos(options, plan_id):
        tasks.dcos.rollback(options, plan_id)
        return
    with looking(options) as looked:
        plan = _stored_plan(looked, plan_id)
        if plan is None:
            raise UsageError("no unfinished plan on these hosts", next="fab journal")
        looked.fleet.add(plan.hosts)
        confirm(plan, options.yes)
        sequencer = _sequencer(looked, plan)
        sequencer.begin()
        undone = sequencer.rollback()
        inventory_edit.drop(plan.id)
        looked.progress.say(f"plan {plan.short_id} rolled back: {len(undone)} steps undone")


def _sequencer(looked: Looked, plan: Plan) -> Sequencer:
    """Take a stored plan up, with the signature that some host's journal has of it."""
    tell_of_holders(looked, plan)
    return Sequencer(
        looked.fleet, plan, looked.progress, stored_signature(looked, plan), looked.policy,
        carried.proved(plan, looked),
    )  # fmt: skip


def _stored_plan(looked: Looked, plan_id: str) -> Plan | None:
    """Give the open plan of that ID, or the only open one; None where there is none."""
    found: dict[str, str] = {}
    for observation in looked.observations:
        for facts in observation.survey.journals if observation.survey else ():
            if facts.state == "damaged":
                raise damaged_journal(observation.host, facts)
            if facts.state == "open" and facts.plan.startswith(plan_id):
                found[facts.plan] = observation.host
    if not found:
        return None
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} unfinished plans: {', '.join(p[:12] for p in found)}",
            "which one is meant is not clear",
            "fab resume PLAN",
        )
    ((full_id, host),) = found.items()
    return plan_from_plain(looked.fleet.call(host, "plan", {"plan": full_id}))
