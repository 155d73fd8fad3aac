"""The rules of what is asked of OpenShift's etcd operator: what each step may be done in."""

from __future__ import annotations

from collections.abc import Iterator

from agent.model.plan import Step
from agent.recipes.rules.looks import names
from agent.recipes.world import Scene, World, text_of

Broken = Iterator[str]


def set_quorum_guard(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Off and then on again; what is off at the end of a plan stays off."""
    enabled = step.args.get("enabled")
    if not isinstance(enabled, bool):
        yield "sets the quorum guard to neither on nor off"
    if enabled and "guard off" not in w.api:
        yield "switches a quorum guard on that it has not switched off"
    w.api.discard("guard off")
    if enabled is False:
        w.api.add("guard off")


def delete_member_secrets(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Of a member that is out, through one that serves."""
    node = text_of(step, "node")
    members = {scene.cluster.name(host) for host in w.voters | w.learners}
    if not node:
        yield "deletes the secrets of nobody"
    if node in members:
        yield f"deletes the secrets of {node}, which is a member"
    if step.host not in w.serving:
        yield f"deletes secrets through {step.host}, whose etcd does not serve"


def force_redeployment(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """With a reason, and with all voters serving: they restart one after the other."""
    if not text_of(step, "reason"):
        yield "forces a redeployment without a reason of its own"
    silent = w.voters - w.serving
    if silent and not scene.reseeds:
        yield f"forces a redeployment while {names(silent)} does not serve"


def wait_etcd_rollout(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """A look: nothing that is known of the cluster changes."""
    nodes, members = step.args.get("nodes"), step.args.get("members", 0)
    if not nodes and not members:
        yield "waits for a roll-out to nobody"


API_RULES = (set_quorum_guard, delete_member_secrets, force_redeployment, wait_etcd_rollout)
