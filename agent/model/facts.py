"""What a survey found on one host. Times are seconds since the epoch, sizes are bytes.

IDs of members and clusters are 16 lower-case hex digits, as etcdctl prints them. Python 3.9 reads
these types at run time, so they say Optional[X] and not X | None.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from agent.model.defects import Defect

FORMAT = 1


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


@dataclass(frozen=True)
class Stray:
    """A file in the watched directory that also runs an etcd, or that is not readable as a pod."""

    path: str
    problem: str


@dataclass(frozen=True)
class Container:
    """One etcd container as the runtime lists it. state: running, exited, created or unknown."""

    id: str
    sandbox_id: str
    state: str
    attempt: int = 0
    created: float = 0.0
    finished: float = 0.0
    exit_code: Optional[int] = None
    reason: str = ""
    pod_uid: str = ""
    log_path: str = ""


@dataclass(frozen=True)
class Runtime:
    """The container runtime's view. sandboxes_ready: etcd pod sandboxes in state READY."""

    answers: bool
    containers: tuple[Container, ...] = ()
    sandboxes_ready: int = 0
    error: str = ""


@dataclass(frozen=True)
class Service:
    """A unit: ActiveState (empty: no answer), SubState, NRestarts, UnitFileState of systemd."""

    name: str
    active: str
    since: float = 0.0
    sub: str = ""
    restarts: int = 0
    enabled: str = ""


@dataclass(frozen=True)
class EtcdProcess:
    """A process of the host that runs etcd. scratch: one of ours."""

    pid: int
    started: float
    argv: tuple[str, ...]
    scratch: bool = False


@dataclass(frozen=True)
class Cause:
    """Why etcd does not run, from a known message.

    kind groups remedies: data (the member's data is bad), removed (the cluster removed it),
    config, certificate, disk, network, clock, quorum, permission, resource.
    evidence is the line seen, source where the meaning of the message is documented.
    """

    key: str
    kind: str
    summary: str
    remedy: str
    evidence: str
    source: str
    time: float = 0.0


@dataclass(frozen=True)
class Certificate:
    """One certificate file in use by etcd. problems is empty when it will do now.

    fingerprint: sha256 of the certificate, hex. key: of a CA, whether the key to issue with lies
    beside it: "present", "missing", "other" (it belongs to another certificate) or "" (not looked).
    """

    path: str
    role: str
    subject: str = ""
    issuer: str = ""
    not_before: float = 0.0
    not_after: float = 0.0
    sans: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    fingerprint: str = ""
    key: str = ""


@dataclass(frozen=True)
class Disk:
    """Room and shape. data_kind: plain, mount, symlink or missing; data_real: links resolved."""

    data_kind: str
    data_real: str
    data_free: int
    data_inodes_free: int
    state_free: int
    state_inodes_free: int
    same_filesystem: bool
    read_only: bool = False


@dataclass(frozen=True)
class Binary:
    """A place the node's own etcd can be run from. kind: path, image or process."""

    kind: str
    ref: str
    version: str = ""


@dataclass(frozen=True)
class Fence:
    """The tombstone of a fenced host: by which plan, when, why."""

    plan: str
    step: str
    time: float
    reason: str
    holder: str = ""


@dataclass(frozen=True)
class Parked:
    """A definition that was moved out of the way, and where it came from."""

    path: str
    original: str
    sha256: str
    plan: str = ""


@dataclass(frozen=True)
class JournalFacts:
    """One plan's journal on this host. state: open, complete, rolled-back, or damaged."""

    plan: str
    recipe: str
    state: str
    done: tuple[str, ...] = ()
    begun: tuple[str, ...] = ()
    updated: float = 0.0
    problem: str = ""


@dataclass(frozen=True)
class Lock:
    """Who may change this host. token grows with every holder; a smaller one is refused.

    run: of the coordinator's run that took it. alive: that run has its agent on the host now; known
    when the lock is read, never stored as true.
    """

    plan: str
    holder: str
    token: int
    time: float
    run: str = ""
    alive: bool = False


@dataclass(frozen=True)
class Survey:
    """All read-only facts of one host, taken in one go.

    config: of the definition in place. parked_config: of the one parked last, where none is in
    place; its `definition` is where it is parked. unit: the one that runs etcd, where a unit does.
    """

    format: int
    agent_version: str
    hostname: str
    machine_id: str
    boot_id: str
    time: float
    platform: str
    addresses: tuple[str, ...]
    duration_ms: int
    config: Optional[EtcdConfig] = None
    strays: tuple[Stray, ...] = ()
    parked: tuple[Parked, ...] = ()
    offline: Optional[OfflineFacts] = None
    online: Optional[OnlineFacts] = None
    runtime: Optional[Runtime] = None
    kubelet: Optional[Service] = None
    processes: tuple[EtcdProcess, ...] = ()
    ports: tuple[int, ...] = ()
    causes: tuple[Cause, ...] = ()
    log_tail: tuple[str, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    disk: Optional[Disk] = None
    binaries: tuple[Binary, ...] = ()
    fence: Optional[Fence] = None
    journals: tuple[JournalFacts, ...] = ()
    lock: Optional[Lock] = None
    problems: tuple[str, ...] = ()
    parked_config: Optional[EtcdConfig] = None
    unit: Optional[Service] = None
    defects: tuple[Defect, ...] = ()


@dataclass(frozen=True)
class Sighting:
    """What can be seen of a host from outside: which TCP ports answered, from where."""

    seen_from: str
    address: str
    open_ports: tuple[int, ...] = ()
    closed_ports: tuple[int, ...] = ()
    linearizable: bool = False


@dataclass(frozen=True)
class Observation:
    """One host as the coordinator knows it: its survey, or why there is none, in one line.

    next: what to do about that, where the error says it. clock: seconds by which its clock is ahead
    of the coordinator's, (at least, at most): the truth lies between, by the time a survey took.
    """

    host: str
    address: str
    survey: Optional[Survey] = None
    error: str = ""
    sightings: tuple[Sighting, ...] = ()
    next: str = ""
    clock: Optional[tuple[float, float]] = None
