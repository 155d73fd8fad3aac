"""The etcd operator's roll-outs: one is forced, and waited for until it is seen everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from agent.actions.base import Action, Context, Data, wait_for
from agent.actions.definitions import current_config
from agent.actions.members import _serving, local_client
from agent.actions.openshift4.api import CLUSTER, INTERVAL, asking, wait_or_pause
from agent.actions.openshift4.guard import read_etcd
from agent.errors import PreconditionFailed, RescueError, StepFailed, Timeout
from agent.kube.client import Kube, Object
from agent.kube.objects import at, ready_pods, text_at
from agent.kube.paths import CONFIG_MAPS, ETCDS

_PATIENCE = 60.0
"""Seconds for which a member may be away before a redeployment is put off."""


@dataclass(frozen=True)
class RedeploymentArgs:
    """reason: one that was never used. unless_pods: where this many etcd pods come to be listed
    within `patience` seconds, nothing is forced; 0: it always is.
    """  # noqa: D205

    reason: str
    unless_pods: int = 0
    patience: float = 120.0


@dataclass(frozen=True)
class RolloutArgs:
    """reason: of the forced redeployment; empty for none. nodes: whose pods must run.

    members: voters that etcd must list, each of which serves; 0: not looked at.
    """

    reason: str
    nodes: tuple[str, ...]
    deadline: float = 900.0
    members: int = 0


def _members(ctx: Context) -> tuple[int, int]:
    """(voters that etcd lists, those of them that serve); (0, 0) where it does not answer."""
    config = current_config(ctx)
    try:
        with local_client(ctx) as client:
            members = client.members(linearizable=True)
    except RescueError:
        return 0, 0
    return sum(not m.is_learner for m in members), len(_serving(ctx, config, members))


def _await_all_members(ctx: Context) -> None:
    """Wait until every voter serves: one may be on its way through an earlier roll-out."""

    def look() -> tuple[bool, str]:
        listed, serving = _members(ctx)
        return 0 < listed == serving, f"{serving} of {listed} members serve"

    why = "a redeployment restarts them one after the other, and needs the others meanwhile"
    wait_or_pause(ctx, "all members to serve", look, _PATIENCE, why)


class ForceRedeployment(Action[RedeploymentArgs]):
    """Write a reason into the operator's object: it then rolls out a new revision everywhere."""

    name = "force_redeployment"
    args_type = RedeploymentArgs

    def check(self, ctx: Context, args: RedeploymentArgs) -> None:
        if not args.reason:
            raise PreconditionFailed("no reason is given", "each redeployment needs one of its own")
        with asking(ctx, self.name) as kube:
            read_etcd(kube)
        if not args.unless_pods:  # else it is seen right before, if it comes to that
            _await_all_members(ctx)

    def _is_forced(self, kube: Kube, args: RedeploymentArgs) -> bool:
        etcd = read_etcd(kube)
        return text_at(etcd, "spec", "forceRedeploymentReason") == args.reason

    def is_done(self, ctx: Context, args: RedeploymentArgs, undo: Optional[Data]) -> bool:
        with asking(ctx, self.name) as kube:
            if self._is_forced(kube, args):
                return True
            return bool(args.unless_pods) and len(ready_pods(kube)) >= args.unless_pods

    def act(self, ctx: Context, args: RedeploymentArgs, undo: Data) -> Data:
        with asking(ctx, self.name) as kube:
            if args.unless_pods and self._come_by_themselves(ctx, kube, args):
                return {"forced": False, "pods": args.unless_pods}
            if args.unless_pods:
                _await_all_members(ctx)
            kube.patch(ETCDS, CLUSTER, {"spec": {"forceRedeploymentReason": args.reason}})
            # Proved here and not by a look at the pods: those may come and go meanwhile.
            if not self._is_forced(kube, args):
                raise StepFailed("the API took the reason, and the object does not have it")
        return {"forced": True, "reason": args.reason}

    def _come_by_themselves(self, ctx: Context, kube: Kube, args: RedeploymentArgs) -> bool:
        def look() -> tuple[bool, str]:
            found = ready_pods(kube)
            return len(found) >= args.unless_pods, f"{len(found)}: {', '.join(sorted(found))}"

        what = f"{args.unless_pods} etcd pods to run"
        try:
            wait_for(ctx.say, what, look, args.patience, INTERVAL)
        except Timeout as error:
            ctx.say(f"{error.seen}: a redeployment is forced")
            return False
        return True


class WaitEtcdRollout(Action[RolloutArgs]):
    """Look until the operator's newest revision is on every node, and all of etcd serves."""

    name = "wait_etcd_rollout"
    args_type = RolloutArgs

    def is_done(self, ctx: Context, args: RolloutArgs, undo: Optional[Data]) -> bool:
        return False  # only looking again can tell

    def act(self, ctx: Context, args: RolloutArgs, undo: Data) -> Data:
        with asking(ctx, self.name) as kube:

            def look() -> tuple[bool, str]:
                missing = _missing(ctx, kube, args)
                return not missing, missing or "all is rolled out"

            why = "what the operator waits for: oc describe clusteroperator etcd"
            wait_or_pause(ctx, "etcd to be rolled out", look, args.deadline, why)
            return {"revision": at(read_etcd(kube), "status", "latestAvailableRevision")}


def _missing(ctx: Context, kube: Kube, args: RolloutArgs) -> str:
    """What is not there yet, in words; empty for nothing."""
    etcd = read_etcd(kube)
    latest = at(etcd, "status", "latestAvailableRevision")
    if args.reason and text_at(etcd, "spec", "forceRedeploymentReason") != args.reason:
        return "the reason of the redeployment is not in the operator's object"
    if args.reason and not _knows(kube, latest, args.reason):
        return f"revision {latest} is from before the redeployment"
    behind = _behind(etcd, latest, args.nodes)
    if behind:
        return f"not at revision {latest} yet: {', '.join(behind)}"
    ready = ready_pods(kube)
    absent = sorted(set(args.nodes) - set(ready))
    if absent:
        return f"no etcd pod is ready on {', '.join(absent)}"
    if args.members:
        listed, serving = _members(ctx)
        if (listed, serving) != (args.members, args.members):
            return f"etcd has {listed} voters of {args.members}, and {serving} serve"
    return ""


def _knows(kube: Kube, revision: object, reason: str) -> bool:
    """Whether a revision was made for this reason: its own copy of the pod's config map says so."""
    found = kube.get(CONFIG_MAPS, f"etcd-pod-{revision}")
    return text_at(found, "data", "forceRedeploymentReason") == reason


def _behind(etcd: Object, latest: object, nodes: Sequence[str]) -> list[str]:
    """Nodes that do not run the newest revision; one that the operator does not know is behind."""
    rows = at(etcd, "status", "nodeStatuses")
    known = {text_at(r, "nodeName"): at(r, "currentRevision") for r in rows or ()}
    return sorted(n for n in (nodes or known) if known.get(n) != latest)
