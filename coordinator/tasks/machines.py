"""Tasks of machines: replace-machine, for a control-plane machine of OpenShift that is gone."""

from __future__ import annotations

import time

from agent.model.codec import from_plain
from agent.model.facts.openshift4 import ApiFacts
from agent.recipes.openshift4_machine import (
    Place,
    find_place,
    made_from,
    replace_machine,
    secrets_of,
)
from agent.recipes.openshift4_new_machine import difference, mentions
from agent.recipes.replace_member import acting_host
from coordinator.console import Progress
from coordinator.tasks.choosing import refuse_open_plans
from coordinator.tasks.common import Looked, Options, looking
from coordinator.tasks.doing import carry_out
from coordinator.tasks.open_plans import without_left_behind

_LOOK_SECONDS = 300.0


def replace_node_machine(options: Options, name: str) -> None:
    """Replace the machine under a control-plane node, and bring etcd to the new one."""
    with looking(options) as looked:
        refuse_open_plans(looked)
        seen = without_left_behind(looked, options.lost)
        api = look_at_api(looked, name)
        place = find_place(seen.cluster, api, name)
        plan = replace_machine(seen.cluster, api, place, time.time())
        show(api, place, looked.progress)
        carry_out(looked, plan, options)


def look_at_api(looked: Looked, name: str) -> ApiFacts:
    """What the API says, asked through a host whose etcd serves. Raises what the host says."""
    found = looked.diagnosis.member(name)
    acting = acting_host(looked.cluster, but=found.host if found else "")
    given = {"kubeconfig": looked.fleet.kubeconfig}
    plain = looked.fleet.call(acting, "look_at_machines", given, _LOOK_SECONDS, looked.progress.say)
    return from_plain(ApiFacts, plain, f"machines as {acting} sees them")


def show(api: ApiFacts, place: Place, progress: Progress) -> None:
    """Say which secrets go, and show the new machine against the old one, before anything is."""
    secrets = secrets_of(api, place.node)
    progress.say(f"secrets of {place.node}: {', '.join(secrets) or 'none'}")
    if place.machine is None or place.owner:
        return
    made = made_from(api, place.machine)
    progress.say(f"machine {place.machine.name} → {made['metadata']['name']}:")
    for line in difference(place.machine.object, made):
        progress.say(f"  {line}")
    for where in mentions(made, place.machine.name):
        progress.say(f"  look at {where}: it still says {place.machine.name}")
