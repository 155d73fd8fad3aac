"""A snapshot of etcd's key space through `dcos task exec`: saved, fetched, verified, then named.

The task saves it under a name of its own, so that no older file can be taken for it. It comes as
base64, which every CLI hands on unchanged, and a `find -exec` never fails: what proves that all of
it is here is its size there, and the hash that etcd put at its end.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.errors import Damaged, Refused, RescueError, StepFailed, UsageError
from agent.snapshot.here import verify_here
from agent.snapshot.verify import SnapshotFacts
from coordinator.dcos.cli import Dcos
from coordinator.dcos.look import etcdctl
from coordinator.dcos.model import TaskRun
from coordinator.transfer import sync_directory

SAVE_TIMEOUT = 600.0
FETCH_TIMEOUT = 3600.0
IDLE = 60.0
"""Seconds without a byte after which a connection counts as cut."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Taken:
    """A verified snapshot here, of which pod, and the seconds that it took."""

    path: str
    pod: str
    service: str
    seconds: float
    snapshot: SnapshotFacts


def take(dcos: Dcos, run: TaskRun, folder: Path, say: Say) -> Taken:
    """Save, fetch and verify; the file gets its name only once it is whole.

    Raises StepFailed where the task made none, Damaged where what came is not whole; what was
    fetched so far is taken away then.
    """
    began = time.monotonic()
    pod = run.name.removesuffix("-peer")
    there = f"etcd-rescue-{secrets.token_hex(6)}.db"
    say(f"{pod}: saving the key space")
    try:
        said = dcos.run(
            *etcdctl(dcos.service, run, "snapshot", "save", there), timeout=SAVE_TIMEOUT
        )
        size = _size(dcos, run, there, said)
        part = _part(folder, f".{dcos.service}-{pod}-{there}.part")
        try:
            say(f"{pod}: fetching {size / 2**20:.1f} MiB")
            _fetch(dcos, run, there, part, size)
            facts, _set = verify_here(str(part), False, say)
            path = _keep(
                part,
                folder,
                f"{dcos.service}-{pod}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}",
            )
        finally:
            part.unlink(missing_ok=True)
    finally:
        with suppress(RescueError):  # it only takes room there
            dcos.run("task", "exec", run.id, "rm", "-f", there, timeout=IDLE)
    facts = SnapshotFacts(**{**facts.__dict__, "path": str(path)})
    return Taken(str(path), pod, dcos.service, round(time.monotonic() - began, 2), facts)


def _size(dcos: Dcos, run: TaskRun, there: str, said: bytes) -> int:
    """Bytes of the file in the task's sandbox. Raises StepFailed where there is none."""
    try:
        words = dcos.run("task", "exec", run.id, "wc", "-c", there).split()
        if words and words[0].isdigit() and int(words[0]):
            return int(words[0])
    except RescueError as error:
        if not isinstance(error, UsageError) and error.kind != "command-failed":
            raise
    text = dcos.shown(said.decode(errors="replace").strip())
    raise StepFailed(
        f"{run.name}: no snapshot was made: {text[-300:] or 'no etcdctl is in its sandbox'}",
        "`find . -name etcdctl` runs it there with the task's own certificates",
        "fab dcos-diagnose",
    )


def _part(folder: Path, name: str) -> Path:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}", next="--to DIR") from None
    return folder / name


def _fetch(dcos: Dcos, run: TaskRun, there: str, part: Path, size: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(part, flags, 0o600), "wb") as file:
        decoder = _Decoder(file.write, size)
        words = ("task", "exec", run.id, "base64", there)
        dcos.stream(decoder.take, *words, timeout=FETCH_TIMEOUT, idle=IDLE)
        decoder.end(run.name)
        file.flush()
        os.fsync(file.fileno())


class _Decoder:
    """base64 in pieces of any length, line ends among them."""

    def __init__(self, write: Callable[[bytes], int], size: int) -> None:
        self._write, self._left, self._rest = write, size, b""

    def take(self, piece: bytes) -> None:
        """Decode what is whole of it. Raises Damaged for other text, and for too much."""
        text = self._rest + b"".join(piece.split())
        whole = len(text) - len(text) % 4
        self._rest = text[whole:]
        try:
            data = base64.b64decode(text[:whole], validate=True)
        except binascii.Error:
            raise Damaged("the snapshot came damaged: not base64", "nothing of it is kept",
                          "the same command again") from None  # fmt: skip
        self._left -= len(data)
        if self._left < 0:
            raise Damaged("more came than the snapshot's size", "nothing of it is kept")
        self._write(data)

    def end(self, task: str) -> None:
        """Raise Damaged unless all of it came."""
        if self._left or self._rest:
            raise Damaged(
                f"{task}: the connection was cut: {self._left} bytes of the snapshot are missing",
                "half a snapshot restores nothing; nothing of it is kept",
                "the same command again",
            )


def _keep(part: Path, folder: Path, stem: str) -> Path:
    path = folder / f"{stem}.db"
    try:
        os.link(part, path)  # never over another file
    except FileExistsError:
        raise Refused(f"{path} exists", "nothing is ever overwritten") from None
    sync_directory(folder)
    return path
