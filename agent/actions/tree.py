"""Copies a directory tree once, hashing while it copies: data extents only, everything kept."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from agent.errors import StepFailed
from agent.host import Host
from agent.host.syscalls import copy_xattrs

_CHUNK = 1 << 20
_DEEPEST = 16
# What was a file a moment ago may be a link or a pipe by now: not followed, not waited for.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


def tree_size(host: Host, directory: str) -> int:
    """Bytes that the files below take on disk (holes are free)."""
    total = 0
    for where, _dirs, files in os.walk(host.real(directory), onerror=_raise):
        for name in files:
            total += os.lstat(os.path.join(where, name)).st_blocks * 512
    return total


def copy_tree(host: Host, source: str, target: str) -> dict[str, str]:
    """Copy `source` to the new directory `target`: relative path → sha256 of each regular file.

    Owner, mode, xattrs and times are kept, holes stay holes, all is fsynced. Both sides are gone
    through by descriptors, so that no link is followed, whoever puts it there meanwhile. Raises
    StepFailed for anything that is no file or directory: etcd's data has no links, devices or
    sockets.
    """
    hashes: dict[str, str] = {}
    src = host.open_directory(source)
    try:
        with host.folder(target) as (parent, name):
            os.mkdir(name, 0o700, dir_fd=parent)
            with _opened(name, parent) as dst:
                _copy_level(source, src, dst, "", hashes)
            os.fsync(parent)
    finally:
        os.close(src)
    return hashes


def _copy_level(source: str, src: int, dst: int, below: str, hashes: dict[str, str]) -> None:
    for name in sorted(os.listdir(src)):
        mode = os.stat(name, dir_fd=src, follow_symlinks=False).st_mode
        relative = f"{below}{name}"
        if stat.S_ISREG(mode):
            hashes[relative] = _copy_file(f"{source}/{relative}", name, src, dst)
        elif stat.S_ISDIR(mode) and relative.count("/") < _DEEPEST:
            os.mkdir(name, 0o700, dir_fd=dst)
            with _opened(name, src) as from_, _opened(name, dst) as to:
                _copy_level(source, from_, to, f"{relative}/", hashes)
        else:
            raise StepFailed(
                f"{source}/{relative} is not a regular file", "etcd's data has only such"
            )
    _copy_directory_attributes(src, dst)


@contextmanager
def _opened(name: str, parent: int) -> Iterator[int]:
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        yield fd
    finally:
        os.close(fd)


def own_like(host: Host, directory: str, like: str) -> None:
    """Give all of a tree to the owner of the directory `like`.

    A scratch etcd runs as root; where etcd itself does not, it could not open what that one made.
    """
    owner = os.stat(host.real(like))

    def give(name: str, parent: int) -> None:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if (found.st_uid, found.st_gid) != (owner.st_uid, owner.st_gid):
            os.chown(name, owner.st_uid, owner.st_gid, dir_fd=parent, follow_symlinks=False)

    with host.folder(directory) as (parent, top):
        for _where, dirs, files, fd in os.fwalk(top, onerror=_raise, dir_fd=parent):
            for name in (*dirs, *files):
                give(name, fd)
        give(top, parent)


def read_tree(host: Host, directory: str) -> int:
    """Read every byte of the files below (holes are not read); how many.

    Raises OSError with the file's name where the disk does not give them. Of an etcd that runs,
    files may go away meanwhile.
    """
    total = 0
    for where, _dirs, files in os.walk(host.real(directory), onerror=_raise):
        for name in files:
            with suppress(FileNotFoundError):
                total += _read_file(os.path.join(where, name))
    return total


def _read_file(path: str) -> int:
    total = position = 0
    with os.fdopen(os.open(path, _READ), "rb", buffering=0) as file, _named(path):
        size = os.fstat(file.fileno()).st_size
        while position < size:
            position = _next_data(file.fileno(), position, size)
            file.seek(position)
            chunk = file.read(_CHUNK)
            if not chunk:
                break
            position, total = position + len(chunk), total + len(chunk)
    return total


@contextmanager
def _named(path: str) -> Iterator[None]:
    """read(2) and write(2) fail without saying on which file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, error.filename or path) from None


def _raise(error: OSError) -> None:
    """A directory that cannot be read must not pass for an empty one."""
    raise error


def _copy_file(source: str, name: str, from_: int, to: int) -> str:
    """Copy one file; the hash is of the bytes read, and what was written is what was read.

    source: its path, for words; from_, to: the directories.
    """
    digest = hashlib.sha256()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    # Unbuffered: _next_data moves the descriptor's position, which a buffer would not know of.
    with (
        os.fdopen(os.open(name, _READ, dir_fd=from_), "rb", buffering=0) as src,
        os.fdopen(os.open(name, flags, 0o600, dir_fd=to), "wb") as dst,
    ):
        info = os.fstat(src.fileno())
        position = 0
        while position < info.st_size:
            begin = _next_data(src.fileno(), position, info.st_size)
            _hash_zeros(digest, begin - position)
            position = begin
            if begin < info.st_size:
                src.seek(begin)
                dst.seek(begin)
                with _named(source):
                    chunk = src.read(min(_CHUNK, info.st_size - begin))
                if not chunk:
                    raise StepFailed(f"{source} became shorter while it was copied")
                digest.update(chunk)
                with _named(f"the copy of {source}"):
                    dst.write(chunk)
                position += len(chunk)
        with _named(f"the copy of {source}"):
            dst.truncate(info.st_size)
            dst.flush()
        os.fchown(dst.fileno(), info.st_uid, info.st_gid)
        os.fchmod(dst.fileno(), stat.S_IMODE(info.st_mode))
        copy_xattrs(src.fileno(), dst.fileno())
        os.utime(dst.fileno(), ns=(info.st_atime_ns, info.st_mtime_ns))
        os.fsync(dst.fileno())
    return digest.hexdigest()


def _next_data(fd: int, position: int, size: int) -> int:
    """Offset of the next data at or after `position`; the size where only a hole follows."""
    try:
        return os.lseek(fd, position, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size
        return position  # a file system without SEEK_DATA: all of it is data


def _hash_zeros(digest: hashlib._Hash, count: int) -> None:
    zeros = bytes(_CHUNK)
    while count > 0:
        digest.update(zeros[: min(count, _CHUNK)])
        count -= _CHUNK


def _copy_directory_attributes(source: int, target: int) -> None:
    info = os.fstat(source)
    os.fchown(target, info.st_uid, info.st_gid)
    os.fchmod(target, stat.S_IMODE(info.st_mode))
    copy_xattrs(source, target)
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))
    os.fsync(target)
