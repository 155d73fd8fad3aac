"""Whether a disk has room, takes writes and gives back what was written: looked at beforehand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from agent.actions.base import Context, Places
from agent.actions.data import require_space
from agent.actions.tree import read_tree, tree_size
from agent.errors import PreconditionFailed
from agent.host import STATE_DIR, memory
from agent.survey.disk import is_read_only

STATE_NEED = 64 * 1024 * 1024
"""Bytes for the etcd binary, the journal and the notes."""

_STATE_INODES = 100
_WAL_SEGMENT = 64 * 1024 * 1024
"""etcd allocates two such before it serves: one in use, one ahead (wal.SegmentSizeBytes,
file_pipeline.go); the reserve of `require_space` has room for the other."""

_BACK_NEED = 1024 * 1024
_PROBE = bytes(4096)


def require_memory() -> None:
    """Raise PreconditionFailed where the agent, or the scratch etcd it starts, would be cut off."""
    found = memory.limit()
    if found and found[0] < memory.NEED:
        raise PreconditionFailed(
            f"only {found[0] >> 20} MiB of memory are allowed here: {found[1]}",
            f"the agent and a scratch etcd need {memory.NEED >> 20} MiB, and would stop half-way",
            "raise that limit for this login, then run this again",
        )


def require_state_room(ctx: Context) -> None:
    """Raise PreconditionFailed unless our own directory has room and takes writes."""
    free, inodes = ctx.host.free(STATE_DIR)
    if free < STATE_NEED or inodes < _STATE_INODES:
        raise PreconditionFailed(
            f"{STATE_DIR}: {free >> 20} MiB and {inodes} inodes are free",
            f"the journal and the etcd binary need {STATE_NEED >> 20} MiB",
            "make room on that file system, then run this again",
        )
    _require_writes(ctx, f"{STATE_DIR}/work")


def require_data_room(ctx: Context, where: Places, copies: bool, incoming: int) -> None:
    """Raise PreconditionFailed unless the data's disk has room for what the plan puts there.

    copies: a copy of the data, which must be readable to its last byte. incoming: bytes of a
    database that is fetched.
    """
    if is_read_only(ctx.host, where.data_dir):
        raise _read_only(where.data_dir, "etcd's data is moved and written there")
    need = tree_size(ctx.host, where.member) if copies else 0
    require_space(ctx, where, need + (incoming + _WAL_SEGMENT if incoming else 0))
    _require_writes(ctx, os.path.dirname(where.work))
    if copies:
        _require_readable(ctx, where.member)


def require_definition_can_move(ctx: Context, definition: str) -> None:
    """Raise PreconditionFailed where a definition could not be taken away and put back.

    On a file system of its own it is copied back: its former blocks may be somebody else's by then.
    """
    directory = os.path.dirname(definition)
    if is_read_only(ctx.host, directory):
        raise _read_only(directory, "etcd is stopped by moving its definition out of there")
    if ctx.host.mount_point(directory) == ctx.host.mount_point(STATE_DIR):
        return
    free, inodes = ctx.host.free(directory)
    if free < _BACK_NEED or inodes < 10:
        raise PreconditionFailed(
            f"{directory}: {free >> 10} KiB and {inodes} inodes are free",
            "etcd's definition is taken away from there and must have room to come back",
            "make room on that file system, then run this again",
        )


def _read_only(directory: str, why: str) -> PreconditionFailed:
    return PreconditionFailed(
        f"{directory} is on a file system that is mounted read-only",
        why,
        f"findmnt -T {directory}; look for disk errors in `dmesg`; mount it read-write, then run "
        "this again",
    )


def _require_writes(ctx: Context, directory: str) -> None:
    """A quota, a full journal of the file system or a dying disk shows only in a real write."""
    with _refused(directory, "what the plan writes there must be written before etcd is back"):
        ctx.host.makedirs(directory)
        ctx.host.write_atomic(f"{directory}/probe", _PROBE)
        ctx.host.discard(f"{directory}/probe")


def _require_readable(ctx: Context, member: str) -> None:
    """Read all of the data once: the copy then finds it in memory, or we know before a stop."""
    with _refused(member, "what cannot be read cannot be copied, and etcd cannot go on from it"):
        read_tree(ctx.host, member)


@contextmanager
def _refused(place: str, why: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PreconditionFailed(
            f"{error.filename or place}: {error.strerror or error}",
            why,
            f"df -h {place}; df -i {place}; findmnt -T {place}; look for disk errors in `dmesg`",
        ) from None
