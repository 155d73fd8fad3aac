"""What is said of a lock that is in the way: the same on the host and to the operator."""

from __future__ import annotations

from agent.errors import Locked
from agent.model.facts import Lock


def held(host: str, lock: Lock, now: float) -> Locked:
    """Who holds a host, with which plan, for how long, and whether that run is at work.

    now: seconds since the epoch, by the clock of that host.
    """
    plan = lock.plan[:12]
    state = "is at work there now" if lock.alive else "has ended, and the plan is not finished"
    return Locked(
        f"{host}: plan {plan} of {lock.holder} holds this host, taken {age(now - lock.time)} ago; "
        f"that run {state}",
        "two plans at once could each undo what the other needs",
        f"fab resume {plan}   (or: fab rollback {plan}; either takes the lock over)",
    )


def age(seconds: float) -> str:
    """A time that has passed, in words; a clock that was set back counts as none."""
    whole = max(int(seconds), 0)
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole // 3600} h"
