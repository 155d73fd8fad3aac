"""System calls that Python's os module lacks, and their small relatives."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from typing import Union

_RENAME_NOREPLACE = 1
_AT_FDCWD = -100
_PR_SET_PDEATHSIG = 1
_SYS_OPENAT2 = 437  # the same on every architecture (asm-generic/unistd.h), from Linux 5.6
_RESOLVE_IN_ROOT = 0x10


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies; for preexec_fn."""
    _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class _OpenHow(ctypes.Structure):
    """struct open_how (openat2(2))."""

    _fields_ = (
        ("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)
    )  # fmt: skip


def open_in_root(root: int, path: str, flags: int) -> int:
    """openat2(2) with RESOLVE_IN_ROOT: all links lead inside the directory `root`, at one instant.

    Raises OSError; ENOSYS or EPERM where the kernel, or a container's filter, does not have it.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT)
    name = os.fsencode(path.lstrip("/") or ".")
    fd = _libc().syscall(_SYS_OPENAT2, root, name, ctypes.byref(how), ctypes.sizeof(how))
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return int(fd)


def rename_noreplace(
    source: str, target: str, source_dir: int = _AT_FDCWD, target_dir: int = _AT_FDCWD
) -> None:
    """renameat2(2) with RENAME_NOREPLACE; where the file system lacks it, check and rename.

    source_dir, target_dir: descriptors of the directories that relative names are looked up in.
    """
    libc = _libc()
    if hasattr(libc, "renameat2"):
        code = libc.renameat2(
            source_dir, os.fsencode(source), target_dir, os.fsencode(target), _RENAME_NOREPLACE
        )
        if code == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(number, os.strerror(number), source, None, target)
    src, dst = (None if fd == _AT_FDCWD else fd for fd in (source_dir, target_dir))
    try:
        os.stat(target, dir_fd=dst, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(source, target, src_dir_fd=src, dst_dir_fd=dst)
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), source, None, target)


def copy_xattrs(source: Union[str, int], target: int) -> None:
    """Copy extended attributes (SELinux label included) where the target's file system has them."""
    try:
        names = os.listxattr(source)
    except OSError as error:
        if error.errno != errno.ENOTSUP:  # as many file systems of sticks say
            raise
        return
    for name in names:
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise


def read_xattrs(path: str) -> dict[str, bytes]:
    """Extended attributes of a file, links not followed; none where there are none to be had."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
        return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.ENODATA):
            raise
        return {}


def write_xattrs(path: str, values: dict[str, bytes]) -> None:
    """Set extended attributes of a file where its file system has them."""
    for name, value in values.items():
        try:
            os.setxattr(path, name, value, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise


def link_target(path: str) -> str:
    """Where a symbolic link leads, as it is written."""
    return os.readlink(path)


def mount_points() -> list[str]:
    """All mount points of this mount namespace (proc_pid_mountinfo(5))."""
    with open("/proc/self/mountinfo") as file:
        return [_unescape(line.split(" ", 5)[4]) for line in file]


def _unescape(field: str) -> str:
    """A mountinfo field: space, tab, newline and backslash are written as octal escapes."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, char)
    return field
