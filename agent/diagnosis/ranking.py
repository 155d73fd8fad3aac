"""Whose data is best to keep, and what would be lost with the others."""

from __future__ import annotations

from collections.abc import Iterable

from agent.diagnosis.quorum import can_hide_committed
from agent.diagnosis.witness import same_cluster
from agent.model.verdict import MemberState, MemberVerdict


def rank(members: Iterable[MemberVerdict]) -> tuple[MemberVerdict, ...]:
    """The usable voters, the best survivor first.

    By (last term, last index) of the write-ahead log, as raft compares candidates; ties by revision
    (the larger first), then by host name.
    """
    usable = [m for m in members if m.usable and m.voter]
    return tuple(
        sorted(usable, key=lambda m: (-m.position[0], -m.position[1], -m.revision, m.host))
    )


def others_ahead(
    target: MemberVerdict, members: Iterable[MemberVerdict]
) -> list[tuple[MemberVerdict, str]]:
    """(host, what it has that the target lacks) for each host whose data says more, or otherwise.

    A larger revision alone is no difference where the target's own log is known committed up to
    there: its database has just not been written yet, and a start replays the log. Up to there and
    no further, since force-new-cluster drops what the log does not know as committed.
    """
    found = []
    for other in sorted(members, key=lambda m: (m.host, m.id)):
        if other.host == target.host or other.state is MemberState.REMOVED:
            continue
        if not same_cluster(other.data_cluster, target.data_cluster):
            continue
        text = _ahead(target, other)
        if text:
            found.append((other, text))
    return found


def _ahead(target: MemberVerdict, other: MemberVerdict) -> str:
    place = f"{other.host} ({other.state.value})"
    if other.position > target.position:
        return (
            f"{place} has log entries up to term {other.position[0]}, index {other.position[1]}; "
            f"{target.host} up to term {target.position[0]}, index {target.position[1]}"
        )
    is_replayed = target.applied < other.applied <= target.commit
    if other.revision > target.revision and not is_replayed:
        return f"{place} has revision {other.revision}; {target.host} has {target.revision}"
    is_tie = other.usable and other.position == target.position
    if is_tie and other.revision < target.revision and other.applied >= target.applied:
        return (
            f"{place} has revision {other.revision} at the log position where {target.host} has "
            f"{target.revision}: their data differs"
        )
    return ""


def losses(target: MemberVerdict, members: Iterable[MemberVerdict], voters: int) -> tuple[str, ...]:
    """What could be lost if the target's data is kept, in words."""
    everyone = sorted(members, key=lambda m: (m.host, m.id))
    found = [text for _, text in others_ahead(target, everyone)]
    found += _tail(target)
    unread = [m for m in everyone if m.voter and m.id and not m.usable]
    gone = [m.host for m in unread if m.state in (MemberState.UNREACHABLE, MemberState.GHOST)]
    if can_hide_committed(voters, len(unread)):
        names = ", ".join(gone or [m.host for m in unread])
        found.append(
            f"{names}: may hold committed writes that no readable member has "
            f"({len(unread)} of {voters} voters are not readable)"
        )
    return tuple(found)


def _tail(target: MemberVerdict) -> list[str]:
    """The end of the target's own log that it does not know as committed."""
    known, last = max(target.commit, target.applied), target.position[1]
    if not 0 < known < last:
        return []
    return [
        f"{target.host}: its last {last - known} log entries ({known + 1} to {last}) are not known "
        "as committed there; force-new-cluster drops them"
    ]
