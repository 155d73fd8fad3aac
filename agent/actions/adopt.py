"""Gives new data the owner, modes and labels that etcd's data has on this host."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from agent.host import Host
from agent.host.syscalls import copy_xattrs

_LABEL = "security.selinux"


@dataclass(frozen=True)
class _Model:
    """What to become like. path: to open; empty for nothing. whole: its mode and ACLs too."""

    path: str
    whole: bool
    mode: int


def adopt(host: Host, member: str, data_dir: str) -> None:
    """Make the member directory at `member` look like the one in `data_dir`, and durable.

    Directories become like the old member directory, files like its database; where there is none,
    owner and label are those of the data directory, and modes 0700 and 0600. Where there is no
    data directory either, they stay root's. All is fsynced.
    """
    directories = _model(host, f"{data_dir}/member", data_dir, 0o700)
    files = _model(host, f"{data_dir}/member/snap/db", data_dir, 0o600)
    with host.folder(member) as (parent, top):
        for _where, below, names, fd in os.fwalk(top, topdown=False, dir_fd=parent):
            for name in names:
                _apply(name, fd, files, os.O_RDONLY)
            for name in below:
                _apply(name, fd, directories, os.O_RDONLY | os.O_DIRECTORY)
        _apply(top, parent, directories, os.O_RDONLY | os.O_DIRECTORY)


def _model(host: Host, old: str, data_dir: str, mode: int) -> _Model:
    if host.exists(old):
        return _Model(host.real(old), True, stat.S_IMODE(host.stat(old).st_mode))
    return _Model(host.real(data_dir) if host.exists(data_dir) else "", False, mode)


def _apply(name: str, parent: int, model: _Model, flags: int) -> None:
    fd = os.open(name, flags | os.O_NOFOLLOW, dir_fd=parent)
    try:
        if model.path:
            info = os.stat(model.path)
            os.fchown(fd, info.st_uid, info.st_gid)
            if model.whole:
                copy_xattrs(model.path, fd)
            else:
                _copy_label(model.path, fd)
        os.fchmod(fd, model.mode)
        os.fsync(fd)
    finally:
        os.close(fd)


def _copy_label(source: str, target: int) -> None:
    """Copy the SELinux label alone: a directory's ACLs do not fit a file."""
    try:
        os.setxattr(target, _LABEL, os.getxattr(source, _LABEL))
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.ENOTSUP, errno.EPERM):
            raise
