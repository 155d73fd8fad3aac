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
    """The agent's Python, as root, is started through a command; `prefix` may be several words.

    Not so where that Python is only asked whether it will do (onhost/find.sh).
    """
    real = host.run(["readlink", "-f", _PYTHON]).stdout.strip()
    asked = f'case "$5" in "import sys"*) exec {real} "$@" ;; esac'
    script = f'#!/bin/sh\n[ "$(id -u)" = 0 ] || exec {real} "$@"\n{asked}\n{prefix} {real} "$@"\n'
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
