"""Of which cluster a snapshot is: what its members tell, held against what the hosts' data tells.

A snapshot is etcd's database alone, and the cluster's ID is not in it: its buckets are key, lease,
auth*, alarm, meta, cluster (versions), members and members_removed (etcd server/storage/schema);
the ID is in the log's metadata. But etcd makes that ID of the IDs of the members that founded the
cluster, once, and never changes it (server/etcdserver/api/membership/cluster.go, genID: the first 8
bytes of the SHA-1 of all, sorted, 8 bytes each); and a member that leaves goes from one bucket into
the other. So a cluster ID that is known can be proved, though none can be read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Optional

from agent.diagnosis import signs
from agent.diagnosis.witness import surveys
from agent.model.facts import Member, Observation

MOST = 200_000
"""Sets of founders that are tried: all of 17 members, or those of up to 4 of 40."""


@dataclass(frozen=True)
class Named:
    """What a snapshot tells of its cluster. cluster_id: of its set's manifest, or empty.

    members: of its list; removed: IDs of those that had left before.
    """

    cluster_id: str = ""
    members: tuple[Member, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Origin:
    """kind: "same" cluster; "earlier", another cluster ID with members at these hosts' addresses;
    "other" cluster; "unknown", where neither is shown. why: in words. is_here: some of its members
    have the address of a host.
    """  # noqa: D205

    kind: str
    why: str
    is_here: bool = False


def founded_by(ids: Sequence[str]) -> str:
    """The ID of the cluster that members with these IDs found; all are 16 hex digits."""
    numbers = sorted(int(id, 16) for id in ids)
    packed = b"".join(number.to_bytes(8, "big") for number in numbers)
    return hashlib.sha1(packed, usedforsecurity=False).hexdigest()[:16]


def is_founded_by_some(cluster_id: str, ids: Collection[str]) -> Optional[bool]:
    """Whether some of these members founded that cluster; None where there are too many to say."""
    known, tried = sorted(set(ids)), 0
    for size in range(1, len(known) + 1):
        for founders in combinations(known, size):
            tried += 1
            if tried > MOST:
                return None
            if founded_by(founders) == cluster_id:
                return True
    return False if known else None


def judge(named: Named, observations: Sequence[Observation]) -> Origin:
    """Of which cluster a snapshot is, as seen from these hosts."""
    clusters = _clusters(observations)
    is_of = {cluster: _is_of(named, cluster) for cluster in sorted(clusters)}
    for cluster in is_of:
        if is_of[cluster]:
            how = "by its set's manifest" if named.cluster_id else "by the IDs of its members"
            return Origin("same", f"of cluster {cluster} ({how}), as {_list(clusters[cluster])}")
    there = _at_these_hosts(named, observations)
    if not is_of or None in is_of.values():
        return _by_addresses(named, there, bool(is_of))
    theirs = "; ".join(f"{_list(hosts)}: cluster {id}" for id, hosts in sorted(clusters.items()))
    own = f"of cluster {named.cluster_id}, not" if named.cluster_id else "of another cluster than"
    if there:
        why = f"{own} these hosts' ({theirs}), with {_list(there)} at their addresses"
        return Origin("earlier", why, True)
    return Origin("other", f"{own} these hosts' ({theirs}): its members are {shown(named.members)}")


def shown(members: Sequence[Member]) -> str:
    """Members with their peer URLs, for a person; never empty."""
    return "; ".join(f"{m.name or m.id} at {', '.join(m.peer_urls)}" for m in members) or "none"


def _is_of(named: Named, cluster_id: str) -> Optional[bool]:
    if named.cluster_id:
        return named.cluster_id == cluster_id
    return is_founded_by_some(cluster_id, [*(m.id for m in named.members), *named.removed])


def _by_addresses(named: Named, there: Sequence[str], has_cluster: bool) -> Origin:
    """All that can be said without an ID to compare with."""
    if not named.members:
        return Origin("unknown", "it lists no member that would tell of its cluster")
    why = "no host's data tells of a cluster to hold it against"
    if has_cluster:
        why = "it knows of too many members to tell which of them founded its cluster"
    if there:
        return Origin("unknown", f"{why}; {_list(there)} of its list are at these addresses", True)
    return Origin("unknown", f"{why}, and none of its members is here: {shown(named.members)}")


def _clusters(observations: Sequence[Observation]) -> dict[str, list[str]]:
    """Cluster ID → the hosts whose etcd or data is of it."""
    found: dict[str, list[str]] = {}
    for host, survey in surveys(observations):
        if cluster := signs.own_cluster(survey):
            found.setdefault(cluster, []).append(host)
    return found


def _at_these_hosts(named: Named, observations: Sequence[Observation]) -> list[str]:
    """Names of the snapshot's members whose peer URL is of a host, or of a member known here.

    The name of a member shows nothing: many clusters have a master-0.
    """
    here: set[str] = set()
    for observation in observations:
        here |= signs.addresses(observation)
        survey = observation.survey
        db = survey.offline.db if survey and survey.offline else None
        online = survey.online.members if survey and survey.online else ()
        for member in (*(db.members if db else ()), *online):
            here |= {signs.url_host(url) for url in member.peer_urls}
    return [
        m.name or m.id for m in named.members if here & {signs.url_host(u) for u in m.peer_urls}
    ]


def _list(words: Sequence[str]) -> str:
    return ", ".join(words)
