"""Tasks that bring members and quorum back: plan, rescue-node, rescue-quorum, remove-member."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from agent.diagnosis.cluster import diagnose_host
from agent.errors import Refused
from agent.recipes import replace_member
from agent.recipes.invariants import require_sound
from agent.recipes.openshift311 import is_openshift311, names_of
from coordinator import report
from coordinator.signing import save_plan
from coordinator.tasks.choosing import choose_plan, make_plan, why_not
from coordinator.tasks.common import Options, looking, refused
from coordinator.tasks.doing import carry_out
from coordinator.tasks.open_plans import refuse_open_plans, without_left_behind
from coordinator.tasks.retire_master import carry_out_with, edit_of


def plan(options: Options, host: str = "", save: str = "") -> None:
    """Show the plan that a rescue would carry out, and change nothing; `save` it to a file."""
    with looking(options, host) as looked:
        plan = choose_plan(looked, options, host)
        if plan is None:
            looked.progress.say(f"nothing to do: {looked.diagnosis.why}")
            return
        require_sound(plan, looked.cluster)
        if save:
            save_plan(plan, Path(save))
            looked.progress.say(f"plan {plan.short_id} written to {save}: fab apply {save}")
        report.emit(plan, options.output, report.plan_table)


def rescue_node(options: Options, host: str) -> None:
    """Bring one node's etcd member back to health by whatever way is right, or refuse."""
    with looking(options, host) as looked:
        plan = choose_plan(looked, options, host)
        if plan is None:
            looked.progress.say(f"nothing to do on {host}: {looked.diagnosis.why}")
            return
        carry_out(looked, plan, options)


def rescue_quorum(options: Options) -> None:
    """Bring a cluster without quorum back from its best survivor, and rejoin the others."""
    with looking(options) as looked:
        refuse_open_plans(looked)
        seen = without_left_behind(looked, options.lost)
        diagnosis = seen.diagnosis
        if diagnosis.recipe not in ("reseed", "restart-member") or diagnosis.serving:
            raise refused(why_not(diagnosis, "reseed"))
        plan = make_plan(seen, options, diagnosis.recipe, diagnosis.target)
        carry_out(looked, plan, options)


def remove_member(options: Options, name: str, inventory: str = "") -> None:
    """Remove a member whose host is gone for good; the cluster stays smaller.

    inventory: an Ansible inventory of OpenShift 3.11's installer, whose [etcd] loses the host.
    """
    declared = replace(options, lost=(*options.lost, name))
    with looking(options) as looked:
        refuse_open_plans(looked)
        seen = without_left_behind(looked, options.lost)
        recipe, target, refusal = diagnose_host(seen.diagnosis, name, declared.lost)
        if refusal is not None:
            raise refused(refusal)
        if recipe != "remove-member":
            raise Refused(
                f"{name}: {recipe or 'nothing'} is what fits",
                "only a member whose host is gone for good is removed without a replacement",
                f"fab rescue-node {name}",
            )
        plan = replace_member.remove_member(seen.cluster, target, time.time())
        path = inventory or looked.inventory.ansible
        proposal = None
        if path or is_openshift311(seen.cluster):
            names = names_of(seen.cluster, target)
            proposal = edit_of(path, names, ("etcd",), looked.progress, target)
        carry_out_with(looked, plan, options, proposal)
