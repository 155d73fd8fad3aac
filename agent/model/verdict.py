"""What a diagnosis concludes: the state of every member and of the cluster, and what fits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional

from agent.model.facts import Cause


class MemberState(str, Enum):
    """State of one member or of a host that should be one."""

    HEALTHY = "healthy"
    LAGGING = "lagging"
    LEARNER_STUCK = "learner-stuck"
    CRASH_LOOPING = "crash-looping"
    NO_QUORUM = "no-quorum"  # runs, and waits for the others
    STOPPED = "stopped"
    REMOVED = "removed"
    CORRUPT = "corrupt"
    NO_DATA = "no-data"
    UNREACHABLE = "unreachable"
    GHOST = "ghost"
    FENCED = "fenced"


class ClusterState(str, Enum):
    """State of the cluster as a whole."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    QUORUM_LOST = "quorum-lost"
    SPLIT = "split"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class CertificateVerdict:
    """Certificates of one host that will not do.

    roles: of those to be issued anew. why: the first problem, in words. lender: the host whose CA
    must be brought here first; empty: it has its own. refusal: why they cannot be issued.
    """

    roles: tuple[str, ...]
    why: str
    lender: str = ""
    refusal: Optional[Refusal] = None


@dataclass(frozen=True)
class MemberVerdict:
    """One member (or host without one). id is empty for a host that is no member.

    position: (last term, last index) of its write-ahead log, (0, 0) where unknown.
    voter: counts in the quorum of the membership judged by.
    stopped: proved that no etcd runs there now. usable: its data could seed a cluster.
    A member that no host answers for (GHOST) has its name, or else its ID, for a host.
    runs: an etcd of the node's own runs there now, well or not.
    serves: a read through the quorum was answered there. intact: its data was read without damage,
    whoever it belongs to. commit, applied: log index known committed by its write-ahead log, and
    applied to its database file. data_cluster: cluster ID in its data.
    definition: what makes etcd run is "in-place", "parked" or "missing"; empty where not known.
    seen_alive: what shows life of a host without a survey, in words; empty for none.
    open_plan: an unfinished plan that this host is part of.
    next: of a host without a survey, what to do so that it can be reached, where that is known.
    certificates: what is wrong with those of its etcd; None for nothing.
    """

    host: str
    name: str
    id: str
    state: MemberState
    why: str
    peer_urls: tuple[str, ...] = ()
    voter: bool = True
    stopped: bool = False
    usable: bool = False
    position: tuple[int, int] = (0, 0)
    revision: int = 0
    cause: Optional[Cause] = None
    notes: tuple[str, ...] = ()
    runs: bool = False
    serves: bool = False
    intact: bool = False
    commit: int = 0
    applied: int = 0
    data_cluster: str = ""
    definition: str = ""
    seen_alive: str = ""
    open_plan: str = ""
    next: str = ""
    certificates: Optional[CertificateVerdict] = None


@dataclass(frozen=True)
class Refusal:
    """Why a recipe is not offered."""

    recipe: str
    seen: str
    why: str
    next: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """The verdict on a cluster. recipe is empty where nothing fits or nothing is needed.

    voters, quorum: by the membership of the best witness; 0 where no host could tell one.
    serving: voters that answer reads through the quorum.
    losses: what could be lost by the recipe offered, in words.
    consent: names that the operator must type for it (rules 3 and 4), with the reason of each.
    """

    state: ClusterState
    why: str
    members: tuple[MemberVerdict, ...]
    cluster_id: str
    voters: int
    quorum: int
    serving: int
    leader: str = ""
    recipe: str = ""
    recipe_why: str = ""
    target: str = ""
    losses: tuple[str, ...] = ()
    consent: tuple[tuple[str, str], ...] = ()
    refusals: tuple[Refusal, ...] = ()
    warnings: tuple[str, ...] = ()

    def member(self, host: str) -> Optional[MemberVerdict]:
        """The verdict on the host of that name, or None."""
        return next((m for m in self.members if m.host == host), None)
