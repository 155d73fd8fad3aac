"""The last log lines of etcd and of the kubelet about it, read without the container runtime."""

from __future__ import annotations

import posixpath
import re
import time
from collections.abc import Sequence
from typing import Optional

from agent.errors import CommandFailed
from agent.host import Host
from agent.platforms.base import Platform
from agent.survey.loglines import LogLine, in_order, join_cri, normalise

POD_LOGS = "/var/log/pods"
MAX_TAIL = 256 * 1024
_FILES = 3
_CONTAINER = re.compile(r"\bcontainer=([\w.-]+) pod=")
_LOG_NAME = re.compile(r"\d+\.log(?:\.[\d-]+)?")


def etcd_lines(host: Host, platform: Platform, timeout: float = 2.0) -> tuple[LogLine, ...]:
    """The last lines of etcd's newest log files, oldest first; at most 256 KiB are read.

    Of a unit: what the journal has of it.

    The kubelet keeps them as NAMESPACE_POD_UID/CONTAINER/ATTEMPT.log below /var/log/pods
    (kubernetes pkg/kubelet/kuberuntime/helpers.go, BuildContainerLogsDirectory).
    """
    if platform.unit:
        return unit_lines(host, platform.unit, timeout)
    room = MAX_TAIL
    parts: list[list[str]] = []
    for path in log_files(host, platform)[:_FILES]:
        lines = _tail(host, path, room)
        room -= sum(len(line) + 1 for line in lines)
        parts.insert(0, lines)
        if room <= 0:
            break
    return tuple(normalise(raw) for lines in parts for raw in join_cri(lines))


def unit_lines(host: Host, unit: str, timeout: float = 2.0) -> tuple[LogLine, ...]:
    """The last lines of a unit in the journal, systemd's own about it too, oldest first."""
    argv = ["journalctl", "-u", unit, "-n", "400", "--no-pager", "-o", "short-iso"]
    try:
        done = host.run(argv, timeout=timeout, ok=(0, 1))
    except CommandFailed:
        return ()
    lines = done.stdout[-MAX_TAIL:].splitlines()
    return tuple(normalise(raw) for raw in lines if not raw.startswith("-- "))


def log_files(host: Host, platform: Platform) -> list[str]:
    """The log files of etcd that can be read as text, the one written last first."""
    found = []
    for directory in host.listdir(POD_LOGS):
        if not directory.startswith(f"{platform.namespace}_{platform.pod_prefix}"):
            continue
        logs = posixpath.join(POD_LOGS, directory, platform.container)
        for name in host.listdir(logs):
            if _LOG_NAME.fullmatch(name):
                found.append(posixpath.join(logs, name))
    dated = [(stamp, path) for path in found if (stamp := _modified(host, path)) is not None]
    return [path for _, path in sorted(dated, reverse=True)]


def kubelet_lines(host: Host, platform: Platform, timeout: float = 2.0) -> tuple[LogLine, ...]:
    """What the kubelet last said about etcd, oldest first; nothing where the journal is silent."""
    argv = ["journalctl", "-u", platform.kubelet_unit, "-n", "200", "--no-pager", "-o", "short-iso"]
    try:
        done = host.run(argv, timeout=timeout, ok=(0, 1))
    except CommandFailed:
        return ()
    lines = [
        raw for raw in done.stdout.splitlines() if "etcd" in raw and not _of_another(raw, platform)
    ]
    return tuple(normalise(raw, "kubelet") for raw in lines)


def _of_another(line: str, platform: Platform) -> bool:
    """Whether a line is about another container of etcd's pod, as OpenShift's etcd-metrics is."""
    found = _CONTAINER.search(line)
    return found is not None and found.group(1) != platform.container


def shown(lines: Sequence[LogLine], count: int = 40) -> tuple[str, ...]:
    """The last `count` lines by time, as text for a person: UTC time, level, message."""
    return tuple(_shown(line) for line in in_order(lines)[-count:])


def _shown(line: LogLine) -> str:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(line.time)) if line.time else ""
    message = line.message if len(line.message) <= 500 else line.message[:499] + "…"
    return " ".join(part for part in (stamp, line.level, message) if part)


def _tail(host: Host, path: str, limit: int) -> list[str]:
    """The last whole lines within `limit` bytes; nothing where the file went away."""
    try:
        with host.open(path) as file:
            size = file.seek(0, 2)
            start = max(size - limit, 0)
            file.seek(start)
            data = file.read(limit)
    except OSError:
        return []
    lines = data.decode(errors="replace").split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return lines[1:] if start and lines else lines


def _modified(host: Host, path: str) -> Optional[float]:
    try:
        return host.stat(path).st_mtime
    except OSError:
        return None
