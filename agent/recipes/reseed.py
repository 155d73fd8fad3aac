"""Quorum lost: one survivor becomes a cluster of its own, the others rejoin it one by one.

Order and reasons: everything that can be prepared is prepared before anything stops; every other
member is fenced (or declared lost by its typed name) before the survivor's membership is rewritten;
that happens on a copy, with a scratch etcd; only then is the original moved aside.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from agent.errors import Refused
from agent.model.facts import EtcdConfig
from agent.model.plan import Plan, Promise, Step
from agent.recipes.builder import PlanBuilder
from agent.recipes.cluster import CLIENT_PORT, PEER_PORT, Cluster, port_of
from agent.recipes.rejoin import rejoin, tidy_manifests


def reseed(
    cluster: Cluster, created: float, declared_lost: Sequence[str] = (), in_manifest: bool = False
) -> Plan:
    """Plan the recovery from a lost quorum. The diagnosis has said that nothing else will do.

    Raises Refused where the survivor's definition is not known.
    """
    diagnosis = cluster.diagnosis
    seed = diagnosis.target
    config = cluster.config(seed)
    if config is None:
        raise Refused(
            f"{seed}: no etcd definition, in place or parked",
            "nothing says how its etcd is meant to run",
            f"put the definition back on {seed}, then run this again",
        )
    known = cluster.addresses  # a member that no host answers for has nowhere to rejoin on
    others = [m.host for m in diagnosis.members if m.id and m.host in known and m.host != seed]
    rejoining = sorted(others, key=lambda h: (cluster.survey(h) is None, h))
    reachable = [h for h in rejoining if cluster.survey(h) is not None]
    builder = PlanBuilder("reseed", diagnosis.recipe_why, cluster.addresses)
    _prepare(builder, cluster, seed, reachable, in_manifest)
    _fence_others(builder, cluster, reachable)
    silent = _endpoints(cluster, rejoining)
    _stop_and_seed(builder, seed, config, silent, in_manifest)
    members = [seed]
    for host in rejoining:
        rejoin(builder, cluster, host, members, acting=seed)
        members.append(host)
    tidy_manifests(builder, cluster, members)
    verdict = cluster.verdict(seed)
    promise = Promise(tuple(members), diagnosis.cluster_id, verdict.revision)
    return builder.build(created, promise, diagnosis.losses, declared_lost)


def _prepare(
    builder: PlanBuilder, cluster: Cluster, seed: str, others: Sequence[str], in_manifest: bool
) -> None:
    steps = [
        builder.step(
            seed, "preflight", "room for a copy, and an etcd to run, before anything stops",
            copies=True, binary=not in_manifest,
        )
    ]  # fmt: skip
    steps += [
        builder.step(host, "preflight", "it will need an etcd to rejoin with", copies=False)
        for host in others
        if cluster.config(host) is not None
    ]
    builder.stage("Prepare, with nothing stopped", steps, parallel=True)


def _fence_others(builder: PlanBuilder, cluster: Cluster, others: Sequence[str]) -> None:
    steps = [
        builder.step(
            host, "fence", "an old member that runs on would be a rival of the rescued cluster",
            reason="the cluster is being rescued from another member's data",
        )
        for host in others
    ]  # fmt: skip
    builder.stage("Fence the other members", steps, parallel=True)


def _endpoints(cluster: Cluster, hosts: Sequence[str]) -> list[tuple[str, str, int]]:
    """Peer and client ports of every other member: none may answer at the turning point."""
    found: list[tuple[str, str, int]] = []
    for host in hosts:
        url = cluster.peer_urls(host)[0]
        address = urlsplit(url).hostname or cluster.addresses.get(host, host)
        found += [(host, address, port_of(url, PEER_PORT)), (host, address, CLIENT_PORT)]
    return found


def _stop_and_seed(
    builder: PlanBuilder,
    seed: str,
    config: EtcdConfig,
    silent: Sequence[tuple[str, str, int]],
    in_manifest: bool,
) -> None:
    definition = {"path": config.definition, "sha256": config.sha256}
    data = {"data_dir": config.data_dir}
    step = builder.step
    watch = "a member that came back could serve writes that this rescue would throw away"
    builder.stage(
        f"Stop etcd on {seed}",
        [
            step(seed, "peers_silent", watch, endpoints=silent),
            step(seed, "park_definition", "the kubelet must not run it meanwhile", **definition),
            step(seed, "stop_etcd", "data is copied only when nobody writes to it"),
        ],
    )
    steps = [step(seed, "copy_data", "the original is kept as it is, bit for bit", **data)]
    if not in_manifest:
        steps.append(
            step(seed, "seed_cluster", "removes the lost members; the flag enters no file", **data)
        )
    steps += [
        step(seed, "relocate_data", "one rename; the original stays in quarantine", **data),
        step(seed, "install_data", "one rename", scratch=not in_manifest, **data),
    ]
    builder.stage(f"Make {seed} a cluster of its own, on a copy", steps)
    builder.stage(f"Start etcd on {seed}", _start(builder, seed, definition, silent, in_manifest))


def _start(
    builder: PlanBuilder,
    seed: str,
    definition: dict[str, str],
    silent: Sequence[tuple[str, str, int]],
    in_manifest: bool,
) -> list[Step]:
    watch = "the last look before the point of no return"
    steps = [builder.step(seed, "peers_silent", watch, endpoints=silent)]
    if in_manifest:
        reason = "no etcd can be run outside the kubelet here; the flag leaves in the same step"
        steps.append(builder.step(seed, "seed_in_manifest", reason, **definition))
    else:
        reason = "unchanged, so the kubelet starts it at once"
        steps.append(builder.step(seed, "unpark_definition", reason, **definition))
    steps.append(builder.step(seed, "wait_serving", "here the outage ends"))
    return steps
