"""A file that arrives: hashed and written by two threads while its next bytes are on their way.

It is written past the page cache (O_DIRECT) where its file system can do that. Of a copy over the
network nobody reads the pages again, and for them a machine gives away as much time as for the
transfer itself: each is taken from the memory of others, copied to, and waits for the fsync at the
end, with a disk that was idle until then. So the memory is these few buffers, and the disk works
from the first of them on.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import mmap
import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from agent.errors import Damaged, Refused, RescueError

BUFFER = 2 * 1024 * 1024
"""Bytes written at once, and a multiple of this is where each but the last of them ends."""

_BUFFERS = 4
_BLOCK = 4096
"""What O_DIRECT wants offsets and lengths to be multiples of, on every usual disk; buffers are
pages. Where it wants more the kernel says EINVAL, and the rest goes through the page cache."""

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECT = getattr(os, "O_DIRECT", 0)


class _Filled(NamedTuple):
    """The first `size` bytes of a buffer, which belong at offset `at`."""

    buffer: memoryview
    size: int
    at: int


class Arriving:
    """An open file of `size` bytes of which `have` are there; see `arriving`."""

    def __init__(self, part: Path, fd: int, size: int, have: int) -> None:
        self._part, self._fd, self._size, self._at, self._filled = part, fd, size, have, 0
        self._buffer: memoryview | None = None
        self._error: BaseException | None = None
        self._sha256 = hashlib.sha256()
        self._free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        self._to_hash: queue.SimpleQueue[_Filled | None] = queue.SimpleQueue()
        self._to_write: queue.SimpleQueue[_Filled | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        for _ in range(_BUFFERS):
            self._free.put(memoryview(mmap.mmap(-1, BUFFER)))  # pages: aligned as O_DIRECT wants

    @property
    def left(self) -> int:
        """Bytes that are still to come."""
        return self._size - self._at - self._filled

    def room(self) -> memoryview:
        """Where the next bytes go; never empty while bytes are to come.

        Waits for the disk while all buffers are full. Raises what the disk said; see `disk_error`.
        """
        if self._buffer is None:
            self._buffer = self._free.get()
            self._require_written()
        return self._buffer[self._filled : self._end]

    @property
    def _end(self) -> int:
        return min(BUFFER - self._at % BUFFER, self._size - self._at)

    def add(self, count: int) -> None:
        """`count` bytes came into the room."""
        self._filled += count
        if self._filled == self._end:
            self._hand_over()

    def _hand_over(self) -> None:
        if self._buffer is not None and self._filled:
            self._to_hash.put(_Filled(self._buffer, self._filled, self._at))
            self._at, self._filled, self._buffer = self._at + self._filled, 0, None

    def digest(self) -> str:
        """The sha256 of all of it, once it is written. Raises what the disk said."""
        self.settle()
        self._require_written()
        return self._sha256.hexdigest()

    def _require_written(self) -> None:
        if isinstance(self._error, OSError):
            raise disk_error(self._part, self._error)
        if self._error is not None:
            raise self._error

    # ---- the threads, which let go of the interpreter while they work ----

    def start(self) -> None:
        """Hash what is there, and begin. Raises OSError, Damaged where it became shorter."""
        buffer, at = self._free.get(), 0
        while at < self._at:
            count = os.preadv(self._fd, [buffer[: self._at - at]], at)
            if not count:
                raise Damaged(f"{self._part}: became shorter while it was read")
            self._sha256.update(buffer[:count])
            at += count
        self._free.put(buffer)
        disk = _Disk(self._fd)
        self._threads = [
            threading.Thread(target=self._hash_all, name="sha256", daemon=True),
            threading.Thread(target=self._write_all, args=(disk,), name="write", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def settle(self) -> None:
        """See all written that came, a buffer that is not full too, and the threads ended."""
        self._hand_over()
        self._to_hash.put(None)
        for thread in self._threads:
            thread.join()

    def _hash_all(self) -> None:
        while (filled := self._to_hash.get()) is not None:
            self._sha256.update(filled.buffer[: filled.size])
            self._to_write.put(filled)
        self._to_write.put(None)

    def _write_all(self, disk: _Disk) -> None:
        """After an error nothing more is written: what is there has no hole."""
        with contextlib.closing(disk):
            while (filled := self._to_write.get()) is not None:
                try:
                    if self._error is None:
                        disk.write(filled.buffer[: filled.size], filled.at)
                except BaseException as error:  # it is for whoever fills the buffers
                    self._error = error
                self._free.put(filled.buffer)


class _Disk:
    """Writes past the page cache where it can, through a descriptor of its own.

    Whoever opened the file may close it at any time (Ctrl-C): the number would then be another's.
    """

    def __init__(self, fd: int) -> None:
        self._fd = os.dup(fd)
        self._can = bool(_DIRECT)
        self._is_direct = False

    def close(self) -> None:
        """Let go of the descriptor."""
        os.close(self._fd)

    def write(self, data: memoryview, at: int) -> None:
        """Write all of it. Raises OSError."""
        while data:
            self._be_direct(at % _BLOCK == 0 and len(data) % _BLOCK == 0)
            try:
                count = os.pwrite(self._fd, data, at)
            except OSError as error:
                if error.errno != errno.EINVAL or not self._is_direct:
                    raise
                self._can = False
                continue
            data, at = data[count:], at + count

    def _be_direct(self, wanted: bool) -> None:
        wanted = wanted and self._can
        if wanted == self._is_direct:
            return
        flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
        try:
            fcntl.fcntl(self._fd, fcntl.F_SETFL, flags | _DIRECT if wanted else flags & ~_DIRECT)
            self._is_direct = wanted
        except OSError:  # a file system that knows no O_DIRECT
            self._can = False


@contextlib.contextmanager
def arriving(part: Path, size: int, have: int) -> Iterator[Arriving]:
    """Open `part`, whose first `have` of `size` bytes are there already; 0600, never by a link.

    What came is written and durable at the end of the block, and after an error in it too. Raises
    Refused where there is no room, RescueError where this machine's disk does not take it.
    """
    fd = os.open(part, _FLAGS, 0o600)
    try:
        os.fchmod(fd, 0o600)
        file = Arriving(part, fd, size, have)
        try:
            file.start()
            yield file
        finally:
            file.settle()
            _flush(part, fd)
    finally:
        os.close(fd)


def _flush(part: Path, fd: int) -> None:
    """fsync(2). What a disk refuses once may be lost though it takes the next fsync.

    So the file is not gone on with.
    """
    try:
        os.fsync(fd)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise disk_error(part, error) from None


def disk_error(part: Path, error: OSError) -> RescueError:
    """What a disk of this machine said about a file that arrives."""
    said = f"{part}: cannot be written: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Refused(said, "it needs room on this machine", f"df -h {part.parent}")
    return RescueError(said, "a disk of this machine does not take it", "dmesg | tail")
