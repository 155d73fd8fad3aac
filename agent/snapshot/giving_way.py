"""A scheduled snapshot gives way: none while a rescue is at work, and none in its way.

A rescue must not wait for a snapshot, so the snapshot does not take the agent's lock. It looks for
the mark that every run at work holds (agent/records/locks.py), before it begins and all the time.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Optional

from agent.errors import Locked, RescueError, StepFailed
from agent.host import STATE_DIR, Host
from agent.host.own_files import held
from agent.records.locks import read_lock

_LOCK = f"{STATE_DIR}/snapshot.lock"
_POLL = 0.5


def require_no_rescue(host: Host) -> None:
    """Raise Locked while a run is at work on this host.

    A plan that is open, and whose run has ended, is no reason to go without snapshots for days.
    """
    lock = read_lock(host)
    if lock is not None and lock.plan and lock.alive:
        raise Locked(
            f"{host.hostname()}: plan {lock.plan[:12]} of {lock.holder} is at work here",
            "a rescue and a snapshot at once would be in each other's way",
            "nothing: the next run of the timer takes one",
        )


@contextmanager
def giving_way(host: Host, poll: float = _POLL) -> Iterator[None]:
    """Do the body unless a rescue is at work; it ends with Locked as soon as one begins.

    And with StepFailed where we are told to end. To be used in the main thread, by the only user
    of SIGUSR1 and SIGTERM in this process.
    """
    require_no_rescue(host)
    over = threading.Event()
    told: list[str] = []
    main = threading.get_ident()

    def end(number: int, _frame: Optional[FrameType]) -> None:
        if told or over.is_set():
            return  # once is enough: what it interrupted is being taken back
        told.append("told")
        if number == signal.SIGTERM:
            raise StepFailed("told to end (SIGTERM)", "what was half done was taken away again")
        require_no_rescue(host)
        told.clear()

    def watch() -> None:
        while not over.wait(poll):
            try:
                require_no_rescue(host)
            except RescueError:  # a lock that cannot be read, too
                signal.pthread_kill(main, signal.SIGUSR1)

    before = {n: signal.signal(n, end) for n in (signal.SIGUSR1, signal.SIGTERM)}
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def only_snapshot(host: Host) -> Iterator[None]:
    """Hold the lock of scheduled snapshots; the kernel frees it when we die."""
    host.makedirs(STATE_DIR)
    with ExitStack() as stack:
        try:
            stack.enter_context(held(host, _LOCK))
        except BlockingIOError:
            raise Locked(
                f"{host.hostname()}: a scheduled snapshot is being taken here now",
                "one at a time",
                "nothing: that one will do",
            ) from None
        yield
