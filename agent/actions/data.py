"""Copy, relocate, install and bring back etcd's data. Nothing is deleted; renames do the rest."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Optional

from agent.actions.base import Action, Context, Data, Places, places
from agent.actions.definitions import current_config
from agent.actions.kinds import kind_of
from agent.actions.relabel import relabel
from agent.actions.services import require_stopped
from agent.actions.tree import copy_tree, own_like, tree_size
from agent.errors import PreconditionFailed, StepFailed

_RESERVE = 64 * 1024 * 1024
"""Left free on the data's file system beyond the copy: etcd preallocates one WAL segment."""


@dataclass(frozen=True)
class DataArgs:
    """data_dir: etcd's data directory; empty: the one that its definition names."""

    data_dir: str = ""


def data_places(ctx: Context, args: DataArgs) -> Places:
    """Give the plan's places. Raises PreconditionFailed for a directory that is not etcd's."""
    data_dir = args.data_dir or current_config(ctx).data_dir
    if args.data_dir and args.data_dir != current_config(ctx).data_dir:
        raise PreconditionFailed(
            f"{args.data_dir} is not the data directory of etcd's definition", next="fab survey"
        )
    return places(ctx.host, data_dir, ctx.plan)


def require_space(ctx: Context, where: Places, size: int) -> None:
    """Raise PreconditionFailed unless `size` bytes more fit beside the data, with room to spare."""
    need = size + _RESERVE
    free, inodes = ctx.host.free(os.path.dirname(where.work))
    if free < need or inodes < 1000:
        raise PreconditionFailed(
            f"{where.data_dir} needs {need >> 20} MiB for new data beside the old; "
            f"{free >> 20} MiB and {inodes} inodes are free",
            "no data is changed before there is a copy of it, and none is deleted",
            "make room on that file system (fab clean lists old quarantine), then run this again",
        )


class CopyData(Action[DataArgs]):
    """Copy etcd's data, hashed while it is copied; all later work happens on the copy."""

    name = "copy_data"
    args_type = DataArgs

    def check(self, ctx: Context, args: DataArgs) -> None:
        require_stopped(ctx)
        where = data_places(ctx, args)
        if not ctx.host.is_dir(where.member):
            raise PreconditionFailed(f"{where.member}: no data here to copy")
        require_space(ctx, where, tree_size(ctx.host, where.member))

    def is_done(self, ctx: Context, args: DataArgs, undo: Optional[Data]) -> bool:
        return ctx.host.exists(copied_marker(data_places(ctx, args)))

    def act(self, ctx: Context, args: DataArgs, undo: Data) -> Data:
        where = data_places(ctx, args)
        ctx.host.makedirs(where.work)
        discard_work(ctx, where)  # half a copy, of an interrupted run, and what was said of it
        ctx.host.makedirs(where.work)
        hashes = copy_tree(ctx.host, where.member, where.work_member)
        note = {"from": where.member, "sha256": hashes}
        ctx.host.write_atomic(copied_marker(where), json.dumps(note).encode())
        return {"files": len(hashes), "to": where.work_member}

    def undo(self, ctx: Context, args: DataArgs, undo: Data) -> None:
        discard_work(ctx, data_places(ctx, args))


def copied_marker(where: Places) -> str:
    """Where it is noted that the copy is complete, with its hashes."""
    return f"{where.work}/copied.json"


def ready_marker(where: Places) -> str:
    """Where it is noted that a scratch etcd has finished the copy."""
    return f"{where.work}/ready.json"


def discard_work(ctx: Context, where: Places) -> None:
    """Discard the copy; its notes first, so that half of it never passes for a whole one."""
    for path in (ready_marker(where), copied_marker(where), where.work):
        ctx.host.discard(path)


class RelocateData(Action[DataArgs]):
    """Move etcd's data into quarantine: one rename, on the same file system, never overwriting."""

    name = "relocate_data"
    args_type = DataArgs

    def check(self, ctx: Context, args: DataArgs) -> None:
        require_stopped(ctx)

    def is_done(self, ctx: Context, args: DataArgs, undo: Optional[Data]) -> bool:
        where = data_places(ctx, args)
        if ctx.host.exists(where.member):
            return False
        return undo is None or not undo["had_data"] or ctx.host.exists(undo["to"])

    def prepare(self, ctx: Context, args: DataArgs) -> Data:
        where = data_places(ctx, args)
        to = f"{where.quarantine}/{ctx.step}-member"
        return {"to": to, "had_data": ctx.host.exists(where.member)}

    def act(self, ctx: Context, args: DataArgs, undo: Data) -> Data:
        where = data_places(ctx, args)
        if ctx.host.exists(where.member):
            ctx.host.makedirs(where.quarantine)
            ctx.host.rename_new(where.member, undo["to"])
        return {"quarantine": undo["to"] if undo["had_data"] else "", "had_data": undo["had_data"]}

    def prove(self, ctx: Context, args: DataArgs, undo: Data) -> None:
        if not self.is_done(ctx, args, undo):
            raise StepFailed(f"{data_places(ctx, args).member} is still there")

    def undo(self, ctx: Context, args: DataArgs, undo: Data) -> None:
        where = data_places(ctx, args)
        if ctx.host.exists(undo["to"]):
            require_stopped(ctx)
            ctx.host.rename_new(undo["to"], where.member)


@dataclass(frozen=True)
class InstallArgs(DataArgs):
    """scratch: the data must have been finished by a scratch etcd; else a plain copy will do."""

    scratch: bool = True


class InstallData(Action[InstallArgs]):
    """Rename the prepared copy to where etcd looks for its data."""

    name = "install_data"
    args_type = InstallArgs

    def check(self, ctx: Context, args: InstallArgs) -> None:
        require_stopped(ctx)
        where = data_places(ctx, args)
        if ctx.host.exists(where.member):
            raise PreconditionFailed(
                f"{where.member} is there already", "nothing is ever overwritten"
            )
        marker = ready_marker(where) if args.scratch else copied_marker(where)
        if not (ctx.host.exists(marker) and ctx.host.is_dir(where.work_member)):
            how = "finished by a scratch etcd" if args.scratch else "copied to its end"
            raise PreconditionFailed(
                f"{where.work_member} was not {how}",
                "etcd must not start on half-prepared data",
                "fab resume",
            )

    def is_done(self, ctx: Context, args: InstallArgs, undo: Optional[Data]) -> bool:
        where = data_places(ctx, args)
        return (
            undo is not None
            and ctx.host.exists(where.member)
            and not ctx.host.exists(where.work_member)
        )

    def act(self, ctx: Context, args: InstallArgs, undo: Data) -> Data:
        where = data_places(ctx, args)
        if not ctx.host.is_dir(where.data_dir):
            ctx.host.makedirs(where.data_dir)
            ctx.host.own(where.data_dir, *kind_of(ctx).owner(ctx))
        if ctx.host.exists(where.work_member):
            own_like(ctx.host, where.work_member, where.data_dir)
            ctx.host.rename_new(where.work_member, where.member)
        relabel(ctx, where.member)  # what a scratch etcd made has the work directory's labels
        return {"data": where.member}

    def prove(self, ctx: Context, args: InstallArgs, undo: Data) -> None:
        if not self.is_done(ctx, args, undo):
            raise StepFailed(f"{data_places(ctx, args).member} was not put in place")

    def undo(self, ctx: Context, args: InstallArgs, undo: Data) -> None:
        where = data_places(ctx, args)
        if ctx.host.exists(where.member) and not ctx.host.exists(where.work_member):
            require_stopped(ctx)
            ctx.host.rename_new(where.member, where.work_member)


@dataclass(frozen=True)
class BringBackArgs:
    """data_dir: where to; quarantine: the directory that a relocation reported."""

    data_dir: str
    quarantine: str


class BringBackData(Action[BringBackArgs]):
    """Move quarantined data back to where it came from."""

    name = "bring_back_data"
    args_type = BringBackArgs

    def check(self, ctx: Context, args: BringBackArgs) -> None:
        require_stopped(ctx)
        parts = args.quarantine.split("/")
        data_places(ctx, DataArgs(args.data_dir))
        if "quarantine" not in parts or ".." in parts or not ctx.host.is_dir(args.quarantine):
            raise PreconditionFailed(
                f"{args.quarantine}: no quarantined data there", next="rescue-agent survey"
            )
        if ctx.host.exists(f"{args.data_dir}/member"):
            raise PreconditionFailed(
                f"{args.data_dir}/member is there", "nothing is ever overwritten",
                "rescue-agent relocate-data",
            )  # fmt: skip

    def is_done(self, ctx: Context, args: BringBackArgs, undo: Optional[Data]) -> bool:
        return not ctx.host.exists(args.quarantine) and ctx.host.exists(f"{args.data_dir}/member")

    def act(self, ctx: Context, args: BringBackArgs, undo: Data) -> Data:
        if ctx.host.exists(args.quarantine):
            ctx.host.rename_new(args.quarantine, f"{ctx.host.realpath(args.data_dir)}/member")
        return {}

    def undo(self, ctx: Context, args: BringBackArgs, undo: Data) -> None:
        member = f"{ctx.host.realpath(args.data_dir)}/member"
        if ctx.host.exists(member) and not ctx.host.exists(args.quarantine):
            require_stopped(ctx)
            ctx.host.rename_new(member, args.quarantine)
