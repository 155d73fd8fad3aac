"""The state of the cluster as a whole, from the verdicts on its members."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Optional

from agent.diagnosis import signs
from agent.diagnosis.alarms import left_behind
from agent.diagnosis.quorum import quorum
from agent.diagnosis.witness import Witness, same_cluster, surveys
from agent.model.facts import Observation, Survey
from agent.model.verdict import ClusterState, MemberState, MemberVerdict

Verdict = tuple[ClusterState, str]


def cluster_state(
    observations: Sequence[Observation], members: Sequence[MemberVerdict], witness: Witness
) -> Verdict:
    """State and reason. SPLIT first: with two stories told, no count of voters means anything."""
    split = find_split(observations, members, witness)
    if split:
        return ClusterState.SPLIT, split
    if any(member.serves for member in members):
        return _serving(observations, members, witness)
    return _not_serving(members, witness)


def _serving(
    observations: Sequence[Observation], members: Sequence[MemberVerdict], witness: Witness
) -> Verdict:
    voters = [m for m in members if m.voter and m.id]
    bad = [m for m in members if m.id and m.state is not MemberState.HEALTHY]
    if not witness.members:
        return ClusterState.DEGRADED, "reads are answered, but no list of members could be read"
    if bad:
        named = ", ".join(f"{m.host} {m.state.value}" for m in bad)
        serving = sum(m.serves for m in voters)
        return ClusterState.DEGRADED, f"{serving} of {len(voters)} voters serve; {named}"
    if alarms(observations, witness, "NOSPACE"):
        return ClusterState.DEGRADED, "alarm NOSPACE is raised: writes are refused"
    gone = left_behind(observations, witness)
    if gone:
        return (
            ClusterState.DEGRADED,
            f"alarm CORRUPT of removed member {gone[0]} is raised: writes are refused",
        )
    outside = [m for m in members if is_left_out(m)]
    if outside:
        named = ", ".join(f"{m.host} ({m.state.value})" for m in outside)
        return ClusterState.DEGRADED, f"all voters serve; not in the cluster: {named}"
    return ClusterState.HEALTHY, f"all {len(voters)} voters answer reads through the quorum"


def _not_serving(members: Sequence[MemberVerdict], witness: Witness) -> Verdict:
    voters = [m for m in members if m.voter and m.id]
    if not voters:
        return _without_membership(members)
    alive = [m for m in voters if m.runs]
    need = quorum(len(voters))
    if len(alive) < need:
        down = ", ".join(f"{m.host} {m.state.value}" for m in voters if not m.runs)
        return (
            ClusterState.QUORUM_LOST,
            f"no read through the quorum works; {len(alive)} of {len(voters)} voters run and "
            f"{need} are needed ({down})",
        )
    unseen = [m for m in alive if m.state is MemberState.UNREACHABLE]
    if unseen:
        told = "; ".join(f"{m.host}: {m.seen_alive}" for m in unseen)
        return ClusterState.UNKNOWN, f"no read through the quorum works, but {told}"
    named = ", ".join(m.host for m in alive)
    return (
        ClusterState.UNKNOWN,
        f"{len(alive)} of {len(voters)} voters run ({named}), enough for a quorum, and none "
        "serves: they are still starting, or do not reach each other",
    )


def _without_membership(members: Sequence[MemberVerdict]) -> Verdict:
    hidden = [m for m in members if m.state is MemberState.UNREACHABLE]
    running = [m for m in members if m.runs]
    if hidden or running or not members:
        missing = [f"no survey of {m.host}" for m in hidden]
        missing += [f"{m.host} runs and its data could not be read" for m in running if m.why]
        told = "; ".join(missing) or "no host was given"
        return ClusterState.UNKNOWN, f"no host could tell the members of the cluster: {told}"
    return (
        ClusterState.QUORUM_LOST,
        "no etcd runs, and no host has a database that lists the members",
    )


def is_left_out(member: MemberVerdict) -> bool:
    """A host that is no member although it is made to be one: it has a definition, or data."""
    if member.id or member.state in (MemberState.UNREACHABLE, MemberState.GHOST):
        return False
    has_role = member.definition in ("in-place", "parked") or member.state is MemberState.FENCED
    return has_role or member.position != (0, 0)


def alarms(observations: Sequence[Observation], witness: Witness, kind: str) -> list[str]:
    """Hosts (or member IDs where no host fits) on which an alarm of that kind is raised."""
    found = set()
    for _, survey in surveys(observations):
        if not same_cluster(signs.own_cluster(survey), witness.cluster_id):
            continue
        db = survey.offline.db if survey.offline else None
        online = survey.online if signs.answers(survey) else None
        raised = online.alarms if online is not None else db.alarms if db else ()
        for alarm in raised:
            member = witness.member(alarm.member_id)
            if alarm.kind == kind:
                found.add((member.name if member else "") or alarm.member_id)
    return sorted(found)


# ---- two clusters where one should be ------------------------------------------------------------


def find_split(
    observations: Sequence[Observation], members: Iterable[MemberVerdict], witness: Witness
) -> str:
    """What shows that there is more than one cluster, in words; empty for nothing."""
    everyone = surveys(observations)
    return (
        _two_clusters_serve(everyone)
        or _two_leaders(everyone)
        or _strangers_run(everyone, witness)
        or _richer_stranger(members, witness)
    )


def _two_clusters_serve(everyone: Sequence[tuple[str, Survey]]) -> str:
    clusters: dict[str, list[str]] = {}
    for host, survey in everyone:
        if signs.serves(survey) and signs.own_cluster(survey):
            clusters.setdefault(signs.own_cluster(survey), []).append(host)
    if len(clusters) < 2:
        return ""
    told = ", ".join(f"cluster {c} on {' and '.join(h)}" for c, h in sorted(clusters.items()))
    return f"two clusters serve at the same time: {told}"


def _two_leaders(everyone: Sequence[tuple[str, Survey]]) -> str:
    """A leader that another serving member does not even list leads a cluster of its own."""
    serving = [(h, s.online) for h, s in everyone if signs.serves(s) and s.online]
    for host, one in serving:
        for other_host, other in serving:
            listed = {member.id for member in other.members}
            if one.leader_id and listed and one.leader_id not in listed:
                return (
                    f"two leaders: {host} follows {one.leader_id}, which is no member in the list "
                    f"that {other_host} serves"
                )
    return ""


def _strangers_run(everyone: Sequence[tuple[str, Survey]], witness: Witness) -> str:
    """Running etcds of different clusters, with none of them serving to say which is right."""
    if witness.online:
        return ""
    clusters: dict[str, list[str]] = {}
    for host, survey in everyone:
        if signs.runs(survey) and signs.own_cluster(survey):
            clusters.setdefault(signs.own_cluster(survey), []).append(host)
    if len(clusters) < 2:
        return ""
    told = ", ".join(f"{c} on {' and '.join(h)}" for c, h in sorted(clusters.items()))
    return f"etcds of different clusters run: {told}"


def _richer_stranger(members: Iterable[MemberVerdict], witness: Witness) -> str:
    """Intact data of another cluster that holds more than the one judged by.

    A wiped member that was started with its old flags may have made a new, empty cluster: that one
    serves, and the real one lies still. Fenced data was set aside on purpose.
    """
    everyone = list(members)
    ours = max(
        (m.revision for m in everyone if _is_ours(m, witness)),
        default=0,
    )
    for member in everyone:
        is_rich = member.intact and member.revision > ours
        if is_rich and not _is_ours(member, witness) and member.state is not MemberState.FENCED:
            return (
                f"{member.host} holds data of cluster {member.data_cluster} at revision "
                f"{member.revision}; the cluster of {witness.host} is {witness.cluster_id} at "
                f"revision {ours}"
            )
    return ""


def _is_ours(member: MemberVerdict, witness: Witness) -> bool:
    return same_cluster(member.data_cluster, witness.cluster_id)


def leader_host(observations: Sequence[Observation], members: Sequence[MemberVerdict]) -> str:
    """The host of the leader that the newest raft term knows; empty where nobody serves."""
    best: Optional[tuple[int, str]] = None
    for _, survey in surveys(observations):
        online = survey.online
        if signs.serves(survey) and online is not None and online.leader_id:
            best = max(best or (0, ""), (online.raft_term, online.leader_id))
    if best is None:
        return ""
    return next((m.host for m in members if m.id == best[1]), "")
