"""Quorum lost: one survivor becomes a cluster of its own, the others rejoin it one by one.

Order and reasons: everything that can be prepared is prepared before anything stops; every other
member is fenced (or declared lost by its typed name) before the survivor's membership is rewritten;
that happens on a copy, with a scratch etcd; only then is the original moved aside.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from agent.diagnosis.advice import declares
from agent.errors import Refused
from agent.model.plan import Plan, Promise, Step
from agent.model.verdict import MemberVerdict
from agent.recipes.builder import PlanBuilder
from agent.recipes.cluster import CLIENT_PORT, PEER_PORT, Cluster, Definition, port_of
from agent.recipes.openshift4 import roll_out
from agent.recipes.rejoin import incoming, rejoin, tidy_manifests, why_not_rejoin

Endpoint = tuple[str, str, int]


@dataclass(frozen=True)
class _Seed:
    """The survivor. silent: what must not answer while its membership is rewritten."""

    host: str
    definition: Definition
    data_dir: str
    silent: tuple[Endpoint, ...]
    in_manifest: bool

    @property
    def file(self) -> dict[str, str]:
        """The definition, as arguments of a step."""
        return {"path": self.definition.path, "sha256": self.definition.sha256}

    @property
    def data(self) -> dict[str, str]:
        """The data directory, as arguments of a step; nothing where only the definition says it."""
        return {"data_dir": self.data_dir} if self.data_dir else {}


def reseed(
    cluster: Cluster, created: float, declared_lost: Sequence[str] = (), in_manifest: bool = False
) -> Plan:
    """Plan the recovery from a lost quorum. The diagnosis has said that nothing else will do.

    Raises Refused where the diagnosis does not offer it, where the survivor's definition is not
    known, or where a voter that was not seen is not declared lost.
    """
    diagnosis = cluster.diagnosis
    seed = _seed(cluster, in_manifest)
    others = [m for m in diagnosis.members if m.id and m.host != seed.host]
    _require_declared(cluster, others, declared_lost)
    reachable = [m.host for m in others if cluster.survey(m.host) is not None]
    builder = PlanBuilder("reseed", diagnosis.recipe_why, cluster.addresses)
    rejoining, left = _rejoining(cluster, others)
    _prepare(builder, cluster, seed, [host for host in reachable if host in rejoining])
    _fence_others(builder, reachable)
    _stop_and_seed(builder, cluster, seed)
    members = [seed.host]
    for host in rejoining:
        rejoin(builder, cluster, host, members, acting=seed.host)
        members.append(host)
    tidy_manifests(builder, cluster, members, members)
    roll_out(builder, cluster, seed.host, members, created)
    revision = cluster.verdict(seed.host).revision
    promise = Promise(tuple(members), diagnosis.cluster_id, revision)
    return builder.build(created, promise, (*diagnosis.losses, *left), declared_lost)


def _seed(cluster: Cluster, in_manifest: bool) -> _Seed:
    diagnosis = cluster.diagnosis
    if diagnosis.recipe != "reseed":
        first = next((r for r in diagnosis.refusals if r.recipe == "reseed"), None)
        raise Refused(
            first.seen if first else f"this diagnosis offers {diagnosis.recipe or 'no recipe'}",
            first.why if first else "going on from one member drops what the others have",
            first.next if first else "fab diagnose",
        )
    host = diagnosis.target
    definition = cluster.definition(host)
    if definition is None:
        raise Refused(
            f"{host}: no etcd definition, in place or parked",
            "nothing says how its etcd is meant to run",
            f"put the definition back on {host}, then run this again",
        )
    config, survey = cluster.config(host), cluster.survey(host)
    if in_manifest and config is not None and config.scripted:
        raise Refused(
            f"{host}: {definition.path} starts etcd in a shell script",
            "no flag is written into a script: it could not be taken off again with certainty",
            "fab rescue-quorum   (without --in-manifest)",
        )
    offline = survey.offline if survey else None
    data_dir = config.data_dir if config else offline.data_dir if offline else ""
    silent = endpoints(cluster, [m.host for m in diagnosis.members if m.id and m.host != host])
    return _Seed(host, definition, data_dir, silent, in_manifest)


def _require_declared(
    cluster: Cluster, others: Sequence[MemberVerdict], declared: Collection[str]
) -> None:
    """A voter that was not seen may live; only the operator's word says that it does not."""
    unseen = [m for m in others if m.voter and cluster.survey(m.host) is None]
    missing = [m.host for m in unseen if not declares(declared, m)]
    if missing:
        words = " ".join(f"--lost {host}" for host in missing)
        raise Refused(
            f"{', '.join(missing)}: not surveyed, and not declared lost",
            "a member that still runs would be a rival of the rescued cluster",
            f"make SSH to them work; or, if they are off and stay off: fab rescue-quorum {words}",
        )


def _rejoining(
    cluster: Cluster, others: Sequence[MemberVerdict]
) -> tuple[list[str], tuple[str, ...]]:
    """(hosts that rejoin, those that answer first; what to say of the ones that do not)."""
    known = cluster.addresses
    hosts, left = [], []
    for member in others:
        if member.host not in known:
            why, then = "no host that was given is it", "it stays out of the cluster"
        else:
            why = why_not_rejoin(cluster, member.host)
            then = f"it stays fenced; put one back, then: fab rescue-node {member.host}"
        if why:
            left.append(f"{member.host} does not rejoin: {why}; {then}")
        else:
            hosts.append(member.host)
    return sorted(hosts, key=lambda h: (cluster.survey(h) is None, h)), tuple(left)


def _prepare(builder: PlanBuilder, cluster: Cluster, seed: _Seed, others: Sequence[str]) -> None:
    steps = [
        builder.step(
            seed.host, "preflight", "room for a copy, and an etcd to run, before anything stops",
            copies=True, binary=not seed.in_manifest,
        )
    ]  # fmt: skip
    steps += [
        builder.step(
            host,
            "preflight",
            "it will need room for new data, and an etcd to rejoin with",
            copies=False,
            incoming=incoming(cluster, [seed.host]),
        )
        for host in others
    ]
    builder.stage("Prepare, with nothing stopped", steps, parallel=True)


def _fence_others(builder: PlanBuilder, others: Sequence[str]) -> None:
    steps = [
        builder.step(
            host, "fence", "an old member that runs on would be a rival of the rescued cluster",
            reason="the cluster is being rescued from another member's data",
        )
        for host in others
    ]  # fmt: skip
    builder.stage("Fence the other members", steps, parallel=True)


def endpoints(cluster: Cluster, hosts: Sequence[str]) -> tuple[Endpoint, ...]:
    """Peer and client ports of every other member: none may answer at the turning point."""
    found: list[Endpoint] = []
    for host in hosts:
        for url in cluster.all_peer_urls(host):
            try:
                address = urlsplit(url).hostname or ""
            except ValueError:
                address = ""
            address = address or cluster.addresses.get(host, host)
            found += [(host, address, port_of(url, PEER_PORT)), (host, address, CLIENT_PORT)]
    return tuple(dict.fromkeys(found))


def _stop_and_seed(builder: PlanBuilder, cluster: Cluster, seed: _Seed) -> None:
    step, host = builder.step, seed.host
    watch = "a member that came back could serve writes that this rescue would throw away"
    stop = [step(host, "peers_silent", watch, endpoints=seed.silent)]
    if not seed.definition.is_parked:
        why = "nothing may start it meanwhile"
        stop.append(step(host, "park_definition", why, **seed.file))
    stop.append(step(host, "stop_etcd", "data is copied only when nobody writes to it"))
    builder.stage(f"Stop etcd on {host}", stop)
    steps = [step(host, "copy_data", "the original is kept as it is, bit for bit", **seed.data)]
    if not seed.in_manifest:
        why = "removes the lost members; the flag enters no file"
        steps.append(step(host, "seed_cluster", why, **seed.data))
    original = "one rename; the original stays in quarantine"
    steps += [
        step(host, "relocate_data", original, **seed.data),
        step(host, "install_data", "one rename", scratch=not seed.in_manifest, **seed.data),
    ]
    builder.stage(f"Make {host} a cluster of its own, on a copy", steps)
    builder.stage(f"Start etcd on {host}", _start(builder, cluster, seed))


def _start(builder: PlanBuilder, cluster: Cluster, seed: _Seed) -> list[Step]:
    step, host = builder.step, seed.host
    steps = []
    if cluster.is_crash_looping(host):
        why = "its back-off would delay the start by up to 5 min"
        steps.append(step(host, "restart_kubelet", why))
    watch = "the last look before the point of no return"
    steps.append(step(host, "peers_silent", watch, endpoints=seed.silent))
    if seed.in_manifest:
        why = "no etcd can be run outside the kubelet here; the flag leaves in the same step"
        steps.append(step(host, "seed_in_manifest", why, **seed.file))
    else:
        guard = "old members that come back now must not find the survivor silent"
        steps.append(step(host, "guard_peers", guard))
        why = "unchanged, so it is started at once"
        steps.append(builder.turning_point(host, "unpark_definition", why, **seed.file))
    steps.append(step(host, "wait_serving", "here the outage ends"))
    if not seed.in_manifest:
        steps.append(step(host, "unguard_peers", "etcd itself turns them away now"))
    if cluster.is_fenced(host):
        steps.append(step(host, "lift_fence", "it serves again"))
    return steps
