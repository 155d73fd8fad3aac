"""What a fuzzed reader is, and a host whose file holds the input."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from agent.errors import RescueError
from agent.host import Host
from tests.fuzz.corpus import Corpus

Ranges = list[tuple[int, int]]


class Wrong(Exception):
    """A reader gave an answer that cannot be right."""


@dataclass(frozen=True)
class Reader:
    """One reader. read: bytes → its answer; any exception but `errors` is a crash.

    repair: makes the file's checksums right again. covered: the parts of a sample of which every
    bit is under a checksum; where one is flipped, the answer is an error, or `is_warned`, or what
    `like` allows of the answer to the sample. flips: how many flipped bits are certain to be
    noticed: tar's checksum is a sum, in which two can make up for each other.
    """

    name: str
    kind: str
    read: Callable[[bytes], Any]
    errors: tuple[type[BaseException], ...] = (RescueError,)
    repair: Optional[Callable[[bytes], bytes]] = None
    covered: Optional[Callable[[bytes], Ranges]] = None
    is_warned: Callable[[Any], bool] = lambda answer: False
    like: Callable[[Any, Any], bool] = lambda answer, whole: bool(answer == whole)
    flips: int = 3

    def samples(self, corpus: Corpus) -> Sequence[bytes]:
        """What to begin with."""
        return corpus[self.kind]

    def try_read(self, data: bytes) -> bool:
        """Read it; whether it was taken. Raises what is no declared error."""
        try:
            self.read(data)
        except self.errors:
            return False
        return True

    def try_flipped(self, sample: bytes, data: bytes) -> None:
        """Read a sample of which covered bits were flipped. Raises Wrong where nobody noticed."""
        whole = self.read(sample)
        try:
            answer = self.read(data)
        except self.errors:
            return
        if not self.is_warned(answer) and not self.like(answer, whole):
            raise Wrong(f"{self.name}: a changed bit goes unnoticed: {answer!r} for {whole!r}")


_FOLDER: dict[int, str] = {}


@contextmanager
def file_of(data: bytes, name: str) -> Iterator[tuple[Host, str]]:
    """A host whose file `name` holds the bytes, on a file system in memory where there is one."""
    if os.getpid() not in _FOLDER:
        place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        holder = tempfile.TemporaryDirectory(prefix="etcd-rescue-fuzz-", dir=place)
        _FOLDER[os.getpid()] = holder.name
        _KEPT.append(holder)
    path = Path(_FOLDER[os.getpid()]) / name.lstrip("/")
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, mode=0o700)
    path.write_bytes(data)
    yield Host(_FOLDER[os.getpid()]), f"/{name.lstrip('/')}"


_KEPT: list[Any] = []
