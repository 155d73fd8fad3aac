"""Quorum arithmetic: how many voters must live, before and after a change of the membership."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable


def quorum(voters: int) -> int:
    """How many of `voters` must be healthy for anything to be committed (raft: a majority)."""
    return voters // 2 + 1


def tolerance(voters: int) -> int:
    """How many of `voters` may fail with the cluster still serving."""
    return max(0, voters - quorum(voters))


def can_hide_committed(voters: int, unread: int) -> bool:
    """True if `unread` of `voters` may hold committed entries that none of the others has.

    A committed entry is on a quorum. Fewer unread voters than a quorum leave at least one copy
    among the others, and the longest log among the others then has it (raft's log matching).
    """
    return unread >= quorum(voters)


@dataclass(frozen=True)
class Change:
    """The membership after a change, or why it must not be made (`refused`, empty if it may).

    Invariants of an allowed change:
    - there was a quorum to commit it, and 1 <= voters afterwards
    - the healthy voters are a quorum of the membership after it
    """

    voters: int
    healthy: int
    refused: str = ""

    @property
    def quorum(self) -> int:
        """The quorum after the change."""
        return quorum(self.voters)

    @property
    def tolerance(self) -> int:
        """Further failures that the membership after the change survives."""
        return max(0, self.healthy - self.quorum)

    @property
    def is_allowed(self) -> bool:
        """True if nothing speaks against it."""
        return not self.refused


def _checked(voters: int, healthy: int, after_voters: int, after_healthy: int) -> Change:
    refused = ""
    if after_voters < 1:
        refused = "it is the last voter; a cluster without voters is lost"
    elif healthy < quorum(voters):
        refused = (
            f"only {healthy} of {voters} voters serve; a change needs {quorum(voters)} to commit"
        )
    elif after_healthy < quorum(after_voters):
        refused = (
            f"it would leave {after_healthy} healthy of {after_voters} voters, "
            f"and {quorum(after_voters)} are needed"
        )
    return Change(after_voters, after_healthy, refused)


def quorum_after_remove(voters: int, healthy: int, is_healthy: bool) -> Change:
    """A voter is removed; `is_healthy` says whether it is one of the `healthy`."""
    return _checked(voters, healthy, voters - 1, healthy - (1 if is_healthy else 0))


def quorum_after_add_voter(voters: int, healthy: int) -> Change:
    """A voter is added that does not run yet: it counts in the quorum and not among the healthy."""
    return _checked(voters, healthy, voters + 1, healthy)


def quorum_after_add_learner(voters: int, healthy: int) -> Change:
    """A learner is added: no voter, so only the change itself must be committed."""
    return _checked(voters, healthy, voters, healthy)


def quorum_after_promote(voters: int, healthy: int, is_healthy: bool = True) -> Change:
    """A learner becomes a voter; one that is about to stop (`is_healthy` False) is none yet."""
    return _checked(voters, healthy, voters + 1, healthy + (1 if is_healthy else 0))


def simulate(voters: int, healthy: int, *changes: Callable[[int, int], Change]) -> Change:
    """Changes one after the other, each on the outcome of the one before; stops at a refusal."""
    now = Change(voters, healthy)
    for change in changes:
        now = change(now.voters, now.healthy)
        if not now.is_allowed:
            break
    return now
