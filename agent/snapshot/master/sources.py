"""What of a master is backed up: the list of OpenShift 3.11's documentation."""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Iterator

from agent.host import Host
from agent.platforms.openshift311 import BACKED_UP as ROOTS
from agent.platforms.openshift311 import pods_dir

NAMED = (
    "/etc/origin/master/master-config.yaml", "/etc/origin/master/ca.serial.txt",
    "/etc/etcd/etcd.conf", "/etc/etcd/ca", "/etc/etcd/generated_certs",
    "/etc/sysconfig/iptables", "/etc/sysconfig/docker", "/etc/sysconfig/docker-network",
    "/etc/sysconfig/docker-storage", "/etc/sysconfig/docker-storage-setup",
    "/etc/sysconfig/flanneld",
)  # fmt: skip
"""Told of where they are missing: each is named in the documentation."""

MAX_FILES = 100_000
MAX_DEPTH = 24


def missing(host: Host) -> tuple[str, ...]:
    """Paths of the list that this host does not have."""
    return tuple(path for path in (*ROOTS, *NAMED) if not host.exists(path))


def walk(host: Host) -> Iterator[str]:
    """Every file, directory and link to back up, each directory before what is in it."""
    pods = pods_dir(host)
    roots = [path for path in (*ROOTS, pods) if host.exists(path) or host.is_link(path)]
    inside = [p for p in roots if any(p != r and p.startswith(f"{r}/") for r in roots)]
    for root in roots:
        if root not in inside:
            yield from _below(host, root, 0)


def _below(host: Host, path: str, depth: int) -> Iterator[str]:
    yield path
    if host.is_link(path) or depth > MAX_DEPTH or not host.is_dir(path):
        return
    for name in host.listdir(path):
        yield from _below(host, posixpath.join(path, name), depth + 1)


def kind_of(host: Host, path: str) -> str:
    """file, directory or link; empty for what is none of them (a socket, a device, gone)."""
    if host.is_link(path):
        return "link"
    try:
        mode = host.stat(path).st_mode
    except OSError:
        return ""
    return "directory" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else ""
