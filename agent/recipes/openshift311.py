"""OpenShift 3.11: what every remaining host needs when a member left."""

from __future__ import annotations

from urllib.parse import urlsplit

from agent.model.facts.openshift311 import Master311
from agent.recipes.builder import PlanBuilder
from agent.recipes.cluster import Cluster, initial_cluster

PLATFORM = "openshift311"


def is_openshift311(cluster: Cluster) -> bool:
    """True if the hosts that were surveyed are OpenShift 3.11's."""
    found = {s.platform for o in cluster.observations if (s := o.survey) and s.platform}
    return found == {PLATFORM}


def master_of(cluster: Cluster, host: str) -> Master311:
    """What a host has beside its etcd; nothing for one that was not surveyed."""
    survey = cluster.survey(host)
    return (survey.master311 if survey else None) or Master311(False)


def names_of(cluster: Cluster, host: str) -> tuple[str, ...]:
    """Every name and address by which files of other hosts may mean a host, and no other one.

    An address that several hosts have (of a bridge for containers, or one that moves between them)
    means none of them.
    """
    others = {n for o in cluster.observations if o.host != host for n in _known_by(cluster, o.host)}
    return tuple(sorted(_known_by(cluster, host) - others))


def _known_by(cluster: Cluster, host: str) -> set[str]:
    survey, verdict = cluster.survey(host), cluster.diagnosis.member(host)
    urls = [*cluster.all_peer_urls(host), *cluster.client_urls(host)]
    found = [host, cluster.known_name(host), cluster.addresses.get(host, ""),
             master_of(cluster, host).node, verdict.name if verdict else ""]  # fmt: skip
    found += list(survey.addresses) if survey else []
    found += [urlsplit(url).hostname or "" for url in urls]
    return {name for name in found if name}


def settle_remaining(builder: PlanBuilder, cluster: Cluster, gone: str) -> None:
    """Add the stages that make every remaining host say who is a member now.

    etcd.conf and flannel's endpoints first; then API and controllers, one master after the other.
    Each host has stages of its own, and waits for nobody else: one that does not answer is put off,
    and `resume` finishes it.
    """
    voters = [m.host for m in cluster.voters() if m.host != gone]
    stay = sorted(o.host for o in cluster.observations if o.host != gone)
    if all(cluster.known_name(host) for host in voters):
        for host in (h for h in stay if h in voters):
            _conf(builder, cluster, host, initial_cluster(cluster, voters))
    for host in stay:
        _flannel(builder, cluster, host, names_of(cluster, gone))
    for host in stay:
        _restart(builder, cluster, host)


def _conf(builder: PlanBuilder, cluster: Cluster, host: str, wanted: str) -> None:
    is_seen = cluster.survey(host) is not None
    if is_seen and (cluster.config(host) is None or cluster.restarts_when_changed(host)):
        return
    if is_seen and not cluster.needs_initial_cluster(host, wanted):
        return
    step = builder.step(
        host, "set_conf_members", "an empty member would ask for one that is gone; no restart",
        members=wanted, state="existing",
    )  # fmt: skip
    builder.stage(f"ETCD_INITIAL_CLUSTER on {host}", [step], waits_for=[host])


def _flannel(builder: PlanBuilder, cluster: Cluster, host: str, gone: tuple[str, ...]) -> None:
    if not set(master_of(cluster, host).flannel) & set(gone):
        return
    why = "flannel would go on asking an etcd that is gone"
    step = builder.step(host, "set_flannel_endpoints", why, gone=gone)
    builder.stage(f"flannel's endpoints on {host}", [step], waits_for=[host])


def _restart(builder: PlanBuilder, cluster: Cluster, host: str) -> None:
    steps = [
        builder.step(
            host, "restart_master", "it forgets the member that left; the next one only after it",
            component=component.name,
        )
        for component in master_of(cluster, host).components
        if component.path
    ]  # fmt: skip
    builder.stage(f"Restart API and controllers of {host}", steps, waits_for=[host])


def unseen(cluster: Cluster, gone: str) -> tuple[str, ...]:
    """What is said in the plan of hosts that were not seen: their files are as they were."""
    left = [o.host for o in cluster.observations if o.host != gone and o.survey is None]
    return tuple(
        f"{host} was not surveyed: its flannel endpoints are as they were, and its API and "
        f"controllers were not restarted; its etcd.conf waits for it (fab resume)"
        for host in left
    )
