"""From a snapshot: one member restored and the others joining it, or all members at once.

Order and reasons: the new data is made beside the old before anything stops; every member that is
not restored is fenced (or declared lost by its typed name) before the old cluster's data is moved
aside; the restored cluster has a token of its own, so that no old member takes it for its own; and
what remembers later revisions is led past them, or restarted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from agent.model.codec import to_plain
from agent.model.plan import Plan, Promise, Step
from agent.model.verdict import MemberVerdict
from agent.recipes.builder import PlanBuilder
from agent.recipes.cluster import (
    CLIENT_PORT,
    PEER_PORT,
    Cluster,
    Definition,
    asks_peers_first,
    initial_cluster,
    port_of,
)
from agent.recipes.openshift4 import roll_out
from agent.recipes.rejoin import rejoin, tidy_manifests, why_not_rejoin
from agent.recipes.reseed import endpoints
from agent.recipes.restore_wish import (
    Wish,
    listed,
    losses_of,
    others_of,
    require_declared,
    require_definition,
    require_given_up,
    require_same_cluster,
    summary_of,
)

RESTORE = "restore"


def restore(cluster: Cluster, created: float, wish: Wish) -> Plan:
    """Plan the restore. Raises Refused where a rule forbids it.

    One host: it is restored alone, and the others rejoin it. Several: they are restored together,
    each with its own name and URL and the same members; no other host joins.
    """
    require_given_up(cluster, wish)
    require_same_cluster(cluster, wish)
    others = others_of(cluster, wish)
    require_declared(cluster, others, wish)
    definitions = {host: require_definition(cluster, host) for host in wish.hosts}
    maker = _Maker(cluster, wish, others, definitions)
    return maker.one(created) if len(wish.hosts) == 1 else maker.all(created)


class _Maker:
    """Builds the stages of one restore."""

    def __init__(
        self,
        cluster: Cluster,
        wish: Wish,
        others: Sequence[MemberVerdict],
        definitions: dict[str, Definition],
    ) -> None:
        self._cluster, self._wish, self._others = cluster, wish, others
        self._definitions = definitions
        self._builder = PlanBuilder(RESTORE, summary_of(wish), cluster.addresses)
        self._step = self._builder.step

    def one(self, created: float) -> Plan:
        """One host is restored, the others rejoin it."""
        builder, cluster = self._builder, self._cluster
        (host,) = self._wish.hosts
        rejoining, left = self._rejoining()
        self._prepare([h for h in rejoining if cluster.survey(h)])
        builder.stage("Prove the restored data, with nothing stopped", [self._prove(host)])
        self._fence()
        self._stop([host])
        self._swap([host], scratch=True)
        self._start([host])
        self._renew([host])
        members = [host]
        for joiner in rejoining:
            rejoin(builder, cluster, joiner, members, acting=host)
            self._renew([joiner], waits_for=[joiner])
            members.append(joiner)
        self._renew(self._seen_beside([host, *rejoining]))
        tidy_manifests(builder, cluster, members, members)
        roll_out(builder, cluster, host, members, created)
        return self._build(created, members, left)

    def all(self, created: float) -> Plan:
        """Several hosts are restored together; their definitions stay as they are."""
        hosts = self._wish.hosts
        self._prepare([])
        self._fence()
        self._stop(hosts)
        self._swap(hosts, scratch=False)
        self._start(hosts)
        why = "before a dead API server's address is handed out"
        revision = self._revision
        steps = [self._step(hosts[0], "remove_stale_leases", why, revision=revision)]
        self._builder.stage("Remove the API server leases of the snapshot", steps)
        self._renew([*hosts, *self._seen_beside(hosts)])
        roll_out(self._builder, self._cluster, hosts[0], hosts, created)
        left = [
            f"{m.host} is not restored: it is no part of this; then: fab rescue-node {m.host}"
            for m in self._others
        ]
        return self._build(created, hosts, left)

    @property
    def _revision(self) -> int:
        """Where the restored cluster begins."""
        wish = self._wish
        return wish.bump.revision if wish.bump else wish.source.revision

    def _is_seen(self, member: MemberVerdict) -> bool:
        return self._cluster.survey(member.host) is not None

    def _data(self, host: str) -> dict[str, str]:
        config = self._cluster.config(host)
        return {"data_dir": config.data_dir} if config else {}

    def _prepare(self, joining: Sequence[str]) -> None:
        wish, size, steps = self._wish, self._wish.source.size, []
        for host in wish.hosts:
            definition = wish.definitions.get(host)
            if definition is not None:
                why = "nothing here says how etcd is meant to run; the backup set does"
                file = to_plain(definition)
                steps.append(self._step(host, "place_definition", why, **file))
            why = "room for the restored data, and an etcd to run, before anything stops"
            steps.append(self._step(host, "preflight", why, copies=False, incoming=size))
            steps.append(self._restore(host))
            if host in wish.resources:
                archive, digest = wish.resources[host]
                why = "of one set with the snapshot; what is there stays"
                steps.append(
                    self._step(
                        host, "restore_static_resources", why, archive=archive, sha256=digest
                    )
                )
        why = "room for the new data, and an etcd to rejoin with"
        for host in joining:
            steps.append(self._step(host, "preflight", why, copies=False, incoming=size))
        title = "Restore the snapshot beside the data, with nothing stopped"
        self._builder.stage(title, steps, parallel=True)

    def _restore(self, host: str) -> Step:
        wish, cluster = self._wish, self._cluster
        source = wish.source
        args: dict[str, Any] = {
            "snapshot": source.paths[host],
            "sha256": source.sha256,
            "name": cluster.name(host),
            "peer_urls": cluster.peer_urls(host),
            "initial_cluster": initial_cluster(cluster, wish.hosts),
            "token": wish.token,
            "bump": wish.bump.amount if wish.bump else 0,
            "copy": source.copy,
            "tool": wish.tool,
            "discard": wish.discard,
        }
        why = "a fresh token: no old member takes the restored cluster for its own"
        return self._step(host, "restore_snapshot", why, **args, **self._data(host))

    def _prove(self, host: str) -> Step:
        wish = self._wish
        counted = {"keys": wish.source.keys} if wish.rehearse else {}
        why = "what is restored serves, before anything is stopped for it"
        return self._step(
            host, "prove_restored", why, revision=self._revision, **counted, **self._data(host)
        )

    def _fence(self) -> None:
        steps = [
            self._step(
                m.host, "fence", "with the old data it would be a rival of the restored cluster",
                reason=f"the cluster is being restored from {self._wish.source.label}",
            )
            for m in self._others
            if self._is_seen(m)
        ]  # fmt: skip
        self._builder.stage("Fence the other members", steps, parallel=True)

    def _look(self, why: str) -> Step:
        """One look, from the first host restored, at everybody that is not."""
        found = [*endpoints(self._cluster, [m.host for m in self._others])]
        for name, member in listed(self._cluster, self._wish):
            for url in member.peer_urls:
                address = urlsplit(url).hostname or ""
                found += [(name, address, port_of(url, PEER_PORT)), (name, address, CLIENT_PORT)]
        looked_at = list(dict.fromkeys(found))
        return self._step(self._wish.hosts[0], "peers_silent", why, endpoints=looked_at)

    def _stop(self, hosts: Sequence[str]) -> None:
        watch = "a member that came back could serve writes that this restore would throw away"
        self._builder.stage("Look for members that were not seen", [self._look(watch)])
        # A leader that is told to stop hands its office over first, and where nobody is left who
        # takes it that lasts 7 s (etcd server/etcdserver/server.go: TransferLeadership).
        leads = [host for host in hosts if host == self._cluster.diagnosis.leader]
        follow = [host for host in hosts if host not in leads]
        for turn in (follow, leads):
            steps = [step for host in turn for step in self._stop_one(host)]
            self._builder.stage(f"Stop etcd on {', '.join(turn)}", steps, parallel=True)

    def _stop_one(self, host: str) -> Iterator[Step]:
        definition = self._definitions[host]
        if not definition.is_parked:
            why = "nothing must start it meanwhile"
            file = {"path": definition.path, "sha256": definition.sha256}
            yield self._step(host, "park_definition", why, **file)
        yield self._step(host, "stop_etcd", "data is moved only when nobody writes to it")

    def _swap(self, hosts: Sequence[str], scratch: bool) -> None:
        steps = []
        for host in hosts:
            data = self._data(host)
            why = "one rename; the old data stays in quarantine"
            steps.append(self._step(host, "relocate_data", why, **data))
            steps.append(self._step(host, "install_data", "one rename", scratch=scratch, **data))
        self._builder.stage("Put the restored data in place", steps, parallel=True)

    def _start(self, hosts: Sequence[str]) -> None:
        builder, cluster = self._builder, self._cluster
        why = "its back-off would delay the start by up to 5 min"
        held = [host for host in hosts if cluster.is_crash_looping(host)]
        renewed = [self._step(host, "restart_kubelet", why) for host in held]
        builder.stage("Clear the kubelet's back-off", renewed, parallel=True)
        look = self._look("the last look before the point of no return")
        builder.stage("Look once more", [look])
        one_by_one = any(asks_peers_first(cluster.config(host)) for host in hosts)
        starts = []
        for host in hosts:
            definition = self._definitions[host]
            file = {"path": definition.path, "sha256": definition.sha256}
            why = "unchanged; the data says who it is, whatever --initial-cluster says"
            starts.append(builder.turning_point(host, "unpark_definition", why, **file))
            if one_by_one and host != hosts[-1]:
                why = "started together they would wait 7 s and more for each other's hashes"
                starts.append(self._step(host, "wait_peer_port", why))
        title = f"Start etcd on {', '.join(hosts)}"
        builder.stage(title, starts, parallel=not one_by_one)
        proof = []
        for host in hosts:
            proof.append(self._step(host, "wait_serving", "here the outage ends"))
            if cluster.is_fenced(host):
                proof.append(self._step(host, "lift_fence", "it serves again"))
        builder.stage("Wait until the restored cluster serves", proof, parallel=True)

    def _seen_beside(self, hosts: Sequence[str]) -> list[str]:
        """All other hosts that were surveyed: one without etcd may have an API server, too."""
        cluster = self._cluster
        return [h for h in cluster.addresses if cluster.survey(h) and h not in hosts]

    def _renew(self, hosts: Sequence[str], waits_for: Sequence[str] = ()) -> None:
        """Restart what remembers later revisions, where those could not be raised."""
        if self._wish.bump is not None:
            return
        why = "the tool here cannot raise the revision; whoever remembers later ones misses events"
        steps = [self._step(host, "restart_control_plane", why) for host in hosts]
        title = f"Restart the control plane of {', '.join(hosts)}"
        self._builder.stage(title, steps, waits_for=waits_for, parallel=True)

    def _rejoining(self) -> tuple[list[str], list[str]]:
        """(hosts that rejoin, those that answer first; what to say of the others)."""
        hosts, left = [], []
        for member in self._others:
            why = why_not_rejoin(self._cluster, member.host)
            if member.host not in self._cluster.addresses:
                left.append(f"{member.host} does not rejoin: no host that was given is it")
            elif why:
                left.append(
                    f"{member.host} does not rejoin: {why}; then: fab rescue-node {member.host}"
                )
            else:
                hosts.append(member.host)
        seen = self._cluster.survey
        return sorted(hosts, key=lambda h: (seen(h) is None, h)), left

    def _build(self, created: float, voters: Sequence[str], left: Sequence[str]) -> Plan:
        losses = [*losses_of(self._cluster, self._wish), *left]
        promise = Promise(tuple(voters), "", self._revision)
        return self._builder.build(created, promise, losses, self._wish.lost)
