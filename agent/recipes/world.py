"""The state of a cluster while a plan is thought through, and what stays the same meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from agent.diagnosis.advice import declares
from agent.diagnosis.quorum import quorum
from agent.model.plan import Plan, Step
from agent.model.verdict import ClusterState
from agent.recipes.cluster import Cluster


@dataclass
class World:
    """What is where. All sets hold host names (a ghost's name or ID for a member without host).

    runs: an etcd under the kubelet that serves, or will once there is a quorum. stopped: proved by
    this plan. ours: fenced by it. data: host → original, relocated or installed. prepared: a copy
    that may be installed. shown: learners seen to run under the kubelet. unproved: promoted, and
    not yet seen to serve. silent: names that did not answer when last looked; `looked` is the host
    that looked in the step before, `guarded` the one whose peer port is guarded. quorate: reads
    are answered. seed: the host whose membership was rewritten; born: it was started again.
    cleaned: the leases of API servers that a snapshot held are gone. renewed: hosts whose control
    plane was restarted. api: what was done through the Kubernetes API, in words. balanced: masters
    that the load balancer sends nobody to any more; retired: masters whose API was stopped for
    good; holders: masters that got the CA's files from another.
    """

    voters: set[str]
    learners: set[str]
    serving: set[str]
    runs: set[str]
    definition: dict[str, str]
    fenced: set[str]
    quorate: bool
    data: dict[str, str] = field(default_factory=dict)
    stopped: set[str] = field(default_factory=set)
    ours: set[str] = field(default_factory=set)
    copied: set[str] = field(default_factory=set)
    prepared: set[str] = field(default_factory=set)
    shown: set[str] = field(default_factory=set)
    unproved: set[str] = field(default_factory=set)
    preflighted: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    guarded: str = ""
    restarting: set[str] = field(default_factory=set)
    looked: str = ""
    lenders: set[tuple[str, str]] = field(default_factory=set)
    defragmented: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    disturbed: bool = False
    seed: str = ""
    born: bool = False
    cleaned: bool = False
    renewed: set[str] = field(default_factory=set)
    balanced: set[str] = field(default_factory=set)
    retired: set[str] = field(default_factory=set)
    holders: set[str] = field(default_factory=set)
    api: set[str] = field(default_factory=set)

    def copy(self) -> World:
        """A world that goes its own way from here."""
        values: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            values[each.name] = value.copy() if isinstance(value, (set, dict)) else value
        return World(**values)

    def has_quorum(self, without: str = "") -> bool:
        """True if the voters that serve, one perhaps left out, are a quorum."""
        return len((self.serving & self.voters) - {without}) >= quorum(len(self.voters))

    def park(self, host: str) -> None:
        """The definition leaves its place: etcd there ends."""
        if self.definition.get(host, "") != "missing":
            self.definition[host] = "parked"
        self.runs.discard(host)
        self.serving.discard(host)
        self.shown.discard(host)
        self.disturbed = True


@dataclass(frozen=True)
class Scene:
    """What does not change while a plan runs. urls: host → its peer URLs.

    reseeds: the cluster begins anew, from one member's data or from a snapshot. restores: hosts
    whose data comes from a snapshot. discards: by the operator's word, what is served is given up.
    """

    plan: Plan
    cluster: Cluster
    urls: dict[str, frozenset[str]]
    ids: dict[str, str]
    voters: frozenset[str]
    lost: frozenset[str]
    surveyed: frozenset[str]
    fenced: frozenset[str]
    reseeds: bool
    steady: bool
    restores: frozenset[str] = frozenset()
    discards: bool = False

    @property
    def seeds(self) -> frozenset[str]:
        """Hosts that the new cluster begins on; none where the cluster goes on."""
        if self.restores or not self.reseeds:
            return self.restores
        return frozenset({self.cluster.diagnosis.target})

    def others(self, host: str) -> frozenset[str]:
        """The other voters that there were at the start."""
        return self.voters - {host}

    def members_at(self, urls: Iterable[str], rather: str = "") -> str:
        """The host whose member has one of these peer URLs; `rather` where several could."""
        wanted = set(urls)
        found = [host for host, known in self.urls.items() if known & wanted]
        return rather if rather in found else found[0] if found else ""


_BEGINS = frozenset({"seed_cluster", "seed_in_manifest", "restore_snapshot"})


def scene_of(plan: Plan, cluster: Cluster) -> Scene:
    """What a plan is held against."""
    members = cluster.diagnosis.members
    hosts = [m.host for m in members]
    serving = {m.host for m in members if m.id and m.voter and m.serves}
    voters = frozenset(m.host for m in members if m.id and m.voter)
    restores = [s for s in plan.steps() if s.action == "restore_snapshot"]
    return Scene(
        plan=plan,
        cluster=cluster,
        urls={host: frozenset(cluster.all_peer_urls(host)) for host in hosts},
        ids={m.id: m.host for m in members if m.id},
        voters=voters,
        lost=frozenset(m.host for m in members if declares(plan.declared_lost, m)),
        surveyed=frozenset(host for host in hosts if cluster.survey(host) is not None),
        fenced=frozenset(host for host in hosts if cluster.is_fenced(host)),
        reseeds=any(s.action in _BEGINS for s in plan.steps()),
        steady=len(serving) >= quorum(len(voters)),
        restores=frozenset(step.host for step in restores),
        discards=any(step.args.get("discard") is True for step in restores),
    )


def world_of(scene: Scene) -> World:
    """The state that the diagnosis found."""
    diagnosis = scene.cluster.diagnosis
    members = diagnosis.members
    return World(
        voters=set(scene.voters),
        learners={m.host for m in members if m.id and not m.voter},
        serving={m.host for m in members if m.id and m.serves},
        runs={m.host for m in members if m.runs},
        definition={m.host: m.definition for m in members},
        fenced=set(scene.fenced),
        quorate=diagnosis.state in (ClusterState.HEALTHY, ClusterState.DEGRADED),
    )


def text_of(step: Step, name: str) -> str:
    """An argument of a step that is a text; empty where it is none."""
    value = step.args.get(name, "")
    return value if isinstance(value, str) else ""


def texts_of(step: Step, name: str) -> list[str]:
    """An argument of a step that is a list of texts."""
    value = step.args.get(name, ())
    return [v for v in value if isinstance(v, str)] if isinstance(value, (list, tuple)) else []
