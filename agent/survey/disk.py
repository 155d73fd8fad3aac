"""Room for the data and for what a rescue keeps, and how the data directory is mounted."""

from __future__ import annotations

import os

from agent.host import STATE_DIR, Host
from agent.model.facts import Disk


def read_disk(host: Host, data_dir: str) -> Disk:
    """Shape of `data_dir` and the room where it and the state directory lie.

    same_filesystem: a rename leads from the one to the other (same mount and same st_dev: a bind
    mount has the same device and is not crossed, a btrfs subvolume the same mount).
    """
    real = host.realpath(data_dir)
    data_free, data_inodes = host.free(real)
    state_free, state_inodes = host.free(STATE_DIR)
    return Disk(
        data_kind=_kind(host, data_dir),
        data_real=real,
        data_free=data_free,
        data_inodes_free=data_inodes,
        state_free=state_free,
        state_inodes_free=state_inodes,
        same_filesystem=_is_same(host, real, STATE_DIR),
        read_only=is_read_only(host, real),
    )


def _kind(host: Host, path: str) -> str:
    if host.is_link(path):
        return "symlink" if host.exists(path) else "missing"
    if not host.is_dir(path):
        return "missing"
    return "mount" if host.is_mount(path) else "plain"


def _is_same(host: Host, one: str, other: str) -> bool:
    return host.device(one) == host.device(other) and host.mount_point(one) == host.mount_point(
        other
    )


def is_read_only(host: Host, path: str) -> bool:
    """True if the file system of `path` (or its nearest existing parent) is mounted read-only."""
    here = path
    while not host.exists(here):
        here = os.path.dirname(here)
    return bool(os.statvfs(host.real(here)).f_flag & os.ST_RDONLY)
