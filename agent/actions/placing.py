"""Puts small files in place of others: the old ones are kept, and come back byte for byte."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from agent.actions.base import Context
from agent.actions.definitions import file_hash
from agent.errors import Damaged, StepFailed
from agent.host import STATE_DIR
from agent.host.syscalls import read_xattrs

Kept = list[dict[str, Any]]
"""Undo data: [{"path", "sha256" of what was there or "", "to": where that is kept}, …]."""


_KEYS = (".key", "-key.pem")
_MARKS = ("st_mode", "st_uid", "st_gid", "st_mtime_ns")


@dataclass(frozen=True)
class NewFile:
    """What is to be at a path. mode, owner (user and group ID): of one that is not there yet.

    is_exact: of one that is there too, from the first instant of its new content.
    """

    data: bytes
    mode: int
    owner: Optional[tuple[int, int]] = None
    is_exact: bool = False


def keep(ctx: Context, *paths: str) -> Kept:
    """Undo data for these paths, links resolved; nothing is done yet."""
    folder = f"{STATE_DIR}/quarantine/{ctx.plan}/{ctx.step}-files"
    real = [ctx.host.realpath(path) for path in dict.fromkeys(paths)]
    return [
        {"path": path, "sha256": file_hash(ctx.host, path), "to": f"{folder}{path}"}
        for path in real
    ]


def place(ctx: Context, kept: Kept, files: Mapping[str, NewFile]) -> None:
    """Replace each file at once, keys before certificates, after the old one was copied aside.

    Copied, not moved: etcd reads its certificates with every handshake, and there must be no moment
    without one. Repeatable from any point of itself. files: by the path in the undo data.
    """
    for entry in kept:
        _copy_aside(ctx, entry)
    for entry in sorted(kept, key=lambda e: not str(e["path"]).endswith(_KEYS)):
        path, new = entry["path"], files[entry["path"]]
        old = ctx.host.stat(path) if not new.is_exact and ctx.host.exists(path) else None
        ctx.host.makedirs(os.path.dirname(path), 0o755)
        ctx.host.write_atomic(path, new.data, new.mode, like=old, owner=new.owner)


def _copy_aside(ctx: Context, entry: dict[str, Any]) -> None:
    path, to, digest = entry["path"], entry["to"], entry["sha256"]
    if not digest or file_hash(ctx.host, to) == digest:
        return
    if file_hash(ctx.host, path) != digest:
        raise StepFailed(
            f"{path} is not the file that was there when this step began",
            "somebody changed it meanwhile, and that change is not thrown away",
            "fab rollback",
        )
    part = f"{to}.part"  # what has its final name is whole, with owner, mode and times
    ctx.host.makedirs(os.path.dirname(to))
    if ctx.host.exists(part):  # of a run that was killed
        ctx.host.rename_new(part, f"{to}.torn-{ctx.host.now():.3f}")
    ctx.host.copy_file(path, part)
    if file_hash(ctx.host, part) != digest:
        raise Damaged(f"{part} differs from {path} after the copy")
    ctx.host.rename_new(part, to)


def put_back(ctx: Context, kept: Kept) -> None:
    """Bring every old file back as it was, with owner, mode and times; the new ones are kept too.

    Repeatable; nothing to do for a file that is as it was.
    """
    for entry in kept:
        path, to, digest = entry["path"], entry["to"], entry["sha256"]
        ctx.host.clear_cut_write(path)
        if digest and not ctx.host.exists(to):
            continue  # never copied aside, so never replaced; or brought back already
        if ctx.host.exists(path):
            if digest and _is_as_kept(ctx, entry):
                continue
            undone = f"{os.path.dirname(to)}/undone-{ctx.host.now():.3f}-{os.path.basename(to)}"
            ctx.host.makedirs(os.path.dirname(to))
            ctx.host.move_new(path, undone)
        if digest:
            ctx.host.move_new(to, path)


def _is_as_kept(ctx: Context, entry: dict[str, Any]) -> bool:
    """Whether what lies there has the content, owner, mode, time and attributes that it had."""
    path, to = entry["path"], entry["to"]
    if file_hash(ctx.host, path) != entry["sha256"]:
        return False
    here, kept = ctx.host.stat(path), ctx.host.stat(to)
    return all(getattr(here, name) == getattr(kept, name) for name in _MARKS) and read_xattrs(
        ctx.host.real(path)
    ) == read_xattrs(ctx.host.real(to))
