"""The quorum holds, one member is beyond repair: it leaves, and comes back with a new identity."""

from __future__ import annotations

from typing import Optional

from agent.diagnosis.alarms import raised
from agent.diagnosis.matching import distinct
from agent.diagnosis.quorum import (
    Change,
    quorum,
    quorum_after_add_learner,
    quorum_after_promote,
    quorum_after_remove,
    simulate,
)
from agent.diagnosis.witness import choose
from agent.errors import Refused
from agent.model.facts import Member
from agent.model.plan import Plan, Promise, Step
from agent.model.verdict import MemberState, MemberVerdict
from agent.recipes.builder import PlanBuilder
from agent.recipes.cluster import Cluster
from agent.recipes.openshift311 import is_openshift311, settle_remaining, unseen
from agent.recipes.rejoin import incoming, rejoin, tidy_manifests, why_not_rejoin
from agent.recipes.renew_certificates import bring_authority, issue


def acting_host(cluster: Cluster, but: str = "") -> str:
    """The healthy host through which the membership is changed: the leader where it can be.

    but: one that cannot be it. Raises Refused where no other member is healthy.
    """
    serving = [host for host in cluster.serving() if host != but]
    if not serving:
        raise Refused(
            f"no healthy member{but and f' besides {but}'} that can be logged in to",
            "the membership is changed through a member that serves",
            "fab diagnose",
        )
    return serving[-1]


def replace_member(cluster: Cluster, host: str, created: float) -> Plan:
    """Plan the replacement of the member on `host`; its old data is kept in quarantine.

    A host that is no member (any more) is added in the same way, with nothing to remove. Raises
    Refused where the host cannot rejoin, or where a change would cost the quorum.
    """
    verdict = cluster.verdict(host)
    host = verdict.host
    require_replaceable(cluster, verdict)
    acting = acting_host(cluster, host)
    require_quorum(cluster, verdict)
    builder = PlanBuilder("replace-member", f"{host}: {verdict.why}", cluster.addresses)
    builder.stage(
        "Prepare, with nothing stopped",
        [
            builder.step(
                host,
                "preflight",
                "room for the new data, and an etcd to run, before all else",
                copies=False,
                incoming=incoming(cluster, [acting]),
            )
        ],
    )
    _renew(builder, cluster, verdict)
    title = f"Take the old member of {host} out" if verdict.id else f"Fence {host}"
    builder.stage(title, take_out(builder, cluster, verdict, acting))
    serving = [h for h in reversed(cluster.serving()) if h != host]  # the acting one first
    rejoin(builder, cluster, host, serving, acting)
    _clear_alarm(builder, cluster, verdict, acting)
    voters = [m.host for m in cluster.voters() if m.host != host]
    tidy_manifests(builder, cluster, [*voters, host], [*sorted(serving), host])
    promise = promise_of(cluster, (*sorted(serving), host))
    return builder.build(created, promise)


def _renew(builder: PlanBuilder, cluster: Cluster, verdict: MemberVerdict) -> None:
    """Make certificates anew first: a new member would stop at the same cause."""
    found = verdict.certificates
    if found is None or found.refusal is not None:
        return
    brought = bring_authority(builder, cluster, verdict.host, found)
    builder.stage(f"Bring the CA of etcd to {verdict.host}", brought)
    issued = issue(builder, verdict.host, found)
    builder.stage(f"Make certificates anew on {verdict.host}", issued)


def _clear_alarm(
    builder: PlanBuilder, cluster: Cluster, verdict: MemberVerdict, acting: str
) -> None:
    """The alarm of the member that is gone still forbids every write; it goes once it may."""
    observations = distinct(cluster.observations)[0]
    alarms = raised(observations, choose(observations))
    if not any(a.kind == "CORRUPT" and a.member_id == verdict.id for a in alarms):
        return
    why = "etcd keeps the alarm of a removed member, and refuses every write for it"
    step = builder.step(acting, "clear_removed_alarm", why, id=verdict.id)
    title = "Take back the alarm of the member that is gone"
    builder.stage(title, [step], waits_for=[verdict.host])


def take_out(
    builder: PlanBuilder, cluster: Cluster, verdict: MemberVerdict, acting: str, why: str = ""
) -> list[Step]:
    """Fence the host, then remove its member: what is removed can no longer come back.

    The other way round where the fence alone would cost the quorum that the removal needs.
    """
    fence = ("a removed member must not come back with its old identity",)
    reason = why or f"{cluster.name(verdict.host)} is being replaced: {verdict.why}"
    member = _listed(cluster, verdict)
    diagnosis = cluster.diagnosis
    left = diagnosis.serving - (1 if verdict.serves and verdict.voter else 0)
    fence_first = member is None or left >= quorum(diagnosis.voters) or not verdict.serves
    steps = []
    if fence_first:
        steps.append(builder.step(verdict.host, "fence", *fence, reason=reason))
    if member is not None:
        steps.append(
            builder.step(
                acting, "member_remove", "the dead leave before the new one comes",
                id=member.id, name=member.name, peer_urls=member.peer_urls,
            )
        )  # fmt: skip
    if not fence_first:
        steps.append(builder.step(verdict.host, "fence", *fence, reason=reason))
    return steps


def _listed(cluster: Cluster, verdict: MemberVerdict) -> Optional[Member]:
    """The row of the member list that is this host's member, or None for no member."""
    return next((m for m in cluster.members if verdict.id and m.id == verdict.id), None)


def require_replaceable(cluster: Cluster, verdict: MemberVerdict) -> None:
    """Raise Refused where nothing can be done on the host, or nothing has to be."""
    host = verdict.host
    if cluster.survey(host) is None:
        raise Refused(
            f"{host}: {verdict.why}",
            "nothing can be done on a host that does not answer",
            f"power it on or make SSH to it work, then: fab rescue-node {host}",
        )
    if verdict.state is MemberState.HEALTHY:
        raise Refused(
            f"{host}: {verdict.why}", "a member that serves needs no replacement", "fab diagnose"
        )
    why = why_not_rejoin(cluster, host)
    if why:
        raise Refused(
            f"{host}: {why}",
            "nothing says how a new member there is meant to run; the old one stays until then",
            f"put etcd's definition back on {host} (from a backup of it, or made anew by kubeadm), "
            f"then: fab rescue-node {host}",
        )
    learner = next(
        (m for m in cluster.diagnosis.members if m.id and not m.voter and m.host != host), None
    )
    if learner is not None:
        raise Refused(
            f"{learner.host} is a learner: {learner.why}",
            "etcd takes one learner at a time",
            f"fab rescue-node {learner.host}",
        )


def require_quorum(cluster: Cluster, verdict: MemberVerdict) -> None:
    """Every change of this recipe, computed before and after."""

    def remove(voters: int, healthy: int) -> Change:
        if verdict.id and verdict.voter:
            return quorum_after_remove(voters, healthy, verdict.serves)
        return Change(voters, healthy)

    diagnosis = cluster.diagnosis
    outcome = simulate(
        diagnosis.voters, diagnosis.serving, remove, quorum_after_add_learner, quorum_after_promote
    )
    if not outcome.is_allowed:
        raise Refused(
            f"{verdict.host}: {outcome.refused}",
            "a member is replaced only where the quorum holds before and after every change",
            _next_for(cluster, verdict),
        )


def _next_for(cluster: Cluster, verdict: MemberVerdict) -> str:
    other = next((m for m in cluster.voters() if not m.serves and m.host != verdict.host), None)
    return f"fab rescue-node {other.host}" if other else "fab snapshot, then: fab diagnose"


def promise_of(cluster: Cluster, voters: tuple[str, ...]) -> Promise:
    """These serve at the end, at least at the revision that is served now."""
    return Promise(voters, cluster.diagnosis.cluster_id, cluster.revision(cluster.serving()))


def remove_member(cluster: Cluster, name: str, created: float) -> Plan:
    """Plan the removal of a member whose host is gone for good; the cluster stays smaller.

    name: of the host or of the member, or the member's ID. Raises Refused for one that lives, or
    whose removal would cost the quorum.
    """
    verdict = cluster.verdict(name)
    member = _listed(cluster, verdict)
    if member is None:
        raise Refused(
            f"{name} is no member of this cluster", "there is nothing to remove", "fab diagnose"
        )
    _require_gone(cluster, verdict)
    acting = acting_host(cluster, verdict.host)
    builder = PlanBuilder("remove-member", f"{verdict.host}: {verdict.why}", cluster.addresses)
    builder.stage(
        f"Remove {verdict.host}",
        [
            builder.step(
                acting, "member_remove", "its host is gone, by the operator's word",
                id=member.id, name=member.name, peer_urls=member.peer_urls,
            )
        ],
    )  # fmt: skip
    serving = sorted(cluster.serving())
    promise = promise_of(cluster, tuple(serving))
    said: tuple[str, ...] = ()
    if is_openshift311(cluster):
        settle_remaining(builder, cluster, verdict.host)
        said = unseen(cluster, verdict.host)
    else:
        voters = [m.host for m in cluster.voters() if m.host != verdict.host]
        tidy_manifests(builder, cluster, voters, serving)
    return builder.build(created, promise, said, declared_lost=(verdict.host,))


def _require_gone(cluster: Cluster, verdict: MemberVerdict) -> None:
    host = verdict.host
    if cluster.survey(host) is not None or verdict.seen_alive:
        raise Refused(
            f"{host}: {verdict.seen_alive or verdict.why}",
            "only a member whose host is gone for good is removed without a replacement",
            f"fab rescue-node {host}",
        )
    if not verdict.voter:
        return
    diagnosis = cluster.diagnosis
    change = quorum_after_remove(diagnosis.voters, diagnosis.serving, verdict.serves)
    if not change.is_allowed:
        raise Refused(
            f"{host}: {change.refused}",
            "a member is removed only where the quorum holds before and after",
            _next_for(cluster, verdict),
        )
