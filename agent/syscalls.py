"""System calls that Python's os module lacks, and their small relatives."""

from __future__ import annotations

import ctypes
import errno
import os
import signal

_RENAME_NOREPLACE = 1
_AT_FDCWD = -100
_PR_SET_PDEATHSIG = 1


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies; for preexec_fn."""
    _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def rename_noreplace(source: str, target: str) -> None:
    """renameat2(2) with RENAME_NOREPLACE; where the file system lacks it, check and rename."""
    libc = _libc()
    if hasattr(libc, "renameat2"):
        code = libc.renameat2(
            _AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE
        )
        if code == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(number, os.strerror(number), source, None, target)
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), source, None, target)
    os.rename(source, target)


def copy_xattrs(source: str, target: int) -> None:
    """Copy extended attributes (SELinux label included) where the target's file system has them."""
    for name in os.listxattr(source):
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise


def mount_points() -> list[str]:
    """All mount points of this mount namespace (proc_pid_mountinfo(5))."""
    with open("/proc/self/mountinfo") as file:
        return [_unescape(line.split(" ", 5)[4]) for line in file]


def _unescape(field: str) -> str:
    """A mountinfo field: space, tab, newline and backslash are written as octal escapes."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, char)
    return field
