"""Small files of ours: removed, or held as a lock."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.host import Host


def remove_file(host: Host, path: str) -> bool:
    """unlink(2) of what we ourselves put there, durable; whether there was one."""
    try:
        with host.folder(path) as (folder, name):
            os.unlink(name, dir_fd=folder)
            os.fsync(folder)
    except FileNotFoundError:
        return False
    return True


def remove_empty(host: Host, path: str) -> None:
    """rmdir(2) where nothing is in it."""
    if host.is_dir(path) and not host.is_link(path) and not host.listdir(path):
        with host.folder(path) as (folder, name):
            os.rmdir(name, dir_fd=folder)


@contextmanager
def held(host: Host, path: str) -> Iterator[None]:
    """Hold a file of ours as a lock (flock(2)), which the kernel frees when we die.

    Raises BlockingIOError where another process holds it.
    """
    with host.folder(path) as (folder, name):
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=folder)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)
