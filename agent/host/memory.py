"""How much memory this process may use, and what it says when that is not enough."""

from __future__ import annotations

import errno
import os
import resource
import threading
from collections.abc import Iterator
from typing import Optional

from agent.errors import StepFailed

NEED = 128 * 1024 * 1024
"""Bytes that the agent gets by with, and a scratch etcd of its own beside it in one group."""

_STACK = 1024 * 1024
"""Bytes. What a thread of Python's needs to reach its limit of recursion (Alpine's has as much);
the usual 8 MiB each count against RLIMIT_DATA, used or not."""

_GROUPS = "/sys/fs/cgroup"
_UNLIMITED = 1 << 60


def small_stacks() -> None:
    """Let threads that are started from now on reserve no more than they need."""
    threading.stack_size(_STACK)


def limit() -> Optional[tuple[int, str]]:
    """(bytes, what says so): the tightest limit of this process and its children; None for none.

    Own limits (setrlimit(2): RLIMIT_DATA, RLIMIT_AS), and those of its control groups: memory.max
    of version 2 (Linux, admin-guide/cgroup-v2.rst), memory.limit_in_bytes of version 1.
    """
    found = [*_own_limits(), *_group_limits("/proc/self/cgroup", _GROUPS)]
    return min(found, default=None)


def _own_limits() -> Iterator[tuple[int, str]]:
    for which, name in ((resource.RLIMIT_DATA, "ulimit -d"), (resource.RLIMIT_AS, "ulimit -v")):
        soft = resource.getrlimit(which)[0]
        if soft != resource.RLIM_INFINITY:
            yield soft, name


def _group_limits(own: str, mount: str) -> Iterator[tuple[int, str]]:
    try:
        with open(own, encoding="utf-8", errors="replace") as file:
            rows = [row.rstrip("\n").split(":", 2) for row in file]
    except OSError:
        return
    for _number, controllers, path in (row for row in rows if len(row) == 3):
        if not controllers:
            yield from _upwards(mount, path, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _upwards(f"{mount}/memory", path, "memory.limit_in_bytes")


def _upwards(top: str, path: str, name: str) -> Iterator[tuple[int, str]]:
    """A group's limit and those of all groups above it: each holds for what is below."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for count in range(len(parts), -1, -1):
        file = os.path.join(top, *parts[:count], name)
        try:
            with open(file, encoding="ascii", errors="replace") as opened:
                said = opened.read(64).strip()
        except OSError:
            continue
        if said.isdigit() and int(said) < _UNLIMITED:  # "max", or version 1's largest number
            yield int(said), file


def is_exhausted(error: BaseException) -> bool:
    """True where an error means that there was no memory (or no room for a thread's stack)."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "can't start new thread" in str(error)
    )


def exhausted() -> StepFailed:
    """What the operator is told then."""
    found = limit()
    told = f" (it may use {found[0] >> 20} MiB: {found[1]})" if found else ""
    return StepFailed(
        f"the agent ran out of memory{told}",
        "what was done so far is in the journal, and what was begun can be gone on with",
        f"let it have {NEED >> 20} MiB, then: fab resume   (or: fab rollback)",
    )
