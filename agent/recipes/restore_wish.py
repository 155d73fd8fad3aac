"""What a restore is asked for, what forbids it, and what the operator must know before a yes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional
from urllib.parse import urlsplit

from agent.diagnosis.advice import RESTART, declares
from agent.diagnosis.origin import Named, judge
from agent.diagnosis.quorum import quorum
from agent.diagnosis.revisions import Bump
from agent.errors import Refused
from agent.model.facts import Member, Observation
from agent.model.verdict import MemberState, MemberVerdict
from agent.recipes.cluster import Cluster, Definition


@dataclass(frozen=True)
class Source:
    """The snapshot, as verified. paths: host → where it lies there. copy: a file without a hash.

    revision, keys: what it holds. label: how the operator called it. named: what it tells of its
    cluster.
    """

    label: str
    paths: dict[str, str]
    sha256: str
    size: int
    revision: int
    keys: int
    copy: bool = False
    named: Named = field(default_factory=Named)


@dataclass(frozen=True)
class FromSet:
    """A definition of the backup set. source: where the file lies on its host; path: its place."""

    source: str
    path: str
    sha256: str


@dataclass(frozen=True)
class Wish:
    """What the operator asked for, and what was found out for it.

    hosts: those restored; one, or all of them at once. bump: None where a tool cannot raise the
    revision, and the control plane is restarted instead. lost: declared so. discard: given up by
    the operator's word, what is served or could be. tool: a path on the hosts. rehearse: count the
    keys of the restored data before anything stops. named: members that the snapshot lists, where
    no host's data tells of any: each must be a host that was looked at, or be declared lost.
    definitions: host → the one of the backup set, for a host that has none; the cluster is given as
    if it were parked there. resources: host → (archive of static pod resources that lies there and
    is of one set with the snapshot, its sha256). other_cluster: it may be of another cluster.
    """

    source: Source
    hosts: tuple[str, ...]
    token: str
    bump: Optional[Bump]
    lost: tuple[str, ...] = ()
    discard: bool = False
    tool: str = ""
    rehearse: bool = True
    named: tuple[Member, ...] = ()
    definitions: Mapping[str, FromSet] = field(default_factory=dict)
    resources: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    other_cluster: bool = False


def needed_names(cluster: Cluster, wish: Wish) -> tuple[tuple[str, str], ...]:
    """(name, reason) of each member that was not seen and not declared lost yet."""
    then = (
        "if it still runs or comes back it goes on with the old data, beside the restored cluster"
    )
    hosts = [
        (m.host, f"not seen ({m.why}): {then}")
        for m in others_of(cluster, wish)
        if cluster.survey(m.host) is None and not declares(wish.lost, m)
    ]
    unknown = [
        (m.name or m.id, f"in the snapshot's list at {', '.join(m.peer_urls)}: {then}")
        for m in strangers(cluster, wish)
        if not {m.name, m.id} & set(wish.lost)
    ]
    return (*hosts, *unknown)


def strangers(cluster: Cluster, wish: Wish) -> list[Member]:
    """Members that the snapshot lists and no host that was given is."""
    return [m for m in wish.named if not any(_is(o, m) for o in cluster.observations)]


def listed(cluster: Cluster, wish: Wish) -> list[tuple[str, Member]]:
    """(host, or else the member's name; member) of all that the snapshot lists, but those restored.

    A host without a survey has no other address that is known.
    """
    found = []
    for member in wish.named:
        hosts = [o.host for o in cluster.observations if _is(o, member)]
        if not set(hosts) & set(wish.hosts):
            found.append((hosts[0] if hosts else member.name or member.id, member))
    return found


def _is(observation: Observation, member: Member) -> bool:
    """True if that member's name or address is the host's."""
    addresses = {observation.address, observation.host}
    addresses |= set(observation.survey.addresses) if observation.survey else set()
    found = {urlsplit(url).hostname or "" for url in member.peer_urls if "//" in url}
    return member.name == observation.host or bool(addresses & found)


# ---- what forbids it -----------------------------------------------------------------------------


def require_given_up(cluster: Cluster, wish: Wish) -> None:
    """Rule 1: what is served, or comes back by a mere start, is not thrown away by mistake."""
    diagnosis = cluster.diagnosis
    serving = [m.host for m in diagnosis.members if m.serves]
    running = [m.host for m in diagnosis.members if m.voter and m.id and m.runs and m.usable]
    if wish.discard:
        return
    if serving:
        seen = f"linearizable reads work ({', '.join(serving)})"
        why = f"the cluster is there; a restore throws away what it has {_newer(cluster, wish)}"
        then = "fab diagnose"
    elif diagnosis.recipe == RESTART:
        seen = diagnosis.recipe_why
        why = f"that loses nothing; a restore loses what they have {_newer(cluster, wish)}"
        then = f"fab rescue-node {diagnosis.target}"
    elif running and len(running) >= quorum(diagnosis.voters):
        seen = f"{', '.join(running)} run with intact data, and they are a quorum"
        why = "they may serve again in a moment, with everything"
        then = "wait a minute, then: fab diagnose"
    else:
        return
    raise Refused(seen, why, f"{then}; if it is to be thrown away: --discard-current")


def require_same_cluster(cluster: Cluster, wish: Wish) -> None:
    """Refuse a snapshot that is shown to be of another cluster, unless that is meant."""
    origin = judge(wish.source.named, cluster.observations)
    if origin.kind == "other" and not wish.other_cluster:
        raise Refused(
            f"{wish.source.label} is {origin.why}",
            "it would take the place of this cluster's data",
            "fab verify-snapshot FILE shows whose it is; if this is meant, as in a move to new "
            "hosts: --other-cluster",
        )


def _newer(cluster: Cluster, wish: Wish) -> str:
    newest = max((m.revision for m in cluster.diagnosis.members), default=0)
    if newest > wish.source.revision:
        return f"beyond the snapshot: {newest - wish.source.revision} revisions"
    return "beside the snapshot"


def others_of(cluster: Cluster, wish: Wish) -> list[MemberVerdict]:
    """Members and hosts of the cluster that are not restored, and could be in the way."""
    listed = {o.host for o in cluster.observations if any(_is(o, m) for m in wish.named)}
    return [
        m
        for m in cluster.diagnosis.members
        if m.host not in wish.hosts
        and (m.id or m.runs or m.host in listed or m.definition in ("in-place", "parked"))
    ]


def require_declared(cluster: Cluster, others: Sequence[MemberVerdict], wish: Wish) -> None:
    """Rule 4: SSH that fails does not show that etcd is gone."""
    alive = [m for m in others if cluster.survey(m.host) is None and m.seen_alive]
    if alive:
        raise Refused(
            f"{alive[0].host}: {alive[0].seen_alive}, and it cannot be logged in to",
            "a member that goes on with the old data beside the restored one splits the cluster",
            f"make SSH to {alive[0].host} work, or power it off, then run this again",
        )
    missing = [name for name, _reason in needed_names(cluster, wish)]
    if missing:
        words = " ".join(f"--lost {host}" for host in missing)
        raise Refused(
            f"{', '.join(missing)}: not surveyed, and not declared lost",
            "a member that still runs would go on with the old data beside the restored cluster",
            f"make SSH to them work; or, if they are off and stay off: fab restore … {words}",
        )


def require_definition(cluster: Cluster, host: str) -> Definition:
    """The definition of a host to restore. Raises Refused where there is none."""
    definition = cluster.definition(host)
    if definition is None or cluster.config(host) is None:
        raise Refused(
            f"{host}: no etcd definition, in place or parked",
            "nothing says how its etcd is meant to run",
            f"on {host}: kubeadm init phase etcd local --config KUBEADM.yaml (or put the "
            "definition back from a backup set), then run this again",
        )
    return definition


# ---- what to say ---------------------------------------------------------------------------------


def losses_of(cluster: Cluster, wish: Wish) -> list[str]:
    """What the operator must know before saying yes."""
    source, found = wish.source, _strange(cluster, wish)
    gone_back = len(found)
    for member in cluster.diagnosis.members:
        if member.revision > source.revision:
            found.append(
                f"{member.host} is at revision {member.revision}: "
                f"{member.revision - source.revision} revisions after the snapshot are lost"
            )
    if len(found) == gone_back:
        found.append(f"everything that was written after revision {source.revision} is lost")
    if cluster.diagnosis.recipe == "reseed":
        found.append(
            f"{cluster.diagnosis.target} could be kept instead: fab rescue-quorum would keep "
            f"revision {cluster.verdict(cluster.diagnosis.target).revision}"
        )
    absent = [m.host for m in cluster.diagnosis.members if m.state in _ABSENT]
    if absent:
        found.append(
            f"{', '.join(absent)}: with the old data they would serve the old cluster again as "
            "soon as they are a quorum; keep them off until fab resume fences them"
        )
    return found


def _strange(cluster: Cluster, wish: Wish) -> list[str]:
    """What speaks against its being a snapshot of this cluster; empty where nothing does."""
    named = wish.source.named
    origin = judge(named, cluster.observations)
    if origin.kind == "earlier":
        return [f"the snapshot is {origin.why}: of the time before a restore, or of hosts that "
                "were set up anew"]  # fmt: skip
    if origin.kind == "other":
        return [f"the snapshot is {origin.why}"]
    if origin.kind == "unknown" and named.members and not origin.is_here:
        return [f"whose snapshot it is cannot be told: {origin.why}"]
    return []


_ABSENT = (MemberState.UNREACHABLE, MemberState.GHOST)


def summary_of(wish: Wish) -> str:
    """What is restored, the revision gap, and what that means."""
    source = wish.source
    return (
        f"from {source.label}: {source.keys} keys at revision {source.revision}; "
        f"{_gap(source, wish.bump)}"
    )


def _gap(source: Source, bump: Optional[Bump]) -> str:
    if bump is None:
        return (
            f"revisions go on from {source.revision}, and the tool here cannot raise them: every "
            "kube-apiserver, controller-manager, scheduler and kubelet of the control plane is "
            "restarted; restart the kubelets of all workers yourself: systemctl restart kubelet"
        )
    gap = "the highest revision found anywhere"
    if bump.missing:
        gap = f"{bump.missing} behind the highest found anywhere, {bump.highest} ({bump.source})"
    return (
        f"that is {gap}, and "
        f"is raised by {bump.amount} to {bump.revision} ({bump.margin} of it for {bump.reason}) "
        "and marked compacted: every watch begins anew"
    )
