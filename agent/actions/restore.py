"""Makes a member's data of a snapshot, beside the data that is there; nothing is stopped for it.

The file is verified whole while the node's own tool works on it: the tool's work lies in the work
directory and is thrown away if the file turns out bad. Old data is moved away, and the new data put
in place, by steps of their own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional

from agent.actions.adopt import adopt
from agent.actions.base import Action, Context, Data, Places, wait_for
from agent.actions.data import DataArgs, copied_marker, data_places, discard_work, require_space
from agent.actions.definitions import current_config
from agent.actions.restore_tool import RestoreTool, find_tool
from agent.actions.tree import tree_size
from agent.errors import PreconditionFailed, StepFailed
from agent.snapshot.verify import SnapshotFacts, verify_snapshot

WAL_SIZE = 64 * 1024 * 1024
"""What the tool preallocates for the log (SegmentSizeBytes in etcd's wal.go)."""


@dataclass(frozen=True)
class RestoreArgs(DataArgs):
    """What `snapshot restore` is told, and of which file.

    snapshot: its path on this host; sha256: of the whole file. name, peer_urls: of this member, as
    its definition says. initial_cluster: all members that are restored now, as NAME=URL,…; token:
    the same for all of them, and new. bump: for --bump-revision, 0 for none. copy: the file is a
    copy of a database, without a hash of its own. tool: the operator's. discard: reads may be
    answered while this is prepared. deadline: seconds for the tool.
    """

    snapshot: str = ""
    sha256: str = ""
    name: str = ""
    peer_urls: tuple[str, ...] = ()
    initial_cluster: str = ""
    token: str = ""
    bump: int = 0
    copy: bool = False
    tool: str = ""
    discard: bool = False
    deadline: float = 3600.0


class RestoreSnapshot(Action[RestoreArgs]):
    """Verify the snapshot, and restore it into the work directory, complete and durable."""

    name = "restore_snapshot"
    args_type = RestoreArgs

    def check(self, ctx: Context, args: RestoreArgs) -> None:
        config = current_config(ctx)
        said = (config.name, sorted(config.advertise_peer_urls))
        if said != (args.name, sorted(args.peer_urls)):
            raise PreconditionFailed(
                f"{config.definition} is of {config.name} at "
                f"{', '.join(config.advertise_peer_urls)}, the plan of {args.name} at "
                f"{', '.join(args.peer_urls)}",
                "the restored member would have another name or address than the one that starts",
                "make a new plan: fab restore",
            )
        if not ctx.host.exists(args.snapshot):
            raise PreconditionFailed(f"{args.snapshot}: no such file", next="fab restore FILE")
        where = data_places(ctx, args)
        half = tree_size(ctx.host, where.work) if ctx.host.exists(where.work) else 0
        size = ctx.host.stat(args.snapshot).st_size
        require_space(ctx, where, max(0, size + WAL_SIZE - half))

    def is_done(self, ctx: Context, args: RestoreArgs, undo: Optional[Data]) -> bool:
        return ctx.host.exists(copied_marker(data_places(ctx, args)))

    def act(self, ctx: Context, args: RestoreArgs, undo: Data) -> Data:
        where, config = data_places(ctx, args), current_config(ctx)
        discard_work(ctx, where)  # half of it, of an interrupted run, and what was said of it
        ctx.host.makedirs(where.work)
        tool = find_tool(ctx, config, args.tool)
        if args.bump and not tool.bumps:
            raise PreconditionFailed(
                f"{tool.path} ({tool.version}) has no --bump-revision",
                "the plan was made for a tool that can raise the revision",
                "make a new plan: fab restore",
            )
        facts = _restore(ctx, args, where, tool)
        adopt(ctx.host, f"{_made(where)}/member", where.data_dir)
        ctx.host.rename_new(f"{_made(where)}/member", where.work_member)
        note = {"from": args.snapshot, "sha256": facts.sha256, "tool": tool.version}
        ctx.host.write_atomic(copied_marker(where), json.dumps(note).encode())
        raised = f", raised by {args.bump}" if args.bump else ""
        seen = f"{facts.keys} keys at revision {facts.revision}{raised}"
        return {"seen": seen, "tool": f"{tool.name} {tool.version}", "to": where.work_member}

    def undo(self, ctx: Context, args: RestoreArgs, undo: Data) -> None:
        discard_work(ctx, data_places(ctx, args))


def _made(where: Places) -> str:
    """Where the tool works: it wants a directory that is not there yet."""
    return f"{where.work}/restored"


def restore_argv(tool: RestoreTool, args: RestoreArgs, data_dir: str) -> list[str]:
    """The tool's command line. Its own check of the hash is ours, done at the same time."""
    bump = [f"--bump-revision={args.bump}", "--mark-compacted"] if args.bump else []
    return [
        tool.path, "snapshot", "restore", args.snapshot,
        f"--data-dir={data_dir}",
        f"--name={args.name}",
        f"--initial-advertise-peer-urls={','.join(args.peer_urls)}",
        f"--initial-cluster={args.initial_cluster}",
        f"--initial-cluster-token={args.token}",
        "--skip-hash-check=true",
        *bump,
    ]  # fmt: skip


def _stamp(ctx: Context, path: str) -> tuple[int, int, int, int]:
    info = ctx.host.stat(path)
    return info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _restore(ctx: Context, args: RestoreArgs, where: Places, tool: RestoreTool) -> SnapshotFacts:
    """Run the tool and verify the file meanwhile; both must come to a good end."""
    before, log = _stamp(ctx, args.snapshot), f"{where.work}/restore.log"
    process = ctx.host.spawn(restore_argv(tool, args, _made(where)), log)
    try:
        facts = verify_snapshot(ctx.host, args.snapshot, args.copy, ctx.say)
        if facts.sha256 != args.sha256:
            raise StepFailed(
                f"{args.snapshot}: sha256 is {facts.sha256}, the plan's is {args.sha256}",
                "it is not the file that this plan was made for",
                "fab rollback, then: fab restore FILE",
            )
        _finish(ctx, args, where, lambda: process.poll() is not None)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode != 0:
        raise StepFailed(
            f"{tool.path} snapshot restore ended with exit code {process.returncode}: "
            f"{_last_line(ctx, log)}",
            "nothing but the work directory was touched",
            f"its whole output: {log}; then: fab rollback",
        )
    if _stamp(ctx, args.snapshot) != before:
        raise StepFailed(f"{args.snapshot} changed while it was restored", next="fab rollback")
    return facts


def _finish(ctx: Context, args: RestoreArgs, where: Places, has_ended: Callable[[], bool]) -> None:
    """Wait for the tool's end."""
    database, size = f"{_made(where)}/member/snap/db", ctx.host.stat(args.snapshot).st_size

    def probe() -> tuple[bool, str]:
        done = ctx.host.stat(database).st_size if ctx.host.exists(database) else 0
        return has_ended(), f"{done >> 20} of {size >> 20} MiB are there"

    wait_for(ctx.say, "the snapshot to be restored", probe, args.deadline, 0.02)


def _last_line(ctx: Context, log: str) -> str:
    lines = ctx.host.read_bytes(log, 64 << 20).decode(errors="replace").strip().splitlines()
    return lines[-1][-600:] if lines else "(no output)"
