"""A file read once from front to back, hashed by another thread while it is looked at."""

from __future__ import annotations

import hashlib
import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Optional

from agent.survey.positioned import PositionedFile

CHUNK = 2 * 1024 * 1024
"""Bytes read at once: a multiple of every page size up to it; four of them are held at most."""

_SWITCH_SECONDS = 0.0005


class Hasher:
    """sha256 in a thread of its own: hashlib lets go of the interpreter while it works."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()
        self._todo: queue.Queue[Optional[bytes]] = queue.Queue(maxsize=1)
        self._thread = threading.Thread(target=self._work, name="sha256", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (data := self._todo.get()) is not None:
            self.sha256.update(data)

    def update(self, data: bytes) -> None:
        """Hash `data` after all before it; returns at once unless two are waiting."""
        self._todo.put(data)

    def finish(self) -> str:
        """Wait for the last of it; the digest in hex. More may follow through `sha256` itself."""
        if self._thread.is_alive():
            self._todo.put(None)
            self._thread.join()
        return self.sha256.hexdigest()


@contextmanager
def hasher() -> Iterator[Hasher]:
    """Give a Hasher, and threads short turns while it works.

    Between two chunks the hash needs the interpreter for a moment; with Python's usual turns of
    5 ms it would wait longer for that moment than it takes to hash a chunk.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    found = Hasher()
    try:
        yield found
    finally:
        with suppress(RuntimeError):
            found.finish()
        sys.setswitchinterval(before)


def chunks(file: PositionedFile, end: int) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of a file up to `end`, in order. Raises DamagedAt where it cannot be read."""
    at = 0
    while at < end:
        data = file.read(at, min(CHUNK, end - at))
        if not data:
            return
        yield at, data
        at += len(data)
