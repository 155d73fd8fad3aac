"""Watches a host's etcd from outside, in one way for whatever is done to it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from tests.lab.etcd_client import EtcdUnavailable
from tests.lab.lab import MANIFEST, Lab

_PUT_EVERY = 0.05
_PUT_TIMEOUT = 0.5
_LOOK_EVERY = 0.005


class Witness:
    """From `with` to its end: puts a key every 50 ms, and sees the manifest change.

    The manifest is where both ways begin: one takes it away, the other replaces it.
    """

    def __init__(self, lab: Lab, host: str) -> None:
        self._client = lab.client(host, timeout=_PUT_TIMEOUT)
        self._manifest = lab.hosts[host].path(MANIFEST)
        self._original = _identity(self._manifest)
        self._stop = threading.Event()
        self._puts: list[tuple[float, bool]] = []
        self._threads = [threading.Thread(target=t, daemon=True) for t in (self._put, self._look)]
        self.first_stop: float | None = None

    def __enter__(self) -> Witness:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _put(self) -> None:
        while not self._stop.wait(_PUT_EVERY):
            try:
                self._client.put_many([("/bench/witness", b"here")])
                accepted = True
            except EtcdUnavailable:
                accepted = False
            self._puts.append((time.monotonic(), accepted))

    def _look(self) -> None:
        while self.first_stop is None and not self._stop.wait(_LOOK_EVERY):
            if _identity(self._manifest) != self._original:
                self.first_stop = time.monotonic()

    def serving_since(self, steady: float = 1.0) -> float:
        """When writes were accepted for good: the first one after the last that failed.

        Waits until none has failed for `steady` seconds. Raises TimeoutError after a minute.
        """
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            puts = list(self._puts)
            failed = max((when for when, accepted in puts if not accepted), default=0.0)
            since = next((when for when, accepted in puts if accepted and when > failed), None)
            if since is not None and time.monotonic() - since > steady:
                return since
            time.sleep(_PUT_EVERY)
        raise TimeoutError("etcd takes no writes a minute after everything was done")


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        info = os.stat(path)
    except FileNotFoundError:
        return None
    return info.st_ino, info.st_mtime_ns, info.st_size
