"""The task retire-master: a master of OpenShift 3.11 leaves, and what others knew of it with it."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path

from agent.errors import Refused, UsageError
from agent.model.plan import Plan
from agent.recipes.openshift311 import is_openshift311, master_of, names_of
from agent.recipes.retire_master import Retiring
from agent.recipes.retire_master import retire_master as plan_retirement
from coordinator import inventory_edit
from coordinator.console import Progress
from coordinator.fleet import Fleet
from coordinator.hosts import HostSpec, split_address
from coordinator.inventories.ansible import read_groups
from coordinator.inventory_edit import Edit
from coordinator.sequencer import Sequencer
from coordinator.tasks.common import Looked, Options, looking
from coordinator.tasks.doing import carry_out, run_to_end
from coordinator.tasks.open_plans import refuse_open_plans, without_left_behind

BY_HAND = "none"
_GROUPS = ("masters", "nodes", "etcd")


def retire_master(
    options: Options, host: str, balancer: str, inventory: str, few: bool, keep_etcd: bool
) -> None:
    """Take a master out: load balancer, node, API and controllers, etcd, inventory."""
    with looking(options) as looked:
        refuse_open_plans(looked)
        seen = without_left_behind(looked, options.lost)
        if not is_openshift311(seen.cluster):
            raise Refused(
                "these hosts are not OpenShift 3.11's",
                "retire-master does what that version's documentation says of its masters",
                "fab survey",
            )
        path = inventory or looked.inventory.ansible
        spec = _balancer(looked, balancer, path)
        if spec is not None:
            looked.fleet.beside(spec)
        wish = Retiring(_where(looked, spec), few, keep_etcd)
        plan = plan_retirement(seen.cluster, host, time.time(), wish)
        name = next(s.host for s in plan.steps() if s.action == "park_master")
        if spec is None:
            _tell_by_hand(seen, name)
        groups = _GROUPS[:2] if keep_etcd else _GROUPS
        proposal = edit_of(path, names_of(seen.cluster, name), groups, looked.progress, name)
        carry_out_with(looked, plan, options, proposal)


Proposal = tuple[Edit, bytes, bytes]


def edit_of(
    path: str, names: Collection[str], groups: Collection[str], progress: Progress, host: str
) -> Proposal | None:
    """What is to be done to the operator's inventory; None, and said so, where nothing is."""
    if not path:
        progress.say(
            f"no Ansible inventory was given (--inventory): take {host} out of "
            f"{', '.join(f'[{g}]' for g in groups)} of yours before the next playbook"
        )
        return None
    found = inventory_edit.propose(Path(path).expanduser(), names, groups)
    if found is None:
        progress.say(f"{path}: {host} is in none of {', '.join(groups)}; it stays as it is")
        return None
    lines = ", ".join(map(str, found[0].lines))
    progress.say(f"{path}: {found[0].host} leaves by line {lines}, after the last step")
    return found


def carry_out_with(looked: Looked, plan: Plan, options: Options, proposal: Proposal | None) -> None:
    """Carry a plan out; an edit is written down before its first step, and done after its last."""

    def to_end(
        fleet: Fleet, sequencer: Sequencer, plan: Plan, progress: Progress, options: Options
    ) -> None:
        if proposal is not None:
            inventory_edit.write_down(plan.id, *proposal)
        run_to_end(fleet, sequencer, plan, progress, options)
        inventory_edit.carry_out(plan.id, progress.say)

    carry_out(looked, plan, options, to_end=to_end)


def _balancer(looked: Looked, said: str, inventory: str) -> HostSpec | None:
    """The load balancer's host: as said, as cluster.yaml says, the inventory's [lb]; None: by hand.

    Raises Refused where nothing says it.
    """
    if said == BY_HAND:
        return None
    if said:
        user, name, port = split_address(said)
        known = looked.fleet.specs.get(name) or looked.inventory.balancer
        if known is not None and known.name == name:
            return known
        return HostSpec(name, user=user or _model(looked).user, port=port or _model(looked).port,
                        jump=_model(looked).jump)  # fmt: skip
    if looked.inventory.balancer is not None:
        return looked.inventory.balancer
    found = read_groups(Path(inventory).expanduser()).hosts_of("lb") if inventory else ()
    if len(found) == 1:
        return _balancer(looked, found[0], "")
    raise Refused(
        "which host is the load balancer is not known",
        "clients would be sent to an API that is stopped",
        "--lb HOST (haproxy), or --lb none once you have taken the master off it by hand",
    )


def _model(looked: Looked) -> HostSpec:
    return next(iter(looked.fleet.specs.values()))


def _where(looked: Looked, spec: HostSpec | None) -> tuple[str, str] | None:
    if spec is None:
        return None
    address = looked.fleet.address(spec.name)
    if not address:
        raise UsageError(f"--lb {spec.name}: no address is known")
    return spec.name, address


def _tell_by_hand(looked: Looked, host: str) -> None:
    """Say what is to be done on a load balancer that is no haproxy."""
    ports = [c.port for c in master_of(looked.cluster, host).components if c.name == "api"]
    survey = looked.cluster.survey(host)
    addresses = ", ".join(survey.addresses) if survey else host
    port = ports[0] if ports else 8443
    looked.progress.say(
        f"load balancer by hand: {host} ({addresses}) must be out of every pool of port {port} "
        "before you confirm; new connections must not be sent there any more"
    )
