"""Make space in etcd and take alarms back; an alarm CORRUPT only of a member that is gone."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Optional

from agent.actions.base import Action, Context, Data, NoArgs, wait_for
from agent.actions.definitions import current_config
from agent.actions.members import local_client
from agent.actions.shrink import DEFAULT_QUOTA
from agent.errors import PreconditionFailed, RescueError, StepFailed
from agent.etcd.client import EtcdClient, Status, peer_hash_kv
from agent.etcd.transport import real_files
from agent.model.facts import Alarm, EtcdConfig, Member

_FULL = 0.9
_ROOM = 64 * 1024 * 1024
_COMPACT_SECONDS = 120.0
_DEFRAGMENT_SECONDS = 1800.0


@dataclass(frozen=True)
class CompactArgs:
    """keep: how many of the newest revisions stay readable as history."""

    keep: int = 1000


class CompactHistory(Action[CompactArgs]):
    """Forget the history of keys before the newest revisions; no key and no value is lost."""

    name = "compact_history"
    args_type = CompactArgs

    def is_done(self, ctx: Context, args: CompactArgs, undo: Optional[Data]) -> bool:
        return False  # what was written since may be forgotten as well

    def act(self, ctx: Context, args: CompactArgs, undo: Data) -> Data:
        with local_client(ctx) as client:
            revision = client.status().revision
            target = revision - args.keep
            if target < 1:
                return {"left": f"revision {revision} leaves no history older than {args.keep}"}
            try:
                client.compact(target, physical=True, timeout=_COMPACT_SECONDS)
            except RescueError as error:
                if "has been compacted" not in error.seen:
                    raise
                return {"left": f"everything before revision {target} was forgotten already"}
        return {"before": target}


class Defragment(Action[NoArgs]):
    """Rewrite this member's database without its free pages; it serves nobody meanwhile."""

    name = "defragment"
    args_type = NoArgs

    def check(self, ctx: Context, args: NoArgs) -> None:
        with local_client(ctx) as client:
            need = client.status().db_size_in_use + _ROOM
        data_dir = current_config(ctx).data_dir
        free, _inodes = ctx.host.free(data_dir)
        if free < need:
            raise PreconditionFailed(
                f"{data_dir}: {free >> 20} MiB are free, {need >> 20} MiB are needed",
                "etcd writes the new file beside the old one before it takes its place",
                "make room on that file system, then: fab resume",
            )

    def is_done(self, ctx: Context, args: NoArgs, undo: Optional[Data]) -> bool:
        return False

    def act(self, ctx: Context, args: NoArgs, undo: Data) -> Data:
        before = _settled(ctx)
        failed: list[RescueError] = []

        def run() -> None:
            try:
                with local_client(ctx) as client:
                    client.defragment(timeout=_DEFRAGMENT_SECONDS)
            except RescueError as error:
                failed.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        size = f"{before.db_size >> 20} MiB"
        wait_for(
            ctx.say, "etcd to rewrite its database",
            lambda: (not thread.is_alive(), f"{size} to go through"), _DEFRAGMENT_SECONDS,
        )  # fmt: skip
        if failed:
            raise failed[0]
        with local_client(ctx) as client:
            after = client.status().db_size
        return {"before": before.db_size, "after": after}


def _settled(ctx: Context) -> Status:
    """The member's status once compaction frees no more: it goes on after its answer."""
    seen: list[Status] = []

    def probe() -> tuple[bool, str]:
        with local_client(ctx) as client:
            seen.append(client.status())
        now, last = seen[-1].db_size_in_use, seen[-2].db_size_in_use if len(seen) > 1 else -1
        return now == last, f"{now} bytes in use"

    wait_for(ctx.say, "compaction to end", probe, 300, 0.2, hold=0.6)
    return seen[-1]


@dataclass(frozen=True)
class NospaceArgs:
    """quotas: member ID → --quota-backend-bytes of its definition; 0 or missing: etcd's default."""

    quotas: dict[str, int] = field(default_factory=dict)


class DisarmNospace(Action[NospaceArgs]):
    """Take the alarm NOSPACE back, once every member is seen to be below its quota."""

    name = "disarm_nospace"
    args_type = NospaceArgs

    def check(self, ctx: Context, args: NospaceArgs) -> None:
        config = current_config(ctx)
        with local_client(ctx) as client:
            members = client.members(linearizable=True)
        for member in members:
            _require_space(ctx, config, member, args.quotas.get(member.id, 0))

    def is_done(self, ctx: Context, args: NospaceArgs, undo: Optional[Data]) -> bool:
        return not _raised(ctx, "NOSPACE")

    def act(self, ctx: Context, args: NospaceArgs, undo: Data) -> Data:
        with local_client(ctx) as client:
            raised = [alarm for alarm in client.alarms() if alarm.kind == "NOSPACE"]
            for alarm in raised:
                client.alarm_disarm(alarm)
        return {"disarmed": [alarm.member_id for alarm in raised]}

    def prove(self, ctx: Context, args: NospaceArgs, undo: Data) -> None:
        left = _raised(ctx, "NOSPACE")
        if left:
            raise StepFailed(f"the alarm NOSPACE is raised still, or again, on {left[0].member_id}")


def _require_space(ctx: Context, config: EtcdConfig, member: Member, quota: int) -> None:
    """Raise PreconditionFailed unless the member's file is well below its quota."""
    name = f"{member.name or 'unnamed'} ({member.id})"
    try:
        files = real_files(ctx.host, config.client_tls)
        with EtcdClient(member.client_urls[0], files, timeout=5.0) as client:
            status = client.status()
    except (RescueError, IndexError) as error:
        told = error.seen if isinstance(error, RescueError) else "it has no client URL"
        raise PreconditionFailed(
            f"{name} does not tell the size of its database: {told}",
            "the alarm goes only once there is space on every member",
            "fab diagnose",
        ) from None
    allowed = status.db_size_quota or quota or DEFAULT_QUOTA
    if allowed > 0 and status.db_size > _FULL * allowed:
        raise PreconditionFailed(
            f"{name}: its database has {status.db_size} bytes of {allowed} allowed, of which "
            f"{status.db_size_in_use} are in use",
            "with so little space the alarm would be raised again at once",
            "fab rollback, and forget more history: fab clear-alarm --keep 10; or delete keys, or "
            "raise --quota-backend-bytes on every member (etcd's authors recommend 8 GiB at most), "
            "then: fab resume",
        )


def _raised(ctx: Context, kind: str) -> list[Alarm]:
    with local_client(ctx) as client:
        return [alarm for alarm in client.alarms() if alarm.kind == kind]


@dataclass(frozen=True)
class RemovedArgs:
    """id: of a member that was removed, whose alarm stands still."""

    id: str


class ClearRemovedAlarm(Action[RemovedArgs]):
    """Take back the alarm CORRUPT of a member that is gone, once all that are left hold the same.

    etcd keeps the alarm of a member that was removed, and refuses every write as long as any is
    there (measured: 3.4.23, 3.5.30). That of a member is never taken back.
    """

    name = "clear_removed_alarm"
    args_type = RemovedArgs

    def check(self, ctx: Context, args: RemovedArgs) -> None:
        with local_client(ctx) as client:
            listed = [m for m in client.members(linearizable=True) if m.id == args.id]
        if listed:
            raise PreconditionFailed(
                f"member {args.id} ({listed[0].name or 'unnamed'}) is in the cluster",
                "an alarm CORRUPT says that its data differs from the others'; taken back, that "
                "data would be served",
                f"fab rescue-node {listed[0].name or 'HOST'}   (replaces the member)",
            )

    def is_done(self, ctx: Context, args: RemovedArgs, undo: Optional[Data]) -> bool:
        return all(alarm.member_id != args.id for alarm in _raised(ctx, "CORRUPT"))

    def act(self, ctx: Context, args: RemovedArgs, undo: Data) -> Data:
        seen = wait_for(ctx.say, "all members to hold the same", lambda: _equal(ctx), 60, 0.3)
        with local_client(ctx) as client:
            for alarm in client.alarms():
                if alarm.kind == "CORRUPT" and alarm.member_id == args.id:
                    client.alarm_disarm(alarm)
        return {"seen": seen}

    def prove(self, ctx: Context, args: RemovedArgs, undo: Data) -> None:
        if not self.is_done(ctx, args, undo):
            raise StepFailed(f"the alarm CORRUPT of {args.id} is raised still")


def _equal(ctx: Context) -> tuple[bool, str]:
    """Whether every member's keys hash the same at one revision, asked at the peer ports.

    Raises StepFailed where they differ: then one more of them is corrupt.
    """
    config = current_config(ctx)
    files = real_files(ctx.host, config.peer_tls)
    with local_client(ctx) as client:
        members, revision = client.members(linearizable=True), client.status().revision
    told: dict[str, int] = {}
    since: set[int] = set()
    for member in members:
        try:
            hashed = peer_hash_kv(member.peer_urls[0], files, revision)
        except (RescueError, IndexError) as error:
            return False, f"{member.name or member.id} tells no hash: {error}"
        told[member.name or member.id] = hashed.hash
        since.add(hashed.compact_revision)
    if len(since) > 1:
        return False, "one member has compacted what another has not yet"
    if len(set(told.values())) > 1:
        words = ", ".join(f"{name} {value}" for name, value in sorted(told.items()))
        raise StepFailed(
            f"the keys differ at revision {revision}: {words}",
            "one more member is corrupt, and its alarm must stand",
            "fab diagnose",
        )
    return True, f"{len(told)} members hold the same at revision {revision}"
