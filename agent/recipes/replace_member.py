"""The quorum holds, one member is beyond repair: it leaves, and comes back with a new identity."""

from __future__ import annotations

from agent.errors import Refused
from agent.model.plan import Plan, Promise
from agent.recipes.builder import PlanBuilder
from agent.recipes.cluster import Cluster
from agent.recipes.rejoin import rejoin, tidy_manifests


def acting_host(cluster: Cluster, but: str) -> str:
    """The healthy host through which the membership is changed: the leader where it can be.

    Raises Refused where no other member is healthy.
    """
    serving = [host for host in cluster.serving() if host != but]
    if not serving:
        raise Refused(
            f"no healthy member besides {but}",
            "the membership is changed through a member that serves",
            "fab diagnose",
        )
    return serving[-1]


def replace_member(cluster: Cluster, host: str, created: float) -> Plan:
    """Plan the replacement of the member on `host`; its old data is kept in quarantine."""
    verdict = cluster.verdict(host)
    acting = acting_host(cluster, host)
    builder = PlanBuilder("replace-member", f"{host}: {verdict.why}", cluster.addresses)
    builder.stage(
        "Prepare, with nothing stopped",
        [builder.step(host, "preflight", "an etcd to run before anything stops", copies=False)],
    )
    steps = [
        builder.step(
            host, "fence", "a removed member must not come back with its old identity",
            reason=f"{cluster.name(host)} is being replaced: {verdict.why}",
        )
    ]  # fmt: skip
    member = cluster.member_of(host)
    if member is not None:
        steps.append(
            builder.step(
                acting, "member_remove", "the dead leave before the new one comes",
                id=member.id, name=member.name, peer_urls=member.peer_urls,
            )
        )  # fmt: skip
    builder.stage(f"Take the old member of {host} out", steps)
    members = [h for h in _member_hosts(cluster) if h != host]
    rejoin(builder, cluster, host, members, acting)
    tidy_manifests(builder, cluster, [*members, host])
    return builder.build(created, Promise((*members, host), cluster.diagnosis.cluster_id))


def remove_member(cluster: Cluster, host: str, created: float) -> Plan:
    """Plan the removal of a member whose host is gone for good; the cluster stays smaller."""
    verdict = next(m for m in cluster.diagnosis.members if host in (m.host, m.name))
    acting = acting_host(cluster, verdict.host)
    member = next((m for m in cluster.members() if m.id == verdict.id), None)
    if member is None:
        raise Refused(f"{host} is no member", "there is nothing to remove", "fab diagnose")
    builder = PlanBuilder("remove-member", f"{host}: {verdict.why}", cluster.addresses)
    builder.stage(
        f"Remove {host}",
        [
            builder.step(
                acting, "member_remove", "its host is gone, by the operator's word",
                id=member.id, name=member.name, peer_urls=member.peer_urls,
            )
        ],
    )  # fmt: skip
    members = [h for h in _member_hosts(cluster) if h != verdict.host]
    tidy_manifests(builder, cluster, members)
    promise = Promise(tuple(members), cluster.diagnosis.cluster_id)
    return builder.build(created, promise, declared_lost=(host,))


def restart_member(cluster: Cluster, host: str, created: float) -> Plan:
    """Plan the start of a member whose data is intact and whose definition was parked."""
    verdict = cluster.verdict(host)
    builder = PlanBuilder("restart-member", f"{host}: {verdict.why}", cluster.addresses)
    steps = []
    if cluster.is_crash_looping(host):
        steps.append(builder.step(host, "restart_kubelet", "clears a back-off of up to 5 min"))
    steps += [
        builder.step(host, "unpark_definition", "its data is intact and it is still a member"),
        builder.step(host, "wait_serving", "a member that serves is the proof"),
        builder.step(host, "lift_fence", "it is a member again"),
    ]
    builder.stage(f"Start etcd on {host}", steps)
    members = _member_hosts(cluster)
    return builder.build(created, Promise(tuple(members), cluster.diagnosis.cluster_id))


def _member_hosts(cluster: Cluster) -> list[str]:
    """Hosts with a voter, in the order of the diagnosis."""
    return [m.host for m in cluster.diagnosis.members if m.host and m.id and m.voter]
