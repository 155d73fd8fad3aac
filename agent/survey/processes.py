"""What runs on a host: etcd, its ports, the kubelet; and the proof that etcd is stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Optional
from urllib.parse import urlsplit

import psutil

from agent.errors import CommandFailed
from agent.host import STATE_DIR, Host
from agent.model.facts import EtcdConfig, EtcdProcess, Runtime, Service
from agent.survey.redact import shown_argv

ETCD_PORTS = (2379, 2380, 2381)
"""Clients, peers, and kubeadm's metrics listener."""

RUNTIMES = ("containerd", "crio", "dockerd", "dockerd-current", "cri-dockerd")
"""Daemons that start containers; their containers outlive them, and show as processes."""

NOT_FOUND = "not-found"
_NO_MEMBERS = (("grpc-proxy",), ("gateway",))
"""What the program runs beside a member, as OpenShift's container etcd-metrics does."""

_SERVICE_SECONDS = 0.8
_PROPERTIES = (
    "LoadState", "ActiveState", "ActiveEnterTimestampMonotonic", "StateChangeTimestampMonotonic",
    "SubState", "NRestarts", "UnitFileState",
)  # fmt: skip


def etcd_processes(host: Host) -> tuple[EtcdProcess, ...]:
    """Every live etcd process of the node itself, the oldest first; a scratch etcd is marked.

    An etcd in a network namespace of its own belongs to a workload (a virtual cluster, a test): a
    control plane's etcd is reached at the node's addresses, so it lives in the node's.
    """
    found = []
    own = _network(host, 1)
    for process in host.processes("etcd"):
        try:
            theirs = _network(host, process.pid)
            if own and theirs and theirs != own:
                continue
            argv = tuple(process.cmdline())
            if argv[1:2] in _NO_MEMBERS:
                continue
            started, is_ours = process.create_time(), is_scratch(argv)
            found.append(EtcdProcess(process.pid, started, shown_argv(argv), is_ours))
        except psutil.Error:
            continue  # it ended while we looked
    return tuple(sorted(found, key=lambda p: (p.started, p.pid)))


def _network(host: Host, pid: int) -> str:
    """The network namespace of a process, empty where it cannot be told."""
    try:
        return os.readlink(host.real("/proc") + f"/{pid}/ns/net")
    except OSError:
        return ""


def is_scratch(argv: Sequence[str]) -> bool:
    """True if the data directory in `argv` lies in a work directory of ours (see Host.discard)."""
    for i, word in enumerate(argv):
        flag, equals, value = word.lstrip("-").partition("=")
        if flag != "data-dir" or not word.startswith("-"):
            continue
        parts = PurePosixPath(value if equals else "".join(argv[i + 1 : i + 2])).parts
        if "work" in parts and any("etcd-rescue" in part for part in parts):
            return True
    return False


def etcd_ports(config: Optional[EtcdConfig]) -> tuple[int, ...]:
    """The ports that etcd on this host uses: the usual ones, and those of its configuration."""
    urls: Iterable[str] = ()
    if config is not None:
        urls = (*config.listen_client_urls, *config.listen_peer_urls)
    return tuple(sorted({*ETCD_PORTS, *(p for p in map(url_port, urls) if p)}))


def listening(host: Host, config: Optional[EtcdConfig]) -> tuple[int, ...]:
    """Those of etcd's ports on which something listens now."""
    return tuple(sorted(host.listening_ports() & set(etcd_ports(config))))


def url_port(url: str) -> int:
    """The port in a URL, 0 where there is none."""
    try:
        return urlsplit(url).port or 0
    except ValueError:
        return 0


_AGAIN = 0.05
"""Seconds before systemd is asked again."""


def read_service(host: Host, unit: str, timeout: float = _SERVICE_SECONDS) -> Service:
    """The state of a systemd unit; `active` is "not-found" where systemd knows no such unit.

    since: when it became active, else when it last changed. Empty where systemd does not answer.
    """
    booted = host.now() - time.clock_gettime(time.CLOCK_MONOTONIC)
    # Asked from another pid namespace (a debug pod), systemd drops a connection now and then, at
    # once; so what is left of the time is for asking again.
    deadline = time.monotonic() + timeout
    shown = _show(host, unit, timeout)
    while not shown and (left := deadline - time.monotonic()) > 0:
        time.sleep(_AGAIN)
        shown = _show(host, unit, max(left, _AGAIN))
    return parse_service(unit, shown, booted)


def _show(host: Host, unit: str, timeout: float) -> str:
    try:
        return host.run(
            ["systemctl", "show", f"--property={','.join(_PROPERTIES)}", unit],
            timeout=timeout,
            env={"SYSTEMD_IGNORE_CHROOT": "1"},
        ).stdout
    except (CommandFailed, OSError):
        return ""


def parse_service(unit: str, shown: str, booted: float) -> Service:
    """A Service from `systemctl show`. booted: the time at which CLOCK_MONOTONIC was zero."""
    said = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    active = said.get("ActiveState", "")
    if said.get("LoadState") == NOT_FOUND:
        return Service(unit, NOT_FOUND)
    restarts = said.get("NRestarts", "")
    entered = "ActiveEnter" if active == "active" else "StateChange"
    stamp = said.get(f"{entered}TimestampMonotonic", "")
    microseconds = int(stamp) if stamp.isdigit() else 0
    return Service(
        unit,
        active,
        round(booted + microseconds / 1e6, 3) if microseconds else 0.0,
        said.get("SubState", ""),
        int(restarts) if restarts.isdigit() else 0,
        said.get("UnitFileState", ""),
    )


def addresses() -> tuple[str, ...]:
    """Addresses of this host other than loopback and link-local, IPv4 first."""
    found = []
    for rows in psutil.net_if_addrs().values():
        for row in rows:
            address = row.address.partition("%")[0]
            if row.family.name == "AF_INET" and not address.startswith("127."):
                found.append((0, address))
            elif row.family.name == "AF_INET6" and not address.startswith(("fe80", "::1")):
                found.append((1, address))
    return tuple(address for _, address in sorted(found))


def is_etcd_stopped(
    host: Host, config: Optional[EtcdConfig], runtime: Optional[Runtime]
) -> tuple[bool, str]:
    """(is it proved that no etcd runs and that the node starts none, what was seen).

    Proof: definition out of its place, pod sandboxes gone or NotReady, no etcd process, nothing on
    etcd's ports. "No running container" alone is none: a crash-looping pod has none between two
    attempts. A runtime that does not answer proves nothing, unless no process of one exists: then
    nothing can start a container, and once it is back the kubelet finds no definition.
    runtime: None where no container runtime is involved. config: in place or parked.
    """
    seen = (
        _definition_in_place(host, config)
        or _process_left(host)
        or _port_open(host, config)
        or _pod_left(host, runtime)
    )
    if seen:
        return False, seen
    ports = " or ".join(str(p) for p in _serving_ports(config))
    pods = "no pod sandbox ready, "
    if runtime is None or not runtime.answers:
        pods = "" if runtime is None else "no container runtime running to start any, "
    return True, f"definition out of its place, {pods}no etcd process, nothing on {ports}"


def _definition_in_place(host: Host, config: Optional[EtcdConfig]) -> str:
    if config is None or config.definition.startswith(f"{STATE_DIR}/"):
        return ""
    if not host.exists(config.definition):
        return ""
    return f"its definition is in place: {config.definition}"


def _process_left(host: Host) -> str:
    running = etcd_processes(host)
    if not running:
        return ""
    first = running[0]
    return f"{'scratch etcd' if first.scratch else 'etcd'} runs as process {first.pid}"


def _serving_ports(config: Optional[EtcdConfig]) -> tuple[int, ...]:
    return tuple(p for p in etcd_ports(config) if p != ETCD_PORTS[2])


def _port_open(host: Host, config: Optional[EtcdConfig]) -> str:
    open_ports = sorted(host.listening_ports() & set(_serving_ports(config)))
    return f"something listens on port {open_ports[0]}" if open_ports else ""


def _is_runtime_down(host: Host) -> bool:
    return not any(process for name in RUNTIMES for process in host.processes(name))


def _pod_left(host: Host, runtime: Optional[Runtime]) -> str:
    if runtime is None:
        return ""
    if not runtime.answers:
        if _is_runtime_down(host):
            return ""
        said = runtime.error or "no answer"
        return f"the container runtime does not say whether etcd's pod is gone: {said}"
    if runtime.sandboxes_ready:
        return f"{runtime.sandboxes_ready} pod sandbox of etcd is still ready"
    running = [c for c in runtime.containers if c.state == "running"]
    return f"container {running[0].id[:13]} is running" if running else ""
