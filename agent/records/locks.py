"""Who may change this host: one plan at a time, one agent at a time, never a stale coordinator.

The lock belongs to a plan, not to a process: a plan that is half done is protected by it after the
death of whoever ran it, and whoever resumes that plan takes it over, from any machine. It carries a
fencing token: every run's token is larger than all before it, and a step that carries another one
is refused, however late it arrives. A lock whose plan is closed in its journal holds nothing.

That a run is at work is known by a mark: a file lock that its agent holds while its line is open,
and that the kernel lets go of when the agent ends, however that happens (docs/locks.md).
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Optional

from agent.errors import Damaged, Locked, RescueError, UsageError
from agent.host import STATE_DIR, Host
from agent.host.reserve import reserve_dir, write_new
from agent.model.codec import canonical, from_plain, parse_json
from agent.model.facts import Lock
from agent.model.holding import age, held
from agent.records.journal import Journal, journal_path

LOCK_FILE = f"{STATE_DIR}/lock.json"
_AGENT_LOCK = f"{STATE_DIR}/agent.lock"
_RUNS_DIR = f"{STATE_DIR}/runs"

_marks: dict[str, int] = {}
"""Real path of a run's mark → the descriptor that holds it, for as long as this process lives."""


def read_lock(host: Host) -> Optional[Lock]:
    """Give the lock as it stands on this host, or None. Raises Damaged where it is unreadable.

    A lock whose plan is closed is given as free: a crash came between the two. `alive` says whether
    the run that took it still has its agent here.
    """
    lock = _stored(host)
    if lock is None or not lock.plan:
        return lock
    if _is_closed(host, lock.plan):
        return Lock("", "", lock.token, lock.time)
    return replace(lock, alive=_is_at_work(host, lock.token))


def _stored(host: Host) -> Optional[Lock]:
    if not host.exists(LOCK_FILE):
        return None
    try:
        return from_plain(Lock, parse_json(host.read_bytes(LOCK_FILE), LOCK_FILE), LOCK_FILE)
    except (ValueError, RecursionError, UsageError) as error:
        raise Damaged(
            f"{LOCK_FILE}: {error}",
            "no lock can be trusted that cannot be read",
            f"finish what is open (fab journal), then: mv {LOCK_FILE} {LOCK_FILE}.damaged",
        ) from None


def _is_closed(host: Host, plan: str) -> bool:
    """True if the plan's journal here says that it is closed; a damaged one says nothing."""
    if not host.exists(journal_path(plan)):
        return False
    with suppress(RescueError, OSError):
        return Journal.open(host, plan).state != "open"
    return False


def take_lock(host: Host, plan: str, holder: str, token: int, run: str = "") -> Lock:
    """Take the lock for a plan, or take it over for the same plan with a larger token.

    run: of the run that asks; the same run may ask again, as after a line that broke. Raises what
    `require_free` raises.
    """
    require_free(host, plan, token, run)
    host.makedirs(STATE_DIR)
    lock = Lock(plan, holder, token, host.now(), run)
    current = _stored(host)
    if current is None or replace(current, time=lock.time) != lock:
        host.write_atomic(LOCK_FILE, canonical(lock))
    return lock


def require_free(host: Host, plan: str, token: int, run: str = "") -> None:
    """Raise Locked where another plan holds the lock, or where a token as large was seen."""
    current = read_lock(host)
    if current and current.plan and current.plan != plan:
        raise held(host.hostname(), current, host.now())
    if current and run and (current.plan, current.token, current.run) == (plan, token, run):
        return
    if current and token <= current.token:
        raise _stale(host, current, token)


def check_lock(host: Host, plan: str, token: int) -> None:
    """Raise Locked unless `plan` holds the lock with exactly this token."""
    current = _stored(host)
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
    current = _stored(host)
    if current and current.plan == plan:
        host.write_atomic(LOCK_FILE, canonical(Lock("", "", current.token, host.now())))
        _unmark(host, current.token)


def _stale(host: Host, current: Lock, token: int) -> Locked:
    taken = f", taken {age(host.now() - current.time)} ago" if current.plan else ""
    return Locked(
        f"{host.hostname()}: {current.holder or 'a later run'} holds token {current.token}; "
        f"this order carries {token} (plan {current.plan[:12] or 'closed'}{taken})",
        "an order of a coordinator that was replaced must not be carried out",
        "fab journal",
    )


@contextmanager
def only_agent(host: Host) -> Iterator[None]:
    """Hold the one-agent-per-host lock (flock); the kernel frees it when the agent dies."""
    host.makedirs(STATE_DIR)
    with host.folder(_AGENT_LOCK) as (folder, name):
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=folder)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 64, 0).decode(errors="replace").strip() or "unknown"
            raise Locked(
                f"{host.hostname()}: another agent (pid {holder}) is at work on this host",
                "it may be finishing a step whose connection was lost",
                "wait some seconds and run: fab resume",
            ) from None
        with suppress(OSError):  # a courtesy, for which a full disk may have no block
            os.pwrite(fd, f"{os.getpid():<10}".encode(), 0)
        yield
    finally:
        os.close(fd)


# ---- runs at work --------------------------------------------------------------------------------


def mark_at_work(host: Host, token: int) -> None:
    """Hold the mark of the run with this token until this process ends; call it as the only agent.

    A run that was taken over and its successor may both have agents here: each holds its own mark.
    """
    path = host.real(f"{_RUNS_DIR}/{token}")
    if path in _marks:
        return
    host.makedirs(_RUNS_DIR)
    _sweep(host)
    fd = _opened_mark(host, token)
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _whole_file(fcntl.F_RDLCK))
    _marks[path] = fd


def _opened_mark(host: Host, token: int) -> int:
    with host.folder(f"{_RUNS_DIR}/{token}") as (folder, name):
        with suppress(FileExistsError):
            os.close(write_new(folder, name, b"", host.real(reserve_dir(STATE_DIR))))
        return os.open(name, os.O_RDWR | os.O_NOFOLLOW, dir_fd=folder)


def _unmark(host: Host, token: int) -> None:
    fd = _marks.pop(host.real(f"{_RUNS_DIR}/{token}"), None)
    if fd is not None:
        os.close(fd)


def _sweep(host: Host) -> None:
    """Take away what runs that ended have left."""
    for name in host.listdir(_RUNS_DIR):
        if name.isdigit() and not _is_at_work(host, int(name)):
            with suppress(FileNotFoundError):
                os.unlink(host.real(f"{_RUNS_DIR}/{name}"))


def _is_at_work(host: Host, token: int) -> bool:
    try:
        fd = os.open(host.real(f"{_RUNS_DIR}/{token}"), os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        asked = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _whole_file(fcntl.F_WRLCK))
    finally:
        os.close(fd)
    kind: int = struct.unpack_from("h", asked)[0]
    return kind != fcntl.F_UNLCK


def _whole_file(kind: int) -> bytes:
    """A struct flock (fcntl(2)) over a whole file. Such locks are asked for without taking them."""
    return struct.pack("hhqqi0q", kind, os.SEEK_SET, 0, 0, 0)
