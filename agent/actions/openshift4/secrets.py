"""Delete the secrets of a removed member: three, by exact names, and none that came since."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from agent.actions.base import Action, Context, Data, wait_for
from agent.actions.members import local_client
from agent.actions.openshift4.api import asking
from agent.errors import PreconditionFailed, RescueError, StepFailed
from agent.kube.client import Kube
from agent.kube.paths import ETCD_NAMESPACE, SECRETS
from agent.model.facts import Member

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
"""A DNS-1123 subdomain: what the name of a node is."""

_PATIENCE = 60.0
"""Seconds for which etcd may be without a quorum."""

PREFIXES = ("etcd-peer-", "etcd-serving-", "etcd-serving-metrics-")


@dataclass(frozen=True)
class SecretsArgs:
    """node: name of the removed member, which is its node's."""

    node: str


def names_of(node: str) -> tuple[str, ...]:
    """The names of a member's secrets. Raises PreconditionFailed for what is no node's name."""
    if len(node) > 253 or not _NAME.fullmatch(node):
        raise PreconditionFailed(
            f"{node!r} is no name of a node",
            "secrets are deleted by their exact names alone",
            "fab diagnose",
        )
    return tuple(f"{prefix}{node}" for prefix in PREFIXES)


def require_no_member(ctx: Context, node: str) -> tuple[str, ...]:
    """Give the names of all members; raise PreconditionFailed where one has this name now.

    The operator may be restarting members meanwhile: an etcd without a quorum is waited for.
    """
    members: list[Member] = []

    def look() -> tuple[bool, str]:
        try:
            with local_client(ctx) as client:
                members[:] = client.members(linearizable=True)
        except RescueError as error:
            return False, error.seen
        return True, f"{len(members)} members"

    wait_for(ctx.say, "etcd to list its members", look, _PATIENCE, next="fab resume")
    found = next((m for m in members if m.name == node), None)
    if found is not None:
        raise PreconditionFailed(
            f"{node} is member {found.id} of etcd",
            "what belongs to a member is cleaned up only once etcd has let it go",
            f"fab rescue-node {node}",
        )
    return tuple(m.name for m in members if m.name)


def require_own(node: str, members: Sequence[str]) -> None:
    """Raise PreconditionFailed where a secret by one of these names is a living member's, too.

    etcd-serving-metrics-NODE is also what the serving certificate of a node metrics-NODE is called.
    """
    for other in members:
        shared = sorted(set(names_of(node)) & set(names_of(other)))
        if shared:
            raise PreconditionFailed(
                f"secret {shared[0]} is also the one of member {other}",
                "which of the two it is for cannot be told by its name",
                f"oc describe secret -n {ETCD_NAMESPACE} {shared[0]}; then delete by hand what is "
                f"of {node}, and: fab resume",
            )


def _uids(kube: Kube, node: str) -> dict[str, str]:
    """Name → UID of those of the three secrets that there are."""
    found = {name: kube.uid(SECRETS, name) for name in names_of(node)}
    return {name: uid for name, uid in found.items() if uid}


class DeleteMemberSecrets(Action[SecretsArgs]):
    """Delete by name and UID, so that what the operator has made anew since stays."""

    name = "delete_member_secrets"
    args_type = SecretsArgs

    def check(self, ctx: Context, args: SecretsArgs) -> None:
        names_of(args.node)
        require_own(args.node, require_no_member(ctx, args.node))

    def prepare(self, ctx: Context, args: SecretsArgs) -> Data:
        with asking(ctx, self.name) as kube:
            return {"uids": _uids(kube, args.node)}

    def is_done(self, ctx: Context, args: SecretsArgs, undo: Optional[Data]) -> bool:
        with asking(ctx, self.name) as kube:
            return undo is not None and not _left(_uids(kube, args.node), undo)

    def act(self, ctx: Context, args: SecretsArgs, undo: Data) -> Data:
        uids: dict[str, str] = undo["uids"]
        ctx.say(f"secrets of {args.node} in {ETCD_NAMESPACE}: {', '.join(uids) or 'none'}")
        with asking(ctx, self.name) as kube:
            for name, uid in uids.items():
                kube.delete(SECRETS, name, uid)
        return {"deleted": sorted(uids)}

    def prove(self, ctx: Context, args: SecretsArgs, undo: Data) -> None:
        with asking(ctx, self.name) as kube:
            left = _left(_uids(kube, args.node), undo)
        if left:
            raise StepFailed(f"still there: {', '.join(left)}", next="fab resume")


def _left(now: dict[str, str], undo: Data) -> list[str]:
    """Names of secrets that are the very ones that were to be deleted."""
    return sorted(name for name, uid in undo["uids"].items() if now.get(name) == uid)
