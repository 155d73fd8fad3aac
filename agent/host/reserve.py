"""Room kept aside for what must be written on a full disk: a plan's journal, its lock, its notes.

A rescue that has begun writes little, but must be able to write it: to go on, or to go back. So the
journal's next records have their blocks before they are written, and a small stock of files is kept
whose inodes and blocks stand in for new ones where there are none left.
"""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.host import Host

FULL = (errno.ENOSPC, errno.EDQUOT)
FILES = 16
FILE_SIZE = 64 * 1024
JOURNAL_ROOM = 256 * 1024
"""Bytes; a record is some hundreds, one with an error at most some thousands."""

_NAME = "reserve"
_KEEP_SIZE = 1
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


def reserve_dir(state_dir: str) -> str:
    """Where the stock lies."""
    return f"{state_dir}/{_NAME}"


def stock(host: Host, state_dir: str) -> None:
    """Fill the stock up; what fits is kept. Raises OSError without room for it and a journal."""
    directory = reserve_dir(state_dir)
    host.makedirs(directory)
    fd = host.open_directory(directory)
    try:
        for number in range(FILES):
            _allocate_file(fd, f"{number:02d}")
    finally:
        os.close(fd)
    if host.free(state_dir)[0] < 2 * JOURNAL_ROOM:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), state_dir)


def _allocate_file(folder: int, name: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
    fd = os.open(name, flags, 0o600, dir_fd=folder)
    try:
        os.posix_fallocate(fd, 0, FILE_SIZE)
    finally:
        os.close(fd)


def write_new(folder: int, name: str, data: bytes, reserve: str) -> int:
    """Write `data` to the new file `name` (0600) in a directory; its descriptor, open for writing.

    folder: the directory's descriptor. reserve: path to open of the stock, one file of which is
    used up where there is no room for a new one on its file system. Raises OSError.
    """
    try:
        return _filled(folder, name, _NEW, data)
    except OSError as error:
        if error.errno not in FULL or not _take(reserve, folder, name):
            raise
    return _filled(folder, name, os.O_WRONLY | os.O_NOFOLLOW, data)


def _filled(folder: int, name: str, flags: int, data: bytes) -> int:
    fd = os.open(name, flags, 0o600, dir_fd=folder)
    try:
        write_all(fd, data)
        os.ftruncate(fd, len(data))
    except BaseException:
        os.close(fd)
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
        raise
    return fd


def write_all(fd: int, data: bytes) -> None:
    """write(2) until everything is written."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _take(reserve: str, folder: int, name: str) -> bool:
    """Move a file of the stock to `name`; False where there is none, or on other file systems."""
    try:
        names = sorted(os.listdir(reserve))
    except OSError:
        return False
    for spare in names:
        try:
            os.rename(f"{reserve}/{spare}", name, dst_dir_fd=folder)
            return True
        except OSError:
            continue
    return False


def hold_room(fd: int, size: int) -> None:
    """Give a file blocks for its first `size` bytes, without making it longer; where that works.

    fallocate(2) with FALLOC_FL_KEEP_SIZE; truncating to the file's own size would let go of them.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "fallocate"):
        libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)
        libc.fallocate(fd, _KEEP_SIZE, 0, size)
