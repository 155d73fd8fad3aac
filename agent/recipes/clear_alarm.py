"""Writes are refused for an alarm: space is made and proved, and only then is it taken back."""

from __future__ import annotations

from agent.diagnosis.alarms import left_behind, raised
from agent.diagnosis.matching import distinct
from agent.diagnosis.witness import choose
from agent.errors import Refused
from agent.model.plan import Plan, Promise
from agent.model.verdict import MemberState
from agent.recipes.builder import PlanBuilder
from agent.recipes.cluster import Cluster

KEEP = 1000
"""Revisions of history that stay: watchers and paged lists of Kubernetes go on from recent ones."""


def clear_alarm(cluster: Cluster, created: float, keep: int = KEEP) -> Plan:
    """Plan what takes the alarms back: NOSPACE by making space, CORRUPT only of a removed member.

    keep: how many revisions of history stay. Raises Refused where none is raised, where a member is
    marked corrupt (it is replaced, its alarm is not taken back), or where not all members serve.
    """
    kept = distinct(cluster.observations)[0]
    witness = choose(kept)
    alarms = raised(kept, witness)
    gone = left_behind(kept, witness)
    _require_none_corrupt(cluster)
    is_full = any(alarm.kind == "NOSPACE" for alarm in alarms)
    if not is_full and not gone:
        raise Refused(
            "no alarm is raised that could be taken back",
            cluster.diagnosis.why,
            "fab diagnose",
        )
    serving = _all_serving(cluster)
    told = ["NOSPACE"] * is_full + [f"CORRUPT of removed member {id}" for id in gone]
    builder = PlanBuilder("clear-alarm", f"alarm {', '.join(told)}", cluster.addresses)
    if gone:
        builder.stage("Take back alarms of members that are gone", [
            builder.step(serving[-1], "clear_removed_alarm",
                         "etcd refuses every write as long as it stands", id=id)
            for id in gone
        ])  # fmt: skip
    if is_full:
        _make_space(builder, cluster, serving, keep)
    promise = Promise(
        tuple(sorted(serving)), cluster.diagnosis.cluster_id, cluster.revision(serving)
    )
    return builder.build(created, promise)


def _make_space(builder: PlanBuilder, cluster: Cluster, serving: list[str], keep: int) -> None:
    acting = serving[-1]
    builder.stage("Forget old history", [
        builder.step(acting, "compact_history",
                     f"all but the last {keep} revisions; keys and values stay", keep=keep),
    ])  # fmt: skip
    for host in serving:
        why = "pages that hold nothing any more go back to the file system"
        if host == acting and len(serving) > 1:
            why += "; the leader last, so that leadership moves at most once"
        builder.stage(f"Rewrite the database of {host}", [
            builder.step(host, "defragment", why),
            builder.step(host, "wait_serving", "the next one only after this one serves"),
        ])  # fmt: skip
    builder.stage("Take the alarm back", [
        builder.step(acting, "disarm_nospace", "only now, with space seen on every member",
                     quotas=_quotas(cluster, serving)),
    ])  # fmt: skip


def _quotas(cluster: Cluster, hosts: list[str]) -> dict[str, int]:
    """Member ID → the quota that its definition gives; 0 for none, which is etcd's default."""
    found = {}
    for host in hosts:
        member, config = cluster.member_of(host), cluster.config(host)
        if member is not None:
            found[member.id] = config.quota if config else 0
    return found


def _require_none_corrupt(cluster: Cluster) -> None:
    for member in cluster.diagnosis.members:
        if member.state is MemberState.CORRUPT:
            raise Refused(
                f"{member.host}: {member.why}",
                "an alarm CORRUPT is never taken back from a member: its data differs from the "
                "others', and would be served",
                f"fab rescue-node {member.host}   (replaces the member, and its alarm goes with "
                "it)",
            )


def _all_serving(cluster: Cluster) -> list[str]:
    """Hosts of all voters, the leader last. Raises Refused where one does not serve."""
    serving = cluster.serving()
    for member in cluster.diagnosis.members:
        if member.id and member.host not in serving:
            raise Refused(
                f"{member.host}: {member.why}",
                "space is proved on every member before the alarm goes, and this one tells nothing",
                f"fab rescue-node {member.host}",
            )
    if not serving:
        raise Refused("no member serves", cluster.diagnosis.why, "fab diagnose")
    return serving
