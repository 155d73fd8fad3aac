"""What befalls a host's disks: full, read-only, without inodes, failing, slow; each for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.lab.host import Host

_SHADOW = "/mnt/shadow"
_PYTHON = "/usr/bin/python3"


def _sh(host: Host, script: str, stdin: str | None = None) -> None:
    host.run(["sh", "-ec", script], stdin=stdin)


@contextmanager
def full(host: Host, directory: str) -> Iterator[None]:
    """No byte is left on the file system of a directory."""
    ballast = f"{directory}/.ballast"  # no definition, where it is the watched directory
    free = f"$(($(stat -f -c '%f * %S' {directory})))"
    rest = (
        f"dd if=/dev/zero of={ballast} bs=64k status=none 2>/dev/null || true"  # others write too
    )
    _sh(host, f"fallocate -l {free} {ballast} 2>/dev/null || {rest}")
    try:
        yield
    finally:
        _sh(host, f"rm {ballast}")


@contextmanager
def without_inodes(host: Host, mount: str) -> Iterator[None]:
    """A tmpfs has no inode left."""
    _sh(host, f"mount -o remount,nr_inodes=$(stat -f -c '%c %d' {mount} | awk '{{print $1-$2}}') "
              f"{mount}")  # fmt: skip
    try:
        yield
    finally:
        _sh(host, f"mount -o remount,nr_inodes=1000000 {mount}")


@contextmanager
def read_only(host: Host, directory: str) -> Iterator[None]:
    """A directory is read-only for all but those who have it open already."""
    _sh(host, f"mount --bind {directory} {directory}; mount -o remount,ro,bind {directory}")
    try:
        yield
    finally:
        _sh(host, f"umount --lazy {directory}")


@contextmanager
def small(host: Host, directory: str, options: str) -> Iterator[None]:
    """A directory's content lies on a small file system of its own; options: of a tmpfs."""
    _sh(host, f"mkdir -p {_SHADOW} {directory}; mount -t tmpfs -o {options} tmpfs {_SHADOW}; "
              f"chmod --reference={directory} {_SHADOW}; cp -a {directory}/. {_SHADOW}/; "
              f"mount --bind {_SHADOW} {directory}")  # fmt: skip
    try:
        yield
    finally:
        _sh(host, f"umount --lazy {directory}; umount --lazy {_SHADOW}")


@contextmanager
def agent_through(host: Host, prefix: str) -> Iterator[None]:
    """The agent's Python, as root, is started through a command; `prefix` may be several words."""
    real = host.run(["readlink", "-f", _PYTHON]).stdout.strip()
    script = f'#!/bin/sh\n[ "$(id -u)" = 0 ] || exec {real} "$@"\n{prefix} {real} "$@"\n'
    new = f"{_PYTHON}.new"
    _sh(host, f"cat >{new}; chmod 755 {new}; mv -f {new} {_PYTHON}", script)
    try:
        yield
    finally:
        _sh(host, f"ln -sfn {real} {_PYTHON}")


def injected(*inject: str, only: str = "") -> str:
    """The prefix under which system calls of the agent and its children fail or take long.

    only: for calls on this path alone.
    """
    paths = f"-P {only} " if only else ""
    faults = " ".join(f"-e inject={each}" for each in inject)
    return f"exec strace -f -qq -o /dev/null {paths}{faults}"


_LIMITS = (("/sys/fs/cgroup/memory/agent", "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
           ("/sys/fs/cgroup/agent", "memory.max", "memory.peak"))  # fmt: skip
"""Version 1 and version 2 of control groups: group, its limit, the most it ever had; in bytes."""


def limited(memory: int) -> str:
    """The prefix under which the agent and its children have so many bytes of memory."""
    (one, limit, _), (two, maximum, _) = _LIMITS
    return (
        f"if [ -d {one.rpartition('/')[0]} ]; then g={one} f={limit}; "
        f"else g={two} f={maximum}; fi; "
        f"mkdir -p $g; echo {memory} >$g/$f; echo $$ >$g/cgroup.procs; exec"
    )


def peak(host: Host) -> int:
    """The most memory that what ran under `limited` ever had, in bytes."""
    files = [f"{group}/{most}" for group, _, most in _LIMITS]
    return int(host.run(["sh", "-c", f"cat {' '.join(files)} 2>/dev/null || true"]).stdout)
