"""Who may change this host: one plan at a time, one agent at a time, never a stale coordinator.

The lock is a file with a fencing token: every holder's token is larger than all before it, and a
step that carries a smaller one is refused, however late it arrives.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional

from agent.errors import Damaged, Locked, UsageError
from agent.host import STATE_DIR, Host
from agent.model.codec import canonical, from_plain
from agent.model.facts import Lock

LOCK_FILE = f"{STATE_DIR}/lock.json"
_AGENT_LOCK = f"{STATE_DIR}/agent.lock"


def read_lock(host: Host) -> Optional[Lock]:
    """Give the lock as it stands on this host, or None. Raises Damaged where it is unreadable."""
    if not host.exists(LOCK_FILE):
        return None
    try:
        return from_plain(Lock, json.loads(host.read_bytes(LOCK_FILE)), LOCK_FILE)
    except (ValueError, RecursionError, UsageError) as error:
        raise Damaged(
            f"{LOCK_FILE}: {error}",
            "no lock can be trusted that cannot be read",
            f"finish what is open (fab journal), then: mv {LOCK_FILE} {LOCK_FILE}.damaged",
        ) from None


def take_lock(host: Host, plan: str, holder: str, token: int) -> Lock:
    """Take the lock for a plan, or take it over for the same plan with a larger token.

    Raises what `require_free` raises.
    """
    require_free(host, plan, token)
    host.makedirs(STATE_DIR)
    lock = Lock(plan, holder, token, host.now())
    host.write_atomic(LOCK_FILE, canonical(lock))
    return lock


def require_free(host: Host, plan: str, token: int) -> None:
    """Raise Locked where another plan holds the lock, or where a token as large was seen."""
    current = read_lock(host)
    if current and current.plan and current.plan != plan:
        raise Locked(
            f"{host.hostname()}: plan {current.plan[:12]} of {current.holder} holds this host",
            "two plans at once could each undo what the other needs",
            f"fab resume {current.plan[:12]}   (or: fab rollback {current.plan[:12]})",
        )
    if current and token <= current.token:
        raise _stale(host, current, token)


def check_lock(host: Host, plan: str, token: int) -> None:
    """Raise Locked unless `plan` holds the lock with exactly this token."""
    current = read_lock(host)
    if current is None or current.plan != plan:
        raise Locked(
            f"{host.hostname()}: plan {plan[:12]} does not hold the lock of this host",
            "its steps could meet another plan's",
            f"fab resume {plan[:12]}",
        )
    if current.token != token:
        raise _stale(host, current, token)


def release_lock(host: Host, plan: str) -> None:
    """Give the lock back if `plan` holds it; the token stays, so that it never goes down."""
    current = read_lock(host)
    if current and current.plan == plan:
        host.write_atomic(LOCK_FILE, canonical(Lock("", "", current.token, host.now())))


def _stale(host: Host, current: Lock, token: int) -> Locked:
    return Locked(
        f"{host.hostname()}: {current.holder or 'a later run'} holds token {current.token}; "
        f"this order carries {token}",
        "an order of a coordinator that was replaced must not be carried out",
        "fab journal",
    )


@contextmanager
def only_agent(host: Host) -> Iterator[None]:
    """Hold the one-agent-per-host lock (flock); the kernel frees it when the agent dies."""
    host.makedirs(STATE_DIR)
    fd = os.open(host.real(_AGENT_LOCK), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 64, 0).decode(errors="replace") or "unknown"
            raise Locked(
                f"{host.hostname()}: another agent (pid {holder}) is at work on this host",
                "it may be finishing a step whose connection was lost",
                "wait some seconds and run: fab resume",
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(fd)
