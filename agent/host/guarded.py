"""Directories of ours, opened from one to the next: never through a link, and nobody else's.

Whoever may write into a directory on the way could put a link in the place of what root is about
to open there. So below a directory of ours everything is done relative to its descriptor; and the
directory itself must be its user's alone. The way *to* it may lead over links: a data directory
that is one is legitimate.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Optional

from agent.errors import Refused
from agent.host.syscalls import open_in_root

BESIDE_DATA = ".etcd-rescue"
"""Name of the directory of ours in a data directory that is a mount of its own."""

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def split_at_ours(path: str, state_dir: str) -> Optional[tuple[str, list[str]]]:
    """(parent, [our directory's name, what lies below, …]) of a path in a directory of ours.

    None for every other path.
    """
    parts = list(PurePosixPath("/", os.path.normpath(path)).parts[1:])
    state = list(PurePosixPath(state_dir).parts[1:])
    if parts[: len(state)] == state:
        at = len(state) - 1
    elif BESIDE_DATA in parts:
        at = parts.index(BESIDE_DATA)
    else:
        return None
    return "/" + "/".join(parts[:at]), parts[at:]


def open_inside(root: str, path: str, flags: int, real: Callable[[str], str]) -> int:
    """open(2) of a host's path below its prefix `root`: no link leads out, however it is changed.

    real: gives the path to open where the kernel cannot do that; between its look and the opening
    a link can then be changed. Raises Refused for a circle of links.
    """
    top = os.open(root, DIRECTORY)
    try:
        return open_in_root(top, path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Refused(f"{path}: too many levels of symbolic links") from None
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
    finally:
        os.close(top)
    return os.open(real(path), flags | os.O_CLOEXEC)


def open_ours(parent: int, parts: list[str], shown: str, make: bool = False) -> int:
    """A descriptor of the directory `parts` below the one that is open as `parent`, now closed.

    shown: the name of `parent`.

    parts[0] is our directory; it must be ours alone. make: those that are missing are made, 0700.
    Raises Refused where it is not, or where a link or a file is in the way; FileNotFoundError.
    """
    fd, seen = parent, shown
    try:
        for number, part in enumerate(parts):
            seen = f"{seen.rstrip('/')}/{part}"
            below = _step(fd, part, seen, make)
            os.close(fd)
            fd = below
            if number == 0:
                _require_private(os.fstat(fd), seen)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _step(fd: int, part: str, seen: str, make: bool) -> int:
    try:
        return _open_at(fd, part, seen)
    except FileNotFoundError:
        if not make:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), seen) from None
    try:
        os.mkdir(part, 0o700, dir_fd=fd)
    except FileExistsError:
        return _open_at(fd, part, seen)  # made by another part of us meanwhile, or a link
    below = _open_at(fd, part, seen)
    os.fchmod(below, 0o700)  # whatever the umask
    os.fsync(fd)
    return below


def _open_at(fd: int, part: str, seen: str) -> int:
    try:
        return os.open(part, DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise _in_the_way(fd, part, seen) from None
        raise


def _in_the_way(fd: int, part: str, seen: str) -> Refused:
    is_link = stat.S_ISLNK(os.stat(part, dir_fd=fd, follow_symlinks=False).st_mode)
    if not is_link:
        return Refused(f"{seen} is in the way: it is no directory")
    return Refused(
        f"{seen} is in the way: it is a link",
        "a directory of ours is never one: who put it there would choose what is written where",
        f"ls -ld {seen}; then take it away (to have it on another disk, mount that there)",
    )


def _require_private(info: os.stat_result, seen: str) -> None:
    mode = stat.S_IMODE(info.st_mode)
    if info.st_uid == os.geteuid() and not mode & 0o022:
        return
    raise Refused(
        f"{seen} belongs to uid {info.st_uid} and has mode {mode:04o}",
        "others than root can change what is in it: journals, parked definitions, data",
        f"look at what is in it; if it is as it should be: chown root {seen}; chmod 700 {seen}",
    )
