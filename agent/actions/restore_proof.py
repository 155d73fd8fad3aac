"""Proves restored data on a scratch etcd, and takes what must not come back out of it.

A snapshot holds the leases of API servers as they were: a dead one's keep its address among the
endpoints of the `kubernetes` service (`/registry/masterleases/`, kubernetes
pkg/controlplane/reconcilers/lease.go). They go before the restored data serves anybody; API servers
that live write their own anew within seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from agent.actions.adopt import adopt
from agent.actions.base import Action, Context, Data
from agent.actions.data import DataArgs, copied_marker, data_places, ready_marker
from agent.actions.definitions import current_config
from agent.actions.scratch import finish, serving_alone
from agent.errors import PreconditionFailed, RescueError, StepFailed
from agent.etcd.client import EtcdClient, prefix_end
from agent.etcd.transport import real_files
from agent.model.facts import EtcdConfig
from agent.survey.online import local_endpoint

_ALL = b"\0"


@dataclass(frozen=True)
class ProveArgs(DataArgs):
    """revision: where the restored data begins. keys: how many there must be; -1: not counted.

    deadline: seconds until it serves.
    """

    revision: int = 0
    keys: int = -1
    deadline: float = 300.0


class ProveRestored(Action[ProveArgs]):
    """Start the restored data once, on loopback and alone; count it, and remove stale leases."""

    name = "prove_restored"
    args_type = ProveArgs

    def check(self, ctx: Context, args: ProveArgs) -> None:
        where = data_places(ctx, args)
        if not (ctx.host.exists(copied_marker(where)) and ctx.host.is_dir(where.work_member)):
            raise PreconditionFailed(f"no restored data in {where.work}", next="fab resume")

    def is_done(self, ctx: Context, args: ProveArgs, undo: Optional[Data]) -> bool:
        return ctx.host.exists(ready_marker(data_places(ctx, args)))

    def act(self, ctx: Context, args: ProveArgs, undo: Data) -> Data:
        where = data_places(ctx, args)
        tls = real_files(ctx.host, current_config(ctx).client_tls)
        alone = serving_alone(ctx, where, (), "the restored data to serve", args.deadline)
        with alone as (endpoint, facts), EtcdClient(endpoint, tls, timeout=60.0) as client:
            facts.update(_look(client, args, leases_of(ctx)))
        adopt(ctx.host, where.work_member, where.data_dir)
        return finish(ctx, where, facts)

    def prove(self, ctx: Context, args: ProveArgs, undo: Data) -> None:
        if not self.is_done(ctx, args, undo):
            raise StepFailed("the restored data was not finished")


def leases_of(ctx: Context) -> bytes:
    """What the keys of API servers' leases begin with, by kube-apiserver's own --etcd-prefix."""
    return f"{ctx.platform.api_prefix}/masterleases/".encode()


def _look(client: EtcdClient, args: ProveArgs, leases: bytes) -> Data:
    """Hold what is served against what was verified, then remove the stale leases."""
    revision = client.status().revision
    if revision < args.revision:
        raise StepFailed(
            f"the restored data is at revision {revision}, not at {args.revision} or later",
            "the tool did not do what it was told",
            "fab rollback",
        )
    counted = client.range(_ALL, _ALL, count_only=True).count if args.keys >= 0 else -1
    if counted != args.keys:
        raise StepFailed(
            f"the restored data has {counted} keys, the snapshot {args.keys}",
            "what was restored is not what was verified",
            "fab rollback",
        )
    removed = client.delete(leases, prefix_end(leases))
    keys = f"{counted} keys, " if counted >= 0 else ""
    seen = f"{keys}revision {revision}, {removed} stale API server leases removed"
    return {"seen": seen, "removed_leases": removed, "keys": counted}


@dataclass(frozen=True)
class LeasesArgs:
    """revision: leases that were written later are those of API servers that live."""

    revision: int


class RemoveStaleLeases(Action[LeasesArgs]):
    """Remove the snapshot's leases of API servers through the etcd that serves here."""

    name = "remove_stale_leases"
    args_type = LeasesArgs

    def is_done(self, ctx: Context, args: LeasesArgs, undo: Optional[Data]) -> bool:
        try:
            with _client(ctx, current_config(ctx)) as client:
                return not _stale(client, args.revision, leases_of(ctx))
        except RescueError:
            return False

    def act(self, ctx: Context, args: LeasesArgs, undo: Data) -> Data:
        with _client(ctx, current_config(ctx)) as client:
            stale = _stale(client, args.revision, leases_of(ctx))
            for key in stale:
                client.delete(key)
        return {"seen": f"{len(stale)} stale API server leases removed"}


def _client(ctx: Context, config: EtcdConfig) -> EtcdClient:
    files = real_files(ctx.host, config.client_tls)
    return EtcdClient(local_endpoint(config), files, timeout=10.0)


def _stale(client: EtcdClient, revision: int, leases: bytes) -> list[bytes]:
    found = client.range(leases, prefix_end(leases), keys_only=True)
    return [pair.key for pair in found.kvs if pair.mod_revision <= revision]
