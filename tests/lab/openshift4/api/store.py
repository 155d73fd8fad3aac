"""Where objects are kept: in memory, or in a real etcd, whose revisions are their versions."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

Object = dict[str, Any]


class StoreDown(Exception):
    """Nothing can be read or written now."""


@dataclass(frozen=True)
class Entry:
    """One object as it is stored. revision: of its last change; a deleted one has no object."""

    key: str
    object: Object | None
    revision: int


class Store(Protocol):
    """What the API needs of a store."""

    def list(self, prefix: str) -> tuple[list[Entry], int]:
        """Give all objects below a prefix by their keys, and the revision they were read at."""

    def get(self, key: str) -> Entry | None:
        """Give one object."""

    def put(self, key: str, value: Object, revision: int) -> int | None:
        """Write where the last change was at `revision` (0: there is none yet); else None."""

    def delete(self, key: str, revision: int) -> int | None:
        """Delete where the last change was at `revision`; else None."""

    def watch(self, prefix: str, since: int, until: float) -> Iterator[Entry]:
        """Give changes after a revision as they come, until a time of the monotonic clock."""


class MemoryStore:
    """A store that ends with its process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._now: dict[str, tuple[str, int]] = {}
        self._log: list[tuple[str, str, int]] = []
        self._revision = 1

    def list(self, prefix: str) -> tuple[list[Entry], int]:
        with self._changed:
            rows = sorted((k, *v) for k, v in self._now.items() if k.startswith(prefix))
            return [Entry(k, json.loads(text), n) for k, text, n in rows], self._revision

    def get(self, key: str) -> Entry | None:
        with self._changed:
            found = self._now.get(key)
        return Entry(key, json.loads(found[0]), found[1]) if found else None

    def put(self, key: str, value: Object, revision: int) -> int | None:
        with self._changed:
            if self._now.get(key, ("", 0))[1] != revision:
                return None
            return self._note(key, json.dumps(value))

    def delete(self, key: str, revision: int) -> int | None:
        with self._changed:
            if self._now.get(key, ("", 0))[1] != revision:
                return None
            return self._note(key, "")

    def _note(self, key: str, text: str) -> int:
        self._revision += 1
        if text:
            self._now[key] = (text, self._revision)
        else:
            del self._now[key]
        self._log.append((key, text, self._revision))
        self._changed.notify_all()
        return self._revision

    def watch(self, prefix: str, since: int, until: float) -> Iterator[Entry]:
        seen = 0
        while True:
            with self._changed:
                if len(self._log) == seen:
                    self._changed.wait(max(0.0, min(0.5, until - time.monotonic())))
                news, seen = self._log[seen:], len(self._log)
            for key, text, revision in news:
                if key.startswith(prefix) and revision > since:
                    yield Entry(key, json.loads(text) if text else None, revision)
            if time.monotonic() > until:
                return


class EtcdStore:
    """The cluster's own etcd, through the first member that answers."""

    def __init__(self, endpoints: Sequence[str], tls: ssl.SSLContext, timeout: float = 4.0) -> None:
        self._endpoints = list(endpoints)
        self._tls, self._timeout = tls, timeout

    @classmethod
    def of_files(cls, endpoints: Sequence[str], ca: Path, cert: Path, key: Path) -> EtcdStore:
        """With certificates of etcd's own CA."""
        tls = ssl.create_default_context(cafile=str(ca))
        tls.load_cert_chain(cert, key)
        return cls(endpoints, tls)

    def _call(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask the members in turn. Raises StoreDown where none of them answers in time."""
        told = "no endpoint"
        for endpoint in list(self._endpoints):
            line = http.client.HTTPSConnection(endpoint, timeout=self._timeout, context=self._tls)
            try:
                line.request("POST", f"/v3/{method}", json.dumps(body))
                response = line.getresponse()
                answer: dict[str, Any] = json.loads(response.read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                told = str(error)
                self._endpoints.append(self._endpoints.pop(0))
                continue
            finally:
                line.close()
            if response.status == http.HTTPStatus.OK:
                return answer
            told = str(answer.get("message") or answer)
        raise StoreDown(f"etcdserver: request timed out ({told})")

    def list(self, prefix: str) -> tuple[list[Entry], int]:
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        answer = self._call("kv/range", {"key": _b64(prefix), "range_end": _b64(end)})
        entries = [_entry(kv) for kv in answer.get("kvs", [])]
        return entries, int(answer["header"]["revision"])

    def get(self, key: str) -> Entry | None:
        found = self._call("kv/range", {"key": _b64(key)}).get("kvs", [])
        return _entry(found[0]) if found else None

    def put(self, key: str, value: Object, revision: int) -> int | None:
        change = {"requestPut": {"key": _b64(key), "value": _b64(json.dumps(value))}}
        return self._change(key, change, revision)

    def delete(self, key: str, revision: int) -> int | None:
        return self._change(key, {"requestDeleteRange": {"key": _b64(key)}}, revision)

    def _change(self, key: str, change: dict[str, Any], revision: int) -> int | None:
        same = {"key": _b64(key), "target": "MOD", "result": "EQUAL", "modRevision": str(revision)}
        answer = self._call("kv/txn", {"compare": [same], "success": [change]})
        return int(answer["header"]["revision"]) if answer.get("succeeded") else None

    def watch(self, prefix: str, since: int, until: float) -> Iterator[Entry]:
        """By looking again: ten looks a second cost less than a stream that may hang."""
        known = {e.key: e for e in self.list(prefix)[0] if e.revision <= since}
        while time.monotonic() < until:
            entries, revision = self.list(prefix)
            now = {e.key: e for e in entries}
            changes = [e for k, e in now.items() if k not in known or known[k] != e]
            changes += [Entry(k, None, revision) for k in known if k not in now]
            yield from sorted(changes, key=lambda e: e.revision)
            known = now
            time.sleep(0.1)


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _entry(kv: dict[str, str]) -> Entry:
    key = base64.b64decode(kv["key"]).decode()
    return Entry(key, json.loads(base64.b64decode(kv["value"])), int(kv["mod_revision"]))
