"""Large files between a host and this machine: raw bytes of an agent of their own, over its line.

What runs on the host is the one command that also starts agents.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import Damaged, Refused, RescueError, Unreachable, from_plain
from agent.host import STATE_DIR
from coordinator.agent_file import AgentFile
from coordinator.arriving import arriving
from coordinator.channel import Messages, error_of
from coordinator.connection import Access
from coordinator.delivery import deliver, host_command, start_code
from coordinator.hosts import HostSpec
from coordinator.streams import BulkStream
from coordinator.transports.open_line import open_line

SILENCE = 60.0
"""Seconds without a byte after which a transfer counts as dropped."""

ATTEMPTS = 5
_WAIT = 1.0
_CHUNK = 1024 * 1024
_SAY_EVERY = 512 * 1024 * 1024
logger = logging.getLogger(__name__)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Piece:
    """One file to fetch: where it is on the host, where it goes here, its size and sha256."""

    source: str
    target: Path
    size: int
    sha256: str


@dataclass(frozen=True)
class Way:
    """How to get to one host."""

    spec: HostSpec
    agent: AgentFile
    access: Access


# ---- fetching ------------------------------------------------------------------------------------


def fetch(way: Way, pieces: Sequence[Piece], say: Say) -> None:
    """Fetch files of our state directory; each has its name only once it is whole and durable.

    What is not whole yet is TARGET.part (0600); after a dropped connection, and in a later run, it
    is gone on with. Raises Unreachable after five drops without progress, Damaged where what
    arrived is not what was announced, Refused where there is no room here.
    """
    _require_room(pieces)
    left = ATTEMPTS
    while todo := [piece for piece in pieces if not piece.target.exists()]:
        before = _present(todo)
        try:
            _fetch_once(way, todo, say)
        except (Unreachable, OSError, EOFError) as error:
            left = ATTEMPTS if _present(todo) != before else left - 1
            if left <= 0 or (isinstance(error, OSError) and error.errno and error.filename):
                raise _given_up(way, error) from None
            say(f"{way.spec.name}: the transfer was interrupted ({error}); going on with it")
            time.sleep(_WAIT)


def _present(pieces: Sequence[Piece]) -> int:
    """Bytes of these files that are here."""
    done = [p.target for p in pieces if p.target.exists()]
    parts = [_part(p) for p in pieces if _part(p).exists()]
    return sum(path.stat().st_size for path in (*done, *parts))


def _given_up(way: Way, error: Exception) -> RescueError:
    if isinstance(error, RescueError):
        return error
    return Unreachable(f"{way.spec.name}: the transfer broke: {error or type(error).__name__}")


def _part(piece: Piece) -> Path:
    return piece.target.with_name(f".{piece.target.name}.part")


def _require_room(pieces: Sequence[Piece]) -> None:
    need = sum(piece.size for piece in pieces) - _present(pieces)
    for folder in {piece.target.parent for piece in pieces}:
        free = shutil.disk_usage(folder).free
        if free < need + 64 * _CHUNK:
            raise Refused(
                f"{folder}: {need >> 20} MiB are to come, {free >> 20} MiB are free",
                next=f"df -h {folder}",
            )


def _fetch_once(way: Way, pieces: Sequence[Piece], say: Say) -> None:
    """Fetch what is missing of the pieces over one connection."""
    offsets = [_resumable(piece) for piece in pieces]
    sizes = [p.size - at for p, at in zip(pieces, offsets, strict=True)]
    rows = list(zip((p.source for p in pieces), offsets, sizes, strict=True))
    with _bulk(way, ["send", json.dumps(rows)]) as bulk:
        total = bulk.announced("sending")
        if total != sum(sizes):
            raise Damaged(f"{way.spec.name}: {total} bytes are announced, others were asked for")
        progress = _Progress(total, f"{way.spec.name}: fetched", say)
        for piece, at in zip(pieces, offsets, strict=True):
            _take(piece, at, bulk, progress)


def _resumable(piece: Piece) -> int:
    """How much of a piece is here already; what is longer than the piece is of something else."""
    part = _part(piece)
    if not part.exists():
        return 0
    if part.stat().st_size > piece.size:
        part.unlink()
        return 0
    return part.stat().st_size


def _take(piece: Piece, have: int, bulk: _Bulk, progress: _Progress) -> None:
    part = _part(piece)
    with arriving(part, piece.size, have) as file:
        while file.left:
            count = bulk.read_into(file.room())
            file.add(count)
            progress.add(count)
        digest = file.digest()
    if digest != piece.sha256:
        part.unlink()
        raise Damaged(
            f"{piece.target}: sha256 {digest} arrived, {piece.sha256} is what the host has",
            "it was changed on the way, or the part of an earlier transfer was",
            "run the same command again",
        )
    os.rename(part, piece.target)
    sync_directory(piece.target.parent)


def sync_directory(path: Path) -> None:
    """fsync(2) of a directory."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# ---- sending -------------------------------------------------------------------------------------


def upload(way: Way, source: Path, say: Say, sha256: str = "") -> str:
    """Put a file into the host's work directory; its path there. Resumed after a drop.

    The host takes it under its name only once all of it is there with the right hash; a file that
    is there already is not sent again. Raises Unreachable, Damaged, Refused where it has no room.
    """
    digest = sha256 or _hash_of(source)
    size = source.stat().st_size
    left = ATTEMPTS
    while True:
        try:
            return _upload_once(way, source, size, digest, say)
        except (Unreachable, OSError, EOFError) as error:
            left -= 1
            if left <= 0:
                raise _given_up(way, error) from None
            say(f"{way.spec.name}: the transfer was interrupted ({error}); going on with it")
            time.sleep(_WAIT)


def _upload_once(way: Way, source: Path, size: int, digest: str, say: Say) -> str:
    progress = _Progress(size, f"{way.spec.name}: sent", say)
    with (
        _bulk(way, ["receive", source.name, str(size), digest]) as bulk,
        source.open("rb") as file,
    ):
        file.seek(int(bulk.said("have")))  # what follows is a line again
        while data := file.read(_CHUNK):
            bulk.write(data)
            progress.add(len(data))
        return str(bulk.said("received"))


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Progress:
    """A word every 512 MiB."""

    def __init__(self, total: int, what: str, say: Say) -> None:
        self._total, self._what, self._say = total, what, say
        self._done = self._told = 0

    def add(self, count: int) -> None:
        self._done += count
        if self._done - self._told >= _SAY_EVERY:
            self._told = self._done
            self._say(f"{self._what} {self._done >> 20} of {self._total >> 20} MiB")


# ---- the connection ------------------------------------------------------------------------------


class _Bulk:
    """An agent that sends or takes raw bytes after one line."""

    def __init__(self, host: str, stream: BulkStream, messages: Messages) -> None:
        self._host, self._stream, self._messages = host, stream, messages
        self._rest = b""

    def said(self, name: str) -> Any:
        """The value in the next message that has it. Raises Unreachable with the last words."""
        while True:
            try:
                message = self._messages.next(SILENCE)
            except TimeoutError:
                raise Unreachable(f"{self._host}: silent for {SILENCE:g} s") from None
            if "error" in message:
                raise from_plain(error_of(message))
            if name in message:
                return message[name]

    def announced(self, name: str) -> int:
        """The number in the line before the raw bytes."""
        value = self.said(name)
        self._rest = self._messages.rest()
        return int(value)

    def read_into(self, room: memoryview) -> int:
        """Raw bytes, as many as came; never 0. Raises Unreachable where none come any more."""
        if self._rest:
            count = min(len(room), len(self._rest))
            room[:count], self._rest = self._rest[:count], self._rest[count:]
            return count
        try:
            count = self._stream.read_into(room, SILENCE)
        except TimeoutError:
            raise Unreachable(f"{self._host}: no byte came for {SILENCE:g} s") from None
        if not count:
            said = self._stream.errors().strip()[-500:]
            raise Unreachable(f"{self._host}: the connection ended", said)
        return count

    def write(self, data: bytes) -> None:
        self._stream.write(data, SILENCE)


@contextlib.contextmanager
def _bulk(way: Way, argv: list[str]) -> Iterator[_Bulk]:
    """Start an agent with `argv` over the fastest way there is."""
    with contextlib.ExitStack() as stack:
        stream, messages = _started(way, argv, stack)
        yield _Bulk(way.spec.name, stream, messages)


def _started(way: Way, argv: list[str], stack: contextlib.ExitStack) -> tuple[BulkStream, Messages]:
    line = open_line(way.spec, way.access)
    stack.callback(line.close)
    command = lambda is_root: host_command(is_root, bool(way.access.sudo_password))  # noqa: E731
    last = Unreachable(f"{way.spec.name}: no way there")
    for stream in line.start_bulk(command):
        try:
            return _run(way, [*line.words, *argv], stream, stack, line.has_shell)
        except Unreachable as error:
            logger.debug("%s: %s; a slower way is tried", way.spec.name, error.seen)
            last = error
    raise last


def _run(
    way: Way, argv: list[str], stream: BulkStream, stack: contextlib.ExitStack, has_shell: bool
) -> tuple[BulkStream, Messages]:
    messages = Messages(stream, way.spec.name)
    try:
        code = start_code(way.agent, STATE_DIR, argv, has_shell=has_shell)
        deliver(way.spec.name, stream, messages, code, way.agent, way.access)
    except BaseException:
        stream.close()
        raise
    stack.callback(stream.close)
    return stream, messages
