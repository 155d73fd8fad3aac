"""Everything one host knows, and what another host sees of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from agent.model.defects import Defect
from agent.model.facts.etcd import Binary, EtcdConfig, EtcdProcess, OfflineFacts, OnlineFacts
from agent.model.facts.host import Cause, Certificate, Disk, Runtime, Service, Stray
from agent.model.facts.openshift311 import Master311
from agent.model.facts.rescue import Fence, JournalFacts, Lock, Parked

FORMAT = 1


@dataclass(frozen=True)
class Survey:
    """All read-only facts of one host, taken in one go.

    config: of the definition in place. parked_config: of the one parked last, where none is in
    place; its `definition` is where it is parked. unit: the one that runs etcd, where a unit does.
    master311: what a host of OpenShift 3.11 has beside its etcd.
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
    master311: Optional[Master311] = None


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
