"""What a host keeps of our own doing: fences, parked definitions, journals, the lock."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fence:
    """The tombstone of a fenced host: by which plan, when, why."""

    plan: str
    step: str
    time: float
    reason: str
    holder: str = ""


@dataclass(frozen=True)
class Parked:
    """A definition that was moved out of the way, and where it came from."""

    path: str
    original: str
    sha256: str
    plan: str = ""


@dataclass(frozen=True)
class JournalFacts:
    """One plan's journal on this host. state: open, complete, rolled-back, or damaged."""

    plan: str
    recipe: str
    state: str
    done: tuple[str, ...] = ()
    begun: tuple[str, ...] = ()
    updated: float = 0.0
    problem: str = ""


@dataclass(frozen=True)
class Lock:
    """Who may change this host. token grows with every holder; a smaller one is refused.

    run: of the coordinator's run that took it. alive: that run has its agent on the host now; known
    when the lock is read, never stored as true.
    """

    plan: str
    holder: str
    token: int
    time: float
    run: str = ""
    alive: bool = False
