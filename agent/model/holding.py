"""What is said of a lock that is in the way: the same on the host and to the operator."""

from __future__ import annotations

from agent.errors import Locked, Refused
from agent.model.facts import JournalFacts, Lock, Survey


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


def damaged_journal(host: str, facts: JournalFacts) -> Refused:
    """Why nothing goes on from a journal that cannot be read, and how to go on without it."""
    return Refused(
        f"{host}: {facts.problem}",
        "a damaged journal cannot say what was done",
        f"on {host}: rescue-agent set-aside-journal {facts.plan[:12]}; then: fab diagnose",
    )


def not_finished(host: str, survey: Survey, facts: JournalFacts) -> Locked:
    """Why no plan is begun while this one is open on a host, and how to go on."""
    lock = survey.lock
    if lock is not None and lock.plan == facts.plan:
        error = held(host, lock, survey.time)
        error.seen = f"{error.seen} ({facts.recipe} is not finished)"
        return error
    return Locked(
        f"{host}: plan {facts.plan[:12]} ({facts.recipe}) is not finished",
        "a second plan on top of a half-done one could undo what the first needs",
        f"fab resume   (or: fab rollback {facts.plan[:12]})",
    )


def age(seconds: float) -> str:
    """A time that has passed, in words; a clock that was set back counts as none."""
    whole = max(int(seconds), 0)
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole // 3600} h"
