"""The machine under a control-plane node: deleted, made anew, followed until its node is ready."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from agent.actions.base import Action, Context, Data
from agent.actions.openshift4.api import asking, wait_or_pause
from agent.actions.openshift4.secrets import require_no_member
from agent.errors import Paused, PreconditionFailed, StepFailed
from agent.kube.client import Kube, Object
from agent.kube.objects import at, condition, ready_nodes, text_at
from agent.kube.paths import ETCDS as ETCD_OPERATORS
from agent.kube.paths import MACHINES, NODES, PODS, SECRETS, Resource
from agent.model.facts.openshift4 import REPLACES, ROLE

_NEEDS: dict[str, Resource] = {
    "secrets": SECRETS, "etcds": ETCD_OPERATORS, "machines": MACHINES, "nodes": NODES, "pods": PODS,
}  # fmt: skip


@dataclass(frozen=True)
class ApiArgs:
    """needs: "VERB RESOURCE" of everything that the plan will ask for."""

    needs: tuple[str, ...]


class CheckApi(Action[ApiArgs]):
    """Ask who we are to the API before anything is changed."""

    name = "check_api"
    args_type = ApiArgs

    def is_done(self, ctx: Context, args: ApiArgs, undo: Optional[Data]) -> bool:
        return False  # rights and answers change

    def act(self, ctx: Context, args: ApiArgs, undo: Data) -> Data:
        with asking(ctx, self.name) as kube:
            refused = [need for need in args.needs if not _may(kube, need)]
        if refused:
            raise PreconditionFailed(
                f"the API does not let us {', '.join(refused)}",
                "the plan would come to a stop in the middle",
                "give this kubeconfig's user the role cluster-admin, or use yours: --kubeconfig",
            )
        return {"may": list(args.needs)}


def _may(kube: Kube, need: str) -> bool:
    verb, _space, plural = need.partition(" ")
    if plural not in _NEEDS:
        raise PreconditionFailed(f"{need!r} is nothing that a plan asks of the API")
    return kube.can(verb, _NEEDS[plural])


@dataclass(frozen=True)
class DeleteArgs:
    """name, uid: of the machine. node: its node, which etcd must have let go; empty for none."""

    name: str
    uid: str
    node: str
    deadline: float = 900.0


class DeleteMachine(Action[DeleteArgs]):
    """Delete by name and UID, and wait until it is gone: its finalizer goes with its instance."""

    name = "delete_machine"
    args_type = DeleteArgs

    def check(self, ctx: Context, args: DeleteArgs) -> None:
        require_no_member(ctx, args.node)
        with asking(ctx, self.name) as kube:
            found = kube.get(MACHINES, args.name)
        if found is not None and text_at(found, "metadata", "uid") != args.uid:
            raise PreconditionFailed(
                f"machine {args.name} is another one than the plan was made for",
                "somebody has made it anew since",
                "fab rollback, then: fab diagnose",
            )

    def is_done(self, ctx: Context, args: DeleteArgs, undo: Optional[Data]) -> bool:
        with asking(ctx, self.name) as kube:
            return _this(kube, args) is None

    def act(self, ctx: Context, args: DeleteArgs, undo: Data) -> Data:
        with asking(ctx, self.name) as kube:
            found = _this(kube, args)
            if found is not None and not at(found, "metadata", "deletionTimestamp"):
                kube.delete(MACHINES, args.name, args.uid)

            def look() -> tuple[bool, str]:
                left = _this(kube, args)
                return left is None, "gone" if left is None else _held(left)

            why = "its controller holds it until the instance is gone and its hooks have let it go"
            wait_or_pause(ctx, f"machine {args.name} to be gone", look, args.deadline, why)
        return {"deleted": args.name}

    def prove(self, ctx: Context, args: DeleteArgs, undo: Data) -> None:
        if not self.is_done(ctx, args, undo):
            raise StepFailed(f"machine {args.name} is still there", next="fab resume")


def _this(kube: Kube, args: DeleteArgs) -> Optional[Object]:
    found = kube.get(MACHINES, args.name)
    return found if found is not None and text_at(found, "metadata", "uid") == args.uid else None


def _held(machine: Object) -> str:
    """What still holds a machine that is being deleted, in words."""
    hooks = at(machine, "spec", "lifecycleHooks") or {}
    names = [text_at(row, "name") for rows in hooks.values() for row in rows or ()]
    rows = at(machine, "status", "conditions") or ()
    told = [text_at(r, "message") for r in rows if text_at(r, "status") == "False"]
    held = [*(at(machine, "metadata", "finalizers") or ()), *(f"hook {name}" for name in names)]
    words = [text_at(machine, "status", "phase") or "no phase", f"held by {', '.join(held)}", *told]
    return "; ".join(filter(None, words))


@dataclass(frozen=True)
class ApplyArgs:
    """machine: the object to make. replaces: UID of the old machine, which must be gone."""

    machine: dict[str, Any]
    replaces: str


class ApplyMachine(Action[ApplyArgs]):
    """Make a machine that says whom it replaces: so a second run knows it for its own."""

    name = "apply_machine"
    args_type = ApplyArgs

    def check(self, ctx: Context, args: ApplyArgs) -> None:
        name = text_at(args.machine, "metadata", "name")
        with asking(ctx, self.name) as kube:
            listed = kube.list(MACHINES) or []
        if any(text_at(m, "metadata", "uid") == args.replaces for m in listed):
            raise PreconditionFailed(
                "the old machine is still there",
                "two machines would claim one place",
                "fab resume",
            )
        there = next((m for m in listed if text_at(m, "metadata", "name") == name), None)
        if there is not None and not _is_ours(there, args):
            raise PreconditionFailed(
                f"there is a machine {name} already, and it is not one that this plan made",
                "applying would change it instead of making a new one",
                "fab diagnose, then: fab replace-machine NODE   (it takes the next free name)",
            )

    def is_done(self, ctx: Context, args: ApplyArgs, undo: Optional[Data]) -> bool:
        name = text_at(args.machine, "metadata", "name")
        with asking(ctx, self.name) as kube:
            found = kube.get(MACHINES, name)
        return found is not None and _is_ours(found, args)

    def act(self, ctx: Context, args: ApplyArgs, undo: Data) -> Data:
        with asking(ctx, self.name) as kube:
            kube.apply(args.machine)
        return {"machine": text_at(args.machine, "metadata", "name")}

    def prove(self, ctx: Context, args: ApplyArgs, undo: Data) -> None:
        if not self.is_done(ctx, args, undo):
            raise StepFailed("the API took the machine, and does not have it", next="fab resume")


def _is_ours(machine: Object, args: ApplyArgs) -> bool:
    return text_at(machine, "metadata", "annotations", REPLACES) == args.replaces


@dataclass(frozen=True)
class MachineArgs:
    """name: of the machine; empty for any control-plane machine that is none of `known`."""

    name: str
    known: tuple[str, ...] = field(default=())
    deadline: float = 2700.0


class WaitMachine(Action[MachineArgs]):
    """Provisioning → Provisioned → Running, and then its node's own word that it is ready."""

    name = "wait_machine"
    args_type = MachineArgs

    def is_done(self, ctx: Context, args: MachineArgs, undo: Optional[Data]) -> bool:
        return False

    def act(self, ctx: Context, args: MachineArgs, undo: Data) -> Data:
        with asking(ctx, self.name) as kube:

            def look() -> tuple[bool, str]:
                machine = _wanted(kube, args)
                return _runs(kube, machine)

            what = f"machine {args.name or 'of the control plane machine set'} to be a ready node"
            why = "making an instance takes minutes; what its controller says: oc describe machine"
            wait_or_pause(ctx, what, look, args.deadline, why)
            machine = _wanted(kube, args)
        return {"machine": text_at(machine, "metadata", "name"),
                "node": text_at(machine, "status", "nodeRef", "name")}  # fmt: skip


def _wanted(kube: Kube, args: MachineArgs) -> Optional[Object]:
    if args.name:
        return kube.get(MACHINES, args.name)
    found = [
        m
        for m in kube.list(MACHINES, f"{ROLE}=master") or ()
        if text_at(m, "metadata", "name") not in args.known
    ]
    return found[0] if found else None


def _runs(kube: Kube, machine: Optional[Object]) -> tuple[bool, str]:
    """(whether it is a ready node, how far it is). Raises StepFailed where it never will be."""
    if machine is None:
        return False, "there is no such machine yet"
    name, phase = text_at(machine, "metadata", "name"), text_at(machine, "status", "phase")
    if phase == "Failed":
        told = text_at(machine, "status", "errorMessage") or text_at(
            machine, "status", "errorReason"
        )
        raise StepFailed(
            f"machine {name} has failed: {told or 'no reason is given'}",
            "its controller does not try again by itself",
            f"mend the cause, delete machine {name}, and make it anew by hand; then: fab resume",
        )
    node = text_at(machine, "status", "nodeRef", "name")
    if phase != "Running" or not node:
        return False, f"{name}: {phase or 'no phase yet'}"
    ready = condition(kube.get(NODES, node), "Ready")
    return ready == "True", f"{name}: {phase}, node {node} is {_readiness(ready)}"


def _readiness(ready: str) -> str:
    return {"True": "ready", "False": "not ready"}.get(ready, "not known to be ready")


@dataclass(frozen=True)
class ControlPlaneArgs:
    """count: nodes that must be ready. todo: what somebody has to do for it."""

    count: int
    todo: str
    deadline: float = 0.0


class WaitControlPlane(Action[ControlPlaneArgs]):
    """Where no machine API makes the node: say what is to be done, and go on once it is there."""

    name = "wait_control_plane"
    args_type = ControlPlaneArgs

    def is_done(self, ctx: Context, args: ControlPlaneArgs, undo: Optional[Data]) -> bool:
        return False

    def act(self, ctx: Context, args: ControlPlaneArgs, undo: Data) -> Data:
        with asking(ctx, self.name) as kube:

            def look() -> tuple[bool, str]:
                ready = ready_nodes(kube)
                return len(ready) >= args.count, f"{len(ready)} ready: {', '.join(ready)}"

            what = f"{args.count} control-plane nodes"
            try:
                seen = wait_or_pause(ctx, what, look, args.deadline, args.todo)
            except Paused as error:
                raise Paused(error.seen, args.todo, "when the node is ready: fab resume") from None
        return {"nodes": seen}
