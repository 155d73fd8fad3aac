"""What is seen of a DC/OS Kubernetes service, and the verdict on it, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True)
class Agent:
    """A Mesos agent as `dcos node --json` lists it; one that is not listed is not active."""

    id: str
    hostname: str
    active: bool


@dataclass(frozen=True)
class TaskRun:
    """One run of a task (`dcos task --json`). state: as Mesos says, TASK_RUNNING and others.

    since: seconds since the epoch of its last status, 0 where none came.
    """

    id: str
    name: str
    agent: str
    state: str
    since: float = 0.0


@dataclass(frozen=True)
class EtcdAnswer:
    """What a member's etcd says. linearizable: the read went through the quorum. keys: under /."""

    linearizable: bool
    revision: int
    keys: int
    member_id: str = ""
    cluster_id: str = ""


@dataclass(frozen=True)
class PlanStatus:
    """A plan of the service's scheduler. etcd: step name → status; later: any other step began."""

    name: str
    status: str
    etcd: tuple[tuple[str, str], ...] = ()
    later: bool = False
    errors: tuple[str, ...] = ()

    @property
    def is_at_work(self) -> bool:
        """True while the scheduler still works on it."""
        return self.status not in ("COMPLETE", "WAITING", "ERROR", "")


@dataclass(frozen=True)
class View:
    """A service as it was seen. high_availability: None where nothing says it.

    pods: names of the etcd pods that the scheduler knows. runs: all of etcd's peer tasks, the
    newest last. answers: pod → what its etcd said. voters: of etcd's own member list, 0 unknown.
    api_ran: a kube-apiserver task was there at any time.
    """

    cluster: str
    service: str
    version: str
    high_availability: bool | None
    pods: tuple[str, ...]
    runs: tuple[TaskRun, ...]
    agents: tuple[Agent, ...]
    answers: dict[str, EtcdAnswer]
    deploy: PlanStatus
    recovery: PlanStatus
    voters: int = 0
    api_ran: bool = True

    def run_of(self, pod: str) -> TaskRun | None:
        """The newest run of a pod's peer task, or None."""
        return next((r for r in reversed(self.runs) if r.name == f"{pod}-peer"), None)

    def agent(self, id: str) -> Agent:
        """An agent; one that the cluster does not list counts as not active."""
        return next((a for a in self.agents if a.id == id), Agent(id, id or "unknown", False))

    @property
    def expected(self) -> tuple[str, ...]:
        """The etcd pods that there should be."""
        if self.high_availability is None:
            return self.pods
        return tuple(f"etcd-{n}" for n in range(3 if self.high_availability else 1))


class PodState(str, Enum):
    """What became of one etcd pod."""

    SERVING = "serving"
    NO_QUORUM = "no-quorum"
    SILENT = "silent"
    RESTARTING = "restarting"
    CRASHING = "crashing"
    UNREACHABLE = "unreachable"
    LOST = "lost"
    NEVER_STARTED = "never-started"


@dataclass(frozen=True)
class PodVerdict:
    """One etcd pod: its state, and what was seen that says so."""

    pod: str
    state: PodState
    why: str
    agent: str = ""
    task: str = ""
    revision: int = 0


class Remedy(str, Enum):
    """What may be done. watch: nothing but watching. rebuild: uninstall, install, restore."""

    NONE = "none"
    WATCH = "watch"
    REPLACE = "replace"
    SCALE_UP = "scale-up"
    RESTORE = "restore"
    REBUILD = "rebuild"
    REINSTALL = "reinstall"


@dataclass(frozen=True)
class Forbidden:
    """Why a remedy is not taken, as a refusal says it."""

    remedy: str
    seen: str
    why: str
    next: str = ""


@dataclass(frozen=True)
class Verdict:
    """Which scenario holds (0: none) and why, what is lost and what is not, and what fits."""

    service: str
    cluster: str
    scenario: int
    state: str
    why: str
    pods: tuple[PodVerdict, ...]
    quorum: bool
    lost: str
    kept: str
    remedy: Remedy
    target: str
    command: str
    refusals: tuple[Forbidden, ...] = ()
    warnings: tuple[str, ...] = ()
    failures: int = 0
