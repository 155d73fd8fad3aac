"""Takes the survey: every part at the same time, none of them able to stop it or to hold it up."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Optional

from agent import __version__
from agent.errors import Damaged, UsageError
from agent.host import STATE_DIR, Host
from agent.model.codec import from_plain, parse_json
from agent.model.facts import (
    FORMAT,
    Binary,
    Cause,
    Certificate,
    Disk,
    EtcdConfig,
    EtcdProcess,
    Fence,
    JournalFacts,
    Lock,
    OfflineFacts,
    OnlineFacts,
    Parked,
    Runtime,
    Service,
    Stray,
    Survey,
)
from agent.model.facts.openshift311 import Master311
from agent.platforms import detect
from agent.platforms.base import Platform
from agent.records.journal import read_journals
from agent.records.locks import read_lock
from agent.survey.binaries import read_binaries
from agent.survey.causes import find_causes
from agent.survey.certificates import read_certificates
from agent.survey.containers import as_lines, read_runtime
from agent.survey.defect_table import find_defects, version_of
from agent.survey.disk import read_disk
from agent.survey.loglines import LogLine
from agent.survey.logs import etcd_lines, kubelet_lines, shown
from agent.survey.offline import read_offline
from agent.survey.online import read_online
from agent.survey.openshift311 import read_master
from agent.survey.parts import Part, Parts
from agent.survey.processes import addresses, etcd_processes, listening, read_service
from agent.survey.watched import find_parked, read_config, read_watched

FENCE_FILE = f"{STATE_DIR}/fence.json"
DEFAULT_DATA_DIR = "/var/lib/etcd"
"""Where a host without any definition of etcd has its data: kubeadm, kubespray and OpenShift."""

_Watched = tuple[Optional[EtcdConfig], tuple[Stray, ...], tuple[str, ...]]


@dataclass(frozen=True)
class Limits:
    """Deadlines in seconds. data: write-ahead log and database; commands: crictl and its like."""

    files: float
    data: float
    online: float
    commands: float


QUICK = Limits(files=2.0, data=10.0, online=0.8, commands=0.9)
DEEP = Limits(files=10.0, data=600.0, online=6.0, commands=5.0)
"""For a host that is slow rather than broken, and to see that a quorum is really gone."""


@dataclass(frozen=True)
class _State:
    """What needs nothing else to be known."""

    identity: Part[tuple[str, str, str]]
    addresses: Part[tuple[str, ...]]
    processes: Part[tuple[EtcdProcess, ...]]
    parked: Part[tuple[Parked, ...]]
    fence: Part[Optional[Fence]]
    lock: Part[Optional[Lock]]
    journals: Part[tuple[JournalFacts, ...]]


@dataclass(frozen=True)
class _Node:
    """What needs the platform."""

    watched: Part[_Watched]
    runtime: Part[Optional[Runtime]]
    kubelet: Part[Optional[Service]]
    unit: Part[Optional[Service]]
    etcd_log: Part[tuple[LogLine, ...]]
    kubelet_log: Part[tuple[LogLine, ...]]


@dataclass(frozen=True)
class _Etcd:
    """What needs etcd's configuration, or is looked for in the usual place without one."""

    ports: Part[tuple[int, ...]]
    online: Part[Optional[OnlineFacts]]
    offline: Part[Optional[OfflineFacts]]
    certificates: Part[tuple[Certificate, ...]]
    disk: Part[Optional[Disk]]
    binaries: Part[tuple[Binary, ...]]
    master311: Part[Optional[Master311]]


def take_survey(host: Host, deep: bool = False) -> Survey:
    """All read-only facts of this host. Never raises; `problems` says what could not be read.

    Takes well under a second, whatever of etcd, kubelet, runtime and API is down; what hangs costs
    the deadline of its part and no more. deep: the patient deadlines of DEEP.
    """
    began, limits = time.monotonic(), DEEP if deep else QUICK
    parts = Parts()
    state = _begin_state(parts, host, limits)
    platform = parts.end(parts.begin("platform", lambda: detect(host), None, limits.files))
    node = _begin_node(parts, host, platform, limits)
    config, strays, said = parts.end(node.watched)
    parts.problems += said
    known = config or _parked_config(parts, host, platform, parts.end(state.parked), limits)
    etcd = _begin_etcd(parts, host, platform, known, parts.end(state.processes), limits)
    hostname, machine_id, boot_id = parts.end(state.identity)
    survey = Survey(
        format=FORMAT,
        agent_version=__version__,
        hostname=hostname,
        machine_id=machine_id,
        boot_id=boot_id,
        time=host.now(),
        platform=platform.name if platform else "",
        addresses=parts.end(state.addresses),
        config=config,
        parked_config=None if config else known,
        strays=strays,
        duration_ms=0,
    )
    survey = _with_state(parts, survey, state)
    survey = _with_node(parts, _with_etcd(parts, survey, etcd, known), node, limits)
    return replace(
        survey,
        problems=tuple(parts.problems),
        duration_ms=round((time.monotonic() - began) * 1000),
    )


def _with_state(parts: Parts, survey: Survey, state: _State) -> Survey:
    return replace(
        survey,
        processes=parts.end(state.processes),
        parked=parts.end(state.parked),
        fence=parts.end(state.fence),
        lock=parts.end(state.lock),
        journals=parts.end(state.journals),
    )


def _with_node(parts: Parts, survey: Survey, node: _Node, limits: Limits) -> Survey:
    """With what the runtime and the logs tell; causes are found in both."""
    runtime = parts.end(node.runtime)
    lines = [*parts.end(node.etcd_log), *parts.end(node.kubelet_log)]
    ended = as_lines(runtime) if runtime else ()
    causes: Part[tuple[Cause, ...]] = parts.begin(
        "causes", lambda: find_causes([*lines, *ended]), (), limits.files
    )
    return replace(
        survey,
        runtime=runtime,
        kubelet=parts.end(node.kubelet),
        unit=parts.end(node.unit),
        causes=parts.end(causes),
        log_tail=shown(lines),
    )


def _with_etcd(parts: Parts, survey: Survey, etcd: _Etcd, known: Optional[EtcdConfig]) -> Survey:
    online, binaries = parts.end(etcd.online), parts.end(etcd.binaries)
    return replace(
        survey,
        online=online,
        offline=parts.end(etcd.offline),
        ports=parts.end(etcd.ports),
        certificates=parts.end(etcd.certificates),
        disk=parts.end(etcd.disk),
        binaries=binaries,
        defects=find_defects(_version(online, known, binaries)),
        master311=parts.end(etcd.master311),
    )


def _version(
    online: Optional[OnlineFacts], config: Optional[EtcdConfig], binaries: tuple[Binary, ...]
) -> str:
    """The version of this host's etcd: as it says itself, by its image, by its binary."""
    image = config.image.rpartition(":")[2] if config else ""
    return version_of(online.version if online else "", image, *(b.version for b in binaries))


def read_fence(host: Host) -> Optional[Fence]:
    """The tombstone of a fenced host, or None. Raises Damaged where it cannot be read as one."""
    if not host.exists(FENCE_FILE):
        return None
    try:
        return from_plain(Fence, parse_json(host.read_bytes(FENCE_FILE), FENCE_FILE), FENCE_FILE)
    except (ValueError, RecursionError, UsageError) as error:
        told = error.seen if isinstance(error, UsageError) else str(error)
        raise Damaged(
            f"{FENCE_FILE}: {told}", "somebody fenced this host; by whom and why cannot be read"
        ) from None


def _begin_state(parts: Parts, host: Host, limits: Limits) -> _State:
    files = limits.files
    return _State(
        identity=parts.begin(
            "identity",
            lambda: (host.hostname(), host.machine_id(), host.boot_id()),
            ("", "", ""),
            files,
        ),
        addresses=parts.begin("addresses", addresses, (), files),
        processes=parts.begin("processes", lambda: etcd_processes(host), (), files),
        parked=parts.begin("parked definitions", lambda: find_parked(host), (), files),
        fence=parts.begin("fence", lambda: read_fence(host), None, files),
        lock=parts.begin("lock", lambda: read_lock(host), None, files),
        journals=parts.begin("journals", lambda: read_journals(host), (), files),
    )


def _begin_node(parts: Parts, host: Host, platform: Optional[Platform], limits: Limits) -> _Node:
    seconds = limits.commands
    here = platform
    return _Node(
        watched=parts.begin(
            "definitions",
            lambda: read_watched(host, here) if here else (None, (), ()),
            (None, (), ()),
            limits.files,
        ),
        runtime=parts.begin(
            "container runtime",
            lambda: read_runtime(host, here, seconds) if here and here.container else None,
            Runtime(False, error="it did not answer in time") if here and here.container else None,
            2 * seconds,  # a second question follows the first where a container has ended
        ),
        kubelet=parts.begin(
            "kubelet service",
            lambda: read_service(host, here.kubelet_unit) if here and here.kubelet_unit else None,
            None,
            seconds + 0.1,
        ),
        unit=parts.begin(
            "etcd's unit",
            lambda: read_service(host, here.unit) if here and here.unit else None,
            None,
            seconds + 0.1,
        ),
        etcd_log=parts.begin(
            "etcd's log", lambda: etcd_lines(host, here, seconds) if here else (), (), limits.files
        ),
        kubelet_log=parts.begin(
            "kubelet's log",
            lambda: kubelet_lines(host, here, seconds) if here and here.kubelet_unit else (),
            (),
            seconds + 0.1,
        ),
    )


def _parked_config(
    parts: Parts,
    host: Host,
    platform: Optional[Platform],
    parked: tuple[Parked, ...],
    limits: Limits,
) -> Optional[EtcdConfig]:
    """What etcd would run with, of the definition parked last; None where none is parked."""
    if platform is None or not parked:
        return None
    own = [p for p in parked if p.original == platform.manifest] or list(parked)
    path = own[-1].path
    here = platform
    return parts.end(
        parts.begin("parked definition", lambda: read_config(host, here, path), None, limits.files)
    )


def _begin_etcd(
    parts: Parts,
    host: Host,
    platform: Optional[Platform],
    config: Optional[EtcdConfig],
    processes: tuple[EtcdProcess, ...],
    limits: Limits,
) -> _Etcd:
    # An empty data_dir: the definition does not tell it, and guessing would look at other data.
    data_dir = config.data_dir if config else DEFAULT_DATA_DIR
    wal_dir = config.wal_dir if config else ""
    return _Etcd(
        ports=parts.begin("ports", lambda: listening(host, config), (), limits.files),
        online=parts.begin(
            "etcd online",
            lambda: read_online(host, config, limits.online) if config else None,
            None,
            limits.online + 0.2,
        ),
        offline=parts.begin(
            "etcd's data",
            lambda: read_offline(host, data_dir, wal_dir) if data_dir else None,
            None,
            limits.data,
        ),
        certificates=parts.begin(
            "certificates",
            lambda: read_certificates(host, config, host.now(), platform) if config else (),
            (),
            limits.files,
        ),
        disk=parts.begin(
            "disk", lambda: read_disk(host, data_dir) if data_dir else None, None, limits.files
        ),
        master311=parts.begin(
            "master",
            lambda: read_master(host) if platform and platform.name == "openshift311" else None,
            None,
            limits.files,
        ),
        binaries=parts.begin(
            "etcd binaries", lambda: read_binaries(host, config, processes), (), 2 * limits.commands
        ),
    )
