"""The rules of OpenShift's machines: what goes must be dead, what comes must be new."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agent.model.facts.openshift4 import REPLACES
from agent.model.plan import Step
from agent.recipes.rules.looks import names
from agent.recipes.world import Scene, World, text_of

Broken = Iterator[str]
_OF_THE_SERVER = frozenset(
    {"uid", "resourceVersion", "creationTimestamp", "generation", "selfLink", "managedFields",
     "ownerReferences", "finalizers"}
)  # fmt: skip


def check_api(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """A refusal is to come before anything is changed."""
    if w.disturbed or w.removed:
        yield "asks what it may do after something was done already"
    w.api.add("checked")


def delete_machine(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """One machine, whose member is out, with a backup taken and the API asked before."""
    node = text_of(step, "node")
    yield from _through(w, step)
    if not text_of(step, "uid") or not text_of(step, "name"):
        yield "deletes a machine that is not named by name and UID"
    if not node or node in {scene.cluster.name(h) for h in w.voters | w.learners}:
        yield f"deletes the machine of {node or 'nobody'}, which is a member"
    if not _before(scene, step, "take_backup_set"):
        yield "deletes a machine before a backup was taken"
    if any(told.startswith("deleted ") for told in w.api):
        yield "deletes a second machine"
    w.api.add(f"deleted {text_of(step, 'uid')}")


def apply_machine(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """In the place of the one that was deleted, and with nothing of the server's in it."""
    yield from _through(w, step)
    replaces, machine = text_of(step, "replaces"), step.args.get("machine")
    if f"deleted {replaces}" not in w.api:
        yield "makes a machine in the place of one that was not deleted"
    yield from _new(machine if isinstance(machine, dict) else {}, replaces)
    w.api.add("made")


def _new(machine: dict[str, Any], replaces: str) -> Broken:
    meta, spec = machine.get("metadata"), machine.get("spec")
    if machine.get("kind") != "Machine" or not isinstance(meta, dict) or not isinstance(spec, dict):
        yield "makes something that is no machine"
        return
    stale = sorted(_OF_THE_SERVER & set(meta)) + [k for k in ("providerID",) if k in spec]
    stale += ["status"] if "status" in machine else []
    if stale:
        yield f"makes a machine that says what only the server may: {', '.join(stale)}"
    if (meta.get("annotations") or {}).get(REPLACES) != replaces or not replaces:
        yield "makes a machine that does not say whom it replaces"


def wait_machine(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Of a machine that was made, or that a set makes for the one that was deleted."""
    if text_of(step, "name") and "made" not in w.api:
        yield "waits for a machine that nobody made"
    if not text_of(step, "name") and not any(told.startswith("deleted ") for told in w.api):
        yield "waits for a set to make a machine, with none deleted"
    yield from ()


def wait_control_plane(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """For as many nodes as there were voters."""
    count = step.args.get("count")
    if not isinstance(count, int) or count < 1:
        yield f"waits for {count!r} nodes"
    yield from ()


def _through(w: World, step: Step) -> Broken:
    if step.host not in w.serving:
        yield f"changes machines through {step.host}, whose etcd does not serve"
    if "checked" not in w.api:
        yield "changes machines before the API was asked whether it lets us"
    if w.unproved:
        yield f"changes machines before {names(w.unproved)} was seen to serve"


def _before(scene: Scene, step: Step, action: str) -> bool:
    steps = scene.plan.steps()
    return any(s.action == action for s in steps[: steps.index(step)]) if step in steps else False


MACHINE_RULES = (check_api, delete_machine, apply_machine, wait_machine, wait_control_plane)
