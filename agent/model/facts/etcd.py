"""What a member says of itself, by its files, its process and its API."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional


@dataclass(frozen=True)
class Damage:
    """A place in a file that its format forbids."""

    file: str
    offset: int
    reason: str


@dataclass(frozen=True)
class Member:
    """One row of a membership; an empty name means that it never started."""

    id: str
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...] = ()
    is_learner: bool = False


@dataclass(frozen=True)
class Alarm:
    """kind: NOSPACE or CORRUPT."""

    member_id: str
    kind: str


@dataclass(frozen=True)
class WalFacts:
    """Read from the write-ahead log: identity, hard state, last entry.

    last_term and last_index are those of the last entry appended (an entry that overwrites an
    earlier index wins); snapshot_* of the newest snapshot record. torn_tail is what a crash in the
    middle of a write leaves, harmless; damage is corruption that etcd itself would refuse.
    """

    member_id: str
    cluster_id: str
    term: int
    commit: int
    last_term: int
    last_index: int
    snapshot_term: int
    snapshot_index: int
    segments: int
    records: int
    torn_tail: Optional[Damage] = None
    damage: Optional[Damage] = None


@dataclass(frozen=True)
class DbFacts:
    """Read from the bbolt file: membership, applied position, revision.

    revision is the newest main revision of the key space, 0 for an empty one.
    """

    size: int
    page_size: int
    txid: int
    consistent_index: int
    consistent_term: int
    revision: int
    members: tuple[Member, ...] = ()
    removed_ids: tuple[str, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    cluster_version: str = ""
    storage_version: str = ""
    damage: Optional[Damage] = None


@dataclass(frozen=True)
class OfflineFacts:
    """What the data directory says, with no etcd running. has_data: there is a member directory."""

    data_dir: str
    has_data: bool
    size: int = 0
    wal: Optional[WalFacts] = None
    db: Optional[DbFacts] = None
    damage: tuple[Damage, ...] = ()


@dataclass(frozen=True)
class OnlineFacts:
    """What an etcd that answers says of itself. linearizable: a read through the quorum worked."""

    endpoint: str
    answers: bool
    linearizable: bool = False
    version: str = ""
    cluster_id: str = ""
    member_id: str = ""
    leader_id: str = ""
    raft_term: int = 0
    raft_index: int = 0
    applied_index: int = 0
    revision: int = 0
    db_size: int = 0
    db_size_in_use: int = 0
    is_learner: bool = False
    members: tuple[Member, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class TlsFiles:
    """Paths on the host (not in the container); empty where etcd runs without."""

    cert: str = ""
    key: str = ""
    ca: str = ""


@dataclass(frozen=True)
class EtcdConfig:
    """What etcd on this host will run with, and where each value comes from.

    definition: the file that makes etcd run (a manifest, a unit). flags: name without dashes →
    value, as given. sources: flag → file (of a unit FILE:LINE). Paths are the host's: container
    paths are mapped through the pod's volumes. problems: what a person must look at before anything
    is done with it. files: all that a unit consists of. program: the etcd that a unit runs.
    scripted: a shell script starts it, in which no flag is ever changed.
    """

    definition: str
    sha256: str
    name: str
    data_dir: str
    image: str = ""
    wal_dir: str = ""
    advertise_peer_urls: tuple[str, ...] = ()
    listen_peer_urls: tuple[str, ...] = ()
    advertise_client_urls: tuple[str, ...] = ()
    listen_client_urls: tuple[str, ...] = ()
    initial_cluster: tuple[tuple[str, str], ...] = ()
    initial_cluster_state: str = "new"
    initial_cluster_token: str = "etcd-cluster"
    force_new_cluster: bool = False
    server_tls: TlsFiles = field(default_factory=TlsFiles)
    peer_tls: TlsFiles = field(default_factory=TlsFiles)
    client_tls: TlsFiles = field(default_factory=TlsFiles)
    flags: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    program: str = ""
    scripted: bool = False

    @property
    def quota(self) -> int:
        """--quota-backend-bytes as given; 0 for none, which is etcd's default."""
        given = self.flags.get("quota-backend-bytes", "")
        return int(given) if given.lstrip("-").isdigit() else 0


@dataclass(frozen=True)
class EtcdProcess:
    """A process of the host that runs etcd. scratch: one of ours."""

    pid: int
    started: float
    argv: tuple[str, ...]
    scratch: bool = False


@dataclass(frozen=True)
class Binary:
    """A place the node's own etcd can be run from. kind: path, image or process."""

    kind: str
    ref: str
    version: str = ""
