"""A file read by position: flat memory, and read errors become damage with an offset."""

from __future__ import annotations

import errno
import os
from types import TracebackType
from typing import Optional

from agent.errors import Damaged
from agent.host import Host
from agent.model.facts import Damage

_READ_ERRORS = (errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ESTALE)


class DamagedAt(Damaged):
    """Damage at a known place; `damage` is the same as a fact."""

    def __init__(self, file: str, offset: int, reason: str) -> None:
        self.damage = Damage(file, offset, reason)
        super().__init__(f"{file}: offset {offset}: {reason}")


class PositionedFile:
    """A regular file of a host, open for pread(2).

    pread and not mmap: a disk that returns EIO, or a writer that truncates the file, kills a
    process that maps it (SIGBUS); here both are an error with an offset. Pages read this way do not
    count as memory of the process either. `size` is that at opening.
    """

    def __init__(self, host: Host, path: str) -> None:
        """Raises FileNotFoundError where there is none, DamagedAt where it cannot be opened."""
        self.path = path
        try:
            # No Python buffer: every read goes through pread.
            self._file = host.open(path)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise DamagedAt(path, 0, os.strerror(error.errno or 0)) from None
        self._fd = self._file.fileno()
        self.size = os.fstat(self._fd).st_size

    def __enter__(self) -> PositionedFile:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        value: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._file.close()

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer only at the end of the file.

        Raises DamagedAt where the disk cannot read them.
        """
        try:
            data = os.pread(self._fd, length, offset)
            while len(data) < length:
                more = os.pread(self._fd, length - len(data), offset + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            if error.errno not in _READ_ERRORS:
                raise
            raise DamagedAt(self.path, offset, os.strerror(error.errno)) from None
        return data

    def next_data(self, offset: int) -> int:
        """Offset of the first byte from `offset` on that is in no hole; size where all is a hole.

        Preallocated space that was never written counts as a hole on ext4 and xfs, so a nearly
        empty segment of 64 MB costs one system call.
        """
        if offset >= self.size:
            return self.size
        try:
            return os.lseek(self._fd, offset, os.SEEK_DATA)
        except OSError as error:
            return self.size if error.errno == errno.ENXIO else offset

    def stamp(self) -> tuple[int, int, int]:
        """(inode, size, mtime in ns): changes when a writer touches the file."""
        info = os.fstat(self._fd)
        return info.st_ino, info.st_size, info.st_mtime_ns
