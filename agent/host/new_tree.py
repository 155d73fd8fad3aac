"""A new directory tree of ours, written through directory descriptors: no link is ever followed."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import BinaryIO, Optional

from agent.errors import Refused
from agent.host import Host
from agent.host.syscalls import copy_xattrs

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class NewTree:
    """Writes files and directories below `target`, which it makes (0700) and nobody else has.

    Leaving the block by an error takes the whole tree away again; leaving it well makes it durable.
    Names are relative to `target` and have been checked (`archive.name_problem`); parents that are
    missing are made, 0700.
    """

    def __init__(self, host: Host, target: str) -> None:
        self._host, self.target = host, target
        self._parent_fd = self._fd = -1
        self._directories: dict[str, int] = {}

    def __enter__(self) -> NewTree:
        """Raises Refused where `target` exists, or its parent does not."""
        parent, name = os.path.split(os.path.normpath(self.target))
        self._name = name
        self._parent_fd = self._host.open_directory(parent)
        try:
            os.mkdir(name, 0o700, dir_fd=self._parent_fd)
            self._fd = os.open(name, _DIRECTORY, dir_fd=self._parent_fd)
            os.fchmod(self._fd, 0o700)
        except FileExistsError:
            os.close(self._parent_fd)
            raise Refused(f"{self.target} exists", "nothing is ever overwritten") from None
        except BaseException:
            os.close(self._parent_fd)
            raise
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        value: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        try:
            if kind is None:
                self._finish()
            else:
                with suppress(OSError):
                    shutil.rmtree(f"/proc/self/fd/{self._parent_fd}/{self._name}")
        finally:
            os.close(self._fd)
            os.close(self._parent_fd)

    def _finish(self) -> None:
        """Modes of directories last (one may forbid writing), and everything on the disk."""
        for name, mode in sorted(self._directories.items(), reverse=True):
            with self._opened(name.split("/")) as fd:
                os.fchmod(fd, mode)
                os.fsync(fd)
        os.fsync(self._fd)
        os.fsync(self._parent_fd)

    def directory(self, name: str, mode: int = 0o700) -> None:
        """Make a directory. Raises Refused where a file of that name is in the way."""
        with self._opened(name.split("/"), make=True):
            self._directories[name] = mode

    @contextmanager
    def file(self, name: str, mode: int = 0o600) -> Iterator[BinaryIO]:
        """A new file for writing, fsynced at the end of the block. Raises Refused."""
        *folders, last = name.split("/")
        with self._opened(folders, make=True) as fd:
            try:
                new = os.open(last, _NEW_FILE, 0o600, dir_fd=fd)
            except FileExistsError:
                raise self._in_the_way(name) from None
        with os.fdopen(new, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())

    def copy(self, source: BinaryIO, name: str) -> tuple[int, str]:
        """Copy an open file with owner, mode, attributes and times; (bytes, sha256) of it."""
        info, digest, size = os.fstat(source.fileno()), hashlib.sha256(), 0
        with self.file(name, stat.S_IMODE(info.st_mode)) as file:
            while chunk := source.read(1 << 20):
                digest.update(chunk)
                file.write(chunk)
                size += len(chunk)
            file.flush()
            os.fchown(file.fileno(), info.st_uid, info.st_gid)
            copy_xattrs(source.fileno(), file.fileno())
            os.utime(file.fileno(), ns=(info.st_atime_ns, info.st_mtime_ns))
        return size, digest.hexdigest()

    def link(self, name: str, target: str) -> None:
        """Make a symbolic link; what it leads to is not looked at."""
        *folders, last = name.split("/")
        with self._opened(folders, make=True) as fd:
            os.symlink(target, last, dir_fd=fd)

    @contextmanager
    def _opened(self, parts: list[str], make: bool = False) -> Iterator[int]:
        """A descriptor of the directory `parts` below the target, from one to the next."""
        with ExitStack() as stack:
            fd, path = self._fd, ""
            for part in parts:
                path = f"{path}/{part}" if path else part
                fd = self._step(fd, part, path, make)
                stack.callback(os.close, fd)
            yield fd

    def _step(self, fd: int, part: str, path: str, make: bool) -> int:
        if make:
            with suppress(FileExistsError):
                os.mkdir(part, 0o700, dir_fd=fd)
                self._directories.setdefault(path, 0o700)
        try:
            return os.open(part, _DIRECTORY, dir_fd=fd)
        except (NotADirectoryError, OSError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise self._in_the_way(path) from None

    def _in_the_way(self, name: str) -> Refused:
        return Refused(f"{self.target}/{name} is in the way", "nothing is ever overwritten")
