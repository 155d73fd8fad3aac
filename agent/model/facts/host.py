"""What a host says of itself: services, containers, certificates, disks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional


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
