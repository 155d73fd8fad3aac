"""Two-way byte streams to a process, over SSH or on this machine, and lines read from them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import subprocess
import time
from collections import deque
from collections.abc import Sequence
from typing import IO, Any, Protocol, cast

from agent.errors import Unreachable

MAX_LINE = 8 * 1024 * 1024
"""The longest line an agent may send; a survey is some 100 KiB. JSON can take 30 times as much
memory as its text, and what answers need not be an agent."""

_CHUNK = 64 * 1024
_TAIL = 16 * 1024
_STDERR_EVERY = 0.2
_PIPE = 1024 * 1024
"""What the stdout of a process holds, where the kernel lets it; as usual it is 64 KiB. The sender
works on while we are busy, and we wake up for more at once: for a large file over ssh that is a
quarter of the time that this side takes."""


class ByteStream(Protocol):
    """A process somewhere: its stdin, stdout and the end of its stderr."""

    def read(self, timeout: float) -> bytes:
        """What stdout has, b"" at its end. Raises TimeoutError after `timeout` seconds of nothing.

        Raises OSError where the connection broke.
        """

    def write(self, data: bytes, timeout: float) -> None:
        """Send everything to stdin. Raises TimeoutError, or OSError where nobody reads any more."""

    def errors(self) -> str:
        """The last 16 KiB of stderr so far."""

    def close(self) -> None:
        """End stdin, so that the process may finish what it is doing, and let go of it."""


class BulkStream(ByteStream, Protocol):
    """One that large files come over."""

    def read_into(self, room: memoryview, timeout: float) -> int:
        """As `read`, into memory that is there: how many bytes came, 0 at the end of stdout."""


class Tail:
    """The last 16 KiB of a stream of bytes."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._size = 0

    def add(self, data: bytes) -> None:
        """Remember `data`, forgetting what is too long ago."""
        self._chunks.append(data[-_TAIL:])
        self._size += len(self._chunks[-1])
        while self._size - len(self._chunks[0]) >= _TAIL:
            self._size -= len(self._chunks.popleft())

    def text(self) -> str:
        """What is remembered, decoded."""
        return b"".join(self._chunks)[-_TAIL:].decode(errors="replace")


class ProcessStream:
    """A process on this machine."""

    def __init__(self, argv: Sequence[str]) -> None:
        """Start it. Raises Unreachable where there is no such command."""
        try:
            self._process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the coordinator; it closes stdin
                bufsize=0,
            )
        except OSError as error:
            raise Unreachable(f"cannot start {argv[0]}: {error.strerror}") from None
        self._pipes = [
            cast("IO[bytes]", pipe)
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr)
        ]
        self._stdin, self._stdout, self._stderr = (pipe.fileno() for pipe in self._pipes)
        self._open = {self._stdout, self._stderr}
        self._tail = Tail()
        os.set_blocking(self._stdin, False)
        with contextlib.suppress(OSError):  # all pipes of a user together have a limit
            fcntl.fcntl(self._stdout, fcntl.F_SETPIPE_SZ, _PIPE)

    def read(self, timeout: float) -> bytes:
        """See ByteStream."""
        data = os.read(self._stdout, _CHUNK) if self._is_open(timeout) else b""
        if not data:
            self._open.discard(self._stdout)
        return data

    def read_into(self, room: memoryview, timeout: float) -> int:
        """See BulkStream."""
        count = os.readv(self._stdout, [room]) if self._is_open(timeout) else 0
        if not count:
            self._open.discard(self._stdout)
        return count

    def _is_open(self, timeout: float) -> bool:
        """Wait until stdout has something, or its end; False after that. Raises TimeoutError."""
        deadline = time.monotonic() + timeout
        while self._stdout in self._open:
            left = deadline - time.monotonic()
            ready, _, _ = select.select(list(self._open), [], [], max(left, 0))
            if self._stderr in ready:
                self._drain()
            if self._stdout in ready:
                return True
            if not ready or left <= 0:
                raise TimeoutError
        return False

    def _drain(self) -> None:
        data = os.read(self._stderr, _CHUNK)
        if data:
            self._tail.add(data)
        else:
            self._open.discard(self._stderr)

    def write(self, data: bytes, timeout: float) -> None:
        """See ByteStream."""
        deadline = time.monotonic() + timeout
        view = memoryview(data)
        while view:
            left = max(deadline - time.monotonic(), 0)
            watched = list(self._open & {self._stderr})
            readable, writable, _ = select.select(watched, [self._stdin], [], left)
            if readable:
                self._drain()
            if writable:
                view = view[os.write(self._stdin, view) :]
            elif not readable:
                raise TimeoutError

    def wait(self, timeout: float) -> int | None:
        """The exit code of the process; None where it has not ended within `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def errors(self) -> str:
        """See ByteStream."""
        while self._stderr in self._open and select.select([self._stderr], [], [], 0)[0]:
            self._drain()
        return self._tail.text()

    def close(self) -> None:
        """See ByteStream. A process that is in the middle of a step is left to finish it."""
        with contextlib.suppress(OSError):
            self._pipes[0].close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2)
        for pipe in self._pipes[1:]:
            pipe.close()
        self._open.clear()


class SshStream:
    """A command on the other side of an SSH connection (a paramiko channel)."""

    def __init__(self, channel: Any, command: str) -> None:
        self._channel = channel
        self._tail = Tail()
        channel.exec_command(command)

    def read(self, timeout: float) -> bytes:
        """See ByteStream."""
        return self._receive(_CHUNK, timeout)

    def _receive(self, size: int, timeout: float) -> bytes:
        """Read stdout, and stderr meanwhile: unread, it would fill the window and block."""
        deadline = time.monotonic() + timeout
        while True:
            self._drain()
            left = deadline - time.monotonic()
            self._channel.settimeout(max(min(left, _STDERR_EVERY), 0.0))
            try:
                data: bytes = self._channel.recv(size)
                return data
            except TimeoutError:
                if left <= 0:
                    raise

    def read_into(self, room: memoryview, timeout: float) -> int:
        """See BulkStream. paramiko gives bytes of its own alone."""
        data = self._receive(min(len(room), _CHUNK), timeout)
        room[: len(data)] = data
        return len(data)

    def _drain(self) -> None:
        while self._channel.recv_stderr_ready():
            self._tail.add(self._channel.recv_stderr(_CHUNK))

    def write(self, data: bytes, timeout: float) -> None:
        """See ByteStream."""
        self._channel.settimeout(timeout)
        self._channel.sendall(data)

    def errors(self) -> str:
        """See ByteStream."""
        with contextlib.suppress(OSError, EOFError):
            self._drain()
        return self._tail.text()

    def close(self) -> None:
        """See ByteStream."""
        with contextlib.suppress(OSError, EOFError):
            self._channel.shutdown_write()
            self._channel.close()


class LineReader:
    """Lines of a stream, with a limit on their length and a deadline on their coming."""

    def __init__(self, stream: ByteStream, where: str, max_line: int = MAX_LINE) -> None:
        """where: the host's name, for errors."""
        self._stream, self._where, self._max = stream, where, max_line
        self._parts: list[bytes] = []
        self._size = 0
        self._lines: deque[bytes] = deque()

    def line(self, timeout: float) -> bytes | None:
        """The next line without its newline; None at the end of the stream.

        Raises TimeoutError where it is not complete within `timeout` seconds, Unreachable for a
        line above the limit or a broken connection.
        """
        deadline = time.monotonic() + timeout
        while not self._lines:
            try:
                data = self._stream.read(max(deadline - time.monotonic(), 0))
            except TimeoutError:
                raise
            except (OSError, EOFError) as error:
                raise Unreachable(f"connection to {self._where} broke: {error}") from None
            if not data:
                return None
            self._take(data)
        return self._lines.popleft()

    def rest(self) -> bytes:
        """What was read behind the last line that was given: raw bytes may follow a line."""
        rest = b"".join([*(line + b"\n" for line in self._lines), *self._parts])
        self._lines.clear()
        self._parts, self._size = [], 0
        return rest

    def _take(self, data: bytes) -> None:
        *complete, rest = data.split(b"\n")
        for piece in complete:
            self._lines.append(b"".join([*self._parts, piece]))
            self._parts, self._size = [], 0
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
        if self._size > self._max:
            self._parts = []
            raise Unreachable(
                f"{self._where} sent a line of more than {self._max // 2**20} MiB",
                "no answer of an agent is that long",
            )
