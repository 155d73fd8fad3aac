"""A small etcd client over the JSON gateway: for polling and for test data, not for the product."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.etcd.errors import EtcdError
from agent.etcd.messages import CALLS, ask
from agent.etcd.transport import RealFiles

_MAX_TXN = 100
_EVERYTHING = {
    "key": base64.b64encode(b"\0").decode(),
    "range_end": base64.b64encode(b"\0").decode(),
}


class EtcdUnavailable(RuntimeError):
    """etcd did not answer, or answered with an error."""


@dataclass(frozen=True)
class Member:
    """A member as etcd's configuration lists it."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    is_learner: bool


class EtcdClient:
    """Talks to one member; every call has a connection of its own, but for `lasting`."""

    def __init__(self, address: str, pki: Path, timeout: float = 5.0, port: int = 2379) -> None:
        self._address = address
        self._port = port
        self._timeout = timeout
        self._tls = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        cert, key = pki / "healthcheck-client.crt", pki / "healthcheck-client.key"
        self._tls.load_cert_chain(cert, key)
        self._files = RealFiles(str(cert), str(key), str(pki / "ca.crt"))
        self._lasting: http.client.HTTPSConnection | None = None

    @contextmanager
    def lasting(self) -> Iterator[None]:
        """One connection for all calls in the block, which one thread makes: much data in less time
        than the handshakes alone would take."""
        self._lasting = self._connection()
        try:
            yield
        finally:
            self._lasting.close()
            self._lasting = None

    def _connection(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            self._address, self._port, timeout=self._timeout, context=self._tls
        )

    def call(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST to /v3/METHOD; by gRPC where the gateway is off, as etcd 3.4 has it by default when
        it reads a configuration file."""
        connection = self._lasting or self._connection()
        try:
            connection.request("POST", f"/v3/{method}", json.dumps(body))
            response = connection.getresponse()
            said = response.read()
            off = response.status == 404 and method in CALLS
            if off:
                url = f"https://{self._address}:{self._port}"
                said = ask(url, self._files, method, body, self._timeout)
            answer: dict[str, Any] = json.loads(said)
        except (OSError, http.client.HTTPException, ValueError, EtcdError) as error:
            raise EtcdUnavailable(f"{self._address}: {error}") from error
        finally:
            if connection is not self._lasting:
                connection.close()
        if response.status != 200 and not off:
            raise EtcdUnavailable(f"{self._address}: {answer.get('message', answer)}")
        return answer

    def is_healthy(self) -> bool:
        """Whether a linearizable read works."""
        try:
            self.call("kv/range", {"key": base64.b64encode(b"health").decode()})
        except EtcdUnavailable:
            return False
        return True

    def put_many(self, pairs: Iterable[tuple[str, bytes]]) -> None:
        """Write keys, a hundred to a transaction."""
        operations = [
            {
                "requestPut": {
                    "key": base64.b64encode(k.encode()).decode(),
                    "value": base64.b64encode(v).decode(),
                }
            }
            for k, v in pairs
        ]
        for start in range(0, len(operations), _MAX_TXN):
            self.call("kv/txn", {"success": operations[start : start + _MAX_TXN]})

    def put(self, key: str, value: bytes) -> dict[str, Any]:
        """Write one key; the header of the answer: cluster_id, member_id, revision, raft_term."""
        body = {
            "key": base64.b64encode(key.encode()).decode(),
            "value": base64.b64encode(value).decode(),
        }
        header: dict[str, Any] = self.call("kv/put", body)["header"]
        return header

    def get_all(self, *, serializable: bool = False) -> dict[str, bytes]:
        """Every key with its value."""
        answer = self.call("kv/range", {**_EVERYTHING, "serializable": serializable})
        return {
            base64.b64decode(kv["key"]).decode(): base64.b64decode(kv.get("value", ""))
            for kv in answer.get("kvs", [])
        }

    def members(self) -> list[Member]:
        """The configured members."""
        return [
            Member(
                id=int(entry["ID"]),
                name=entry.get("name", ""),
                peer_urls=tuple(entry.get("peerURLs", [])),
                client_urls=tuple(entry.get("clientURLs", [])),
                is_learner=bool(entry.get("isLearner", False)),
            )
            for entry in self.call("cluster/member/list", {})["members"]
        ]

    def status(self) -> dict[str, Any]:
        """What the member says of itself: version, leader, revision, sizes."""
        return self.call("maintenance/status", {})

    def add_learner(self, peer_url: str) -> int:
        """Add a learner and return its ID."""
        added = self.call("cluster/member/add", {"peerURLs": [peer_url], "isLearner": True})
        return int(added["member"]["ID"])

    def promote(self, member: int) -> None:
        """Make a learner a voter."""
        self.call("cluster/member/promote", {"ID": str(member)})
