"""Readable values of surveys: a laboratory of N hosts, each in any state a test asks for.

    lab = Lab(3)
    diagnose([lab.healthy(0), lab.wiped(1), lab.unreachable(2, open_ports=(2380,))])

Hosts are master-1, master-2, …, numbered from 0 in calls; strategies.py draws whole labs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

from agent.model.facts import (
    Alarm,
    Cause,
    Container,
    Damage,
    DbFacts,
    EtcdConfig,
    EtcdProcess,
    Fence,
    JournalFacts,
    Member,
    Observation,
    OfflineFacts,
    OnlineFacts,
    Parked,
    Runtime,
    Service,
    Sighting,
    Survey,
    WalFacts,
)

CLUSTER = "c1c1c1c1c1c1c1c1"
OTHER_CLUSTER = "dddddddddddddddd"
MANIFEST = "/etc/kubernetes/manifests/etcd.yaml"
DATA = "/var/lib/etcd"
SHA = "ab" * 32
NOW = 1_790_000_000.0


def cause(kind: str = "certificate", **given: Any) -> Cause:
    """A recognised log message of that kind."""
    values: dict[str, Any] = {
        "key": f"{kind}-example",
        "kind": kind,
        "summary": f"a {kind} problem",
        "remedy": f"put the {kind} right",
        "evidence": f"log line about the {kind}",
        "source": "etcd documentation",
    }
    return Cause(**{**values, **given})


@dataclass(frozen=True)
class Lab:
    """A cluster of `size` voters that all had the same position before anything went wrong."""

    size: int = 3
    cluster_id: str = CLUSTER
    term: int = 5
    index: int = 1000
    revision: int = 500
    learners: tuple[int, ...] = ()
    image: str = "registry.k8s.io/etcd:3.5.30-0"

    # ---- names -----------------------------------------------------------------------------------

    def host(self, number: int) -> str:
        return f"master-{number + 1}"

    def address(self, number: int) -> str:
        return f"10.0.0.{number + 1}"

    def peer_url(self, number: int) -> str:
        return f"https://{self.address(number)}:2380"

    def member_id(self, number: int) -> str:
        return f"{number + 1:016x}"

    def member(self, number: int, **given: Any) -> Member:
        values: dict[str, Any] = {
            "id": self.member_id(number),
            "name": self.host(number),
            "peer_urls": (self.peer_url(number),),
            "client_urls": (f"https://{self.address(number)}:2379",),
            "is_learner": number in self.learners,
        }
        return Member(**{**values, **given})

    def members(self, *, without: Sequence[int] = ()) -> tuple[Member, ...]:
        return tuple(self.member(n) for n in range(self.size) if n not in without)

    # ---- parts of a survey -----------------------------------------------------------------------

    def config(self, number: int, **given: Any) -> EtcdConfig:
        values: dict[str, Any] = {
            "definition": MANIFEST,
            "sha256": SHA,
            "name": self.host(number),
            "data_dir": DATA,
            "image": self.image,
            "advertise_peer_urls": (self.peer_url(number),),
            "initial_cluster": tuple((self.host(n), self.peer_url(n)) for n in range(self.size)),
            "initial_cluster_state": "existing",
        }
        return EtcdConfig(**{**values, **given})

    def wal(self, number: int, **given: Any) -> WalFacts:
        index = given.get("last_index", self.index)
        values: dict[str, Any] = {
            "member_id": self.member_id(number),
            "cluster_id": self.cluster_id,
            "term": self.term,
            "commit": index,
            "last_term": self.term,
            "last_index": index,
            "snapshot_term": 0,
            "snapshot_index": 0,
            "segments": 1,
            "records": index,
        }
        return WalFacts(**{**values, **given})

    def db(self, **given: Any) -> DbFacts:
        values: dict[str, Any] = {
            "size": 1 << 20,
            "page_size": 4096,
            "txid": 9,
            "consistent_index": self.index,
            "consistent_term": self.term,
            "revision": self.revision,
            "members": self.members(),
            "cluster_version": "3.5.0",
        }
        return DbFacts(**{**values, **given})

    def offline(
        self, number: int, wal: Optional[dict[str, Any]] = None, db: Optional[dict[str, Any]] = None
    ) -> OfflineFacts:
        """Intact data; `wal` and `db` override single facts. A shorter log has a smaller index."""
        log = self.wal(number, **(wal or {}))
        reached = {"consistent_index": min(self.index, log.last_index)}
        return OfflineFacts(DATA, True, 1 << 20, log, self.db(**{**reached, **(db or {})}))

    def online(self, number: int, **given: Any) -> OnlineFacts:
        values: dict[str, Any] = {
            "endpoint": f"https://{self.address(number)}:2379",
            "answers": True,
            "linearizable": True,
            "version": "3.5.30",
            "cluster_id": self.cluster_id,
            "member_id": self.member_id(number),
            "leader_id": self.member_id(0),
            "raft_term": self.term,
            "raft_index": self.index,
            "applied_index": self.index,
            "revision": self.revision,
            "members": self.members(),
        }
        return OnlineFacts(**{**values, **given})

    def survey(self, number: int, **given: Any) -> Survey:
        """A host with its definition in place, intact data, and no etcd running."""
        values: dict[str, Any] = {
            "format": 1,
            "agent_version": "1",
            "hostname": self.host(number),
            "machine_id": f"{number:032x}",
            "boot_id": "b",
            "time": NOW,
            "platform": "kubeadm",
            "addresses": ("127.0.0.1", self.address(number)),
            "duration_ms": 100,
            "config": self.config(number),
            "offline": self.offline(number),
            "runtime": Runtime(True),
            "kubelet": Service("kubelet.service", "active"),
        }
        return Survey(**{**values, **given})

    def seen(self, number: int, **given: Any) -> Observation:
        """The host observed with that survey (overrides as for `survey`)."""
        return Observation(
            self.host(number), self.address(number), survey=self.survey(number, **given)
        )

    # ---- hosts in a state ------------------------------------------------------------------------

    def running(self, number: int, **given: Any) -> Observation:
        """An etcd process with its ports, container and sandbox; `online` as given."""
        values: dict[str, Any] = {
            "processes": (EtcdProcess(100, NOW - 3600, ("etcd",)),),
            "ports": (2379, 2380),
            "runtime": Runtime(True, (Container("c", "s", "running", created=NOW - 3600),), 1),
        }
        return self.seen(number, **{**values, **given})

    def healthy(self, number: int, **given: Any) -> Observation:
        return self.running(number, **{"online": self.online(number), **given})

    def lagging(self, number: int, behind: int = 6000) -> Observation:
        online = self.online(number, applied_index=self.index - behind)
        return self.running(number, online=online)

    def no_quorum(self, number: int, **given: Any) -> Observation:
        """Started before the loss: answers its status, and no linearizable read."""
        online = self.online(number, linearizable=False, leader_id="", members=())
        return self.running(number, **{"online": online, **given})

    def waiting(self, number: int) -> Observation:
        """Started after the loss: runs, and answers no client."""
        return self.running(number, online=OnlineFacts("https://127.0.0.1:2379", False))

    def crash_looping(self, number: int, why: Optional[Cause] = None, **given: Any) -> Observation:
        """Between two attempts: no process, the newest container exited."""
        dead = Container("c", "s", "exited", attempt=4, created=NOW - 60, exit_code=1)
        values: dict[str, Any] = {
            "runtime": Runtime(True, (dead,), 1),
            "causes": (why,) if why else (),
        }
        return self.seen(number, **{**values, **given})

    def corrupt(self, number: int, **given: Any) -> Observation:
        damage = Damage(f"{DATA}/member/snap/db", 8192, "page 2: checksum does not match")
        offline = self.offline(number, db={"damage": damage})
        return self.crash_looping(number, **{"offline": offline, **given})

    def wiped(self, number: int, **given: Any) -> Observation:
        empty = OfflineFacts(DATA, False)
        return self.crash_looping(number, **{"offline": empty, **given})

    def stopped(self, number: int, **given: Any) -> Observation:
        """Manifest parked, data intact, nothing runs."""
        values: dict[str, Any] = {
            "config": None,
            "parked": (Parked("/var/lib/etcd-rescue/parked/etcd.yaml", MANIFEST, SHA),),
        }
        return self.seen(number, **{**values, **given})

    def fenced(self, number: int, **given: Any) -> Observation:
        fence = Fence("f" * 64, "03", NOW - 600, "another member goes on")
        return self.stopped(number, **{"fence": fence, **given})

    def removed(self, number: int, **given: Any) -> Observation:
        """Its log says that the cluster removed it; make the others' lists say so too."""
        told = cause("removed", summary="the member has been permanently removed")
        return self.crash_looping(number, told, **given)

    def unreachable(
        self, number: int, open_ports: Sequence[int] = (), *, linearizable: bool = False
    ) -> Observation:
        ports = tuple(open_ports)
        shut = tuple(port for port in (2379, 2380) if port not in ports)
        seen = Sighting("master-1", self.address(number), ports, shut, linearizable)
        return Observation(
            self.host(number), self.address(number), None, "connection timed out", (seen,)
        )

    def unsure(self, number: int, states: Sequence[str]) -> Observation:
        """The host in the state of that name (a method of this class)."""
        built: Observation = getattr(self, states[number])(number)
        return built


def with_survey(observation: Observation, **given: Any) -> Observation:
    """The same observation with fields of its survey replaced."""
    assert observation.survey is not None
    return replace(observation, survey=replace(observation.survey, **given))


def open_journal(plan: str = "e" * 64, recipe: str = "reseed") -> JournalFacts:
    """A journal of a plan that is not finished."""
    return JournalFacts(plan, recipe, "open", ("01",), ("02",), NOW)


def corrupt_alarm(member_id: str) -> Alarm:
    return Alarm(member_id, "CORRUPT")
