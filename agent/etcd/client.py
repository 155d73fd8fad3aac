"""etcd's v3 API: through its JSON gateway, by gRPC where that is off; and what peer ports tell."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Optional, TypeVar

from agent.etcd.answers import (
    KeyValue,
    KvHash,
    PeerView,
    RangeResult,
    Status,
    decimal_id,
    header,
    not_understood,
    number,
    parse_added,
    parse_alarms,
    parse_hash,
    parse_member,
    parse_members,
    parse_range,
    parse_status,
    understood,
    word,
)
from agent.etcd.errors import Condition, EtcdError
from agent.etcd.transport import Connection, RealFiles, Reply, failure
from agent.model.facts import Alarm, Member

T = TypeVar("T")

_PREFIXES = ("/v3", "/v3beta")  # 3.4 and later; 3.3

__all__ = [
    "Condition", "EtcdClient", "EtcdError", "KeyValue", "KvHash", "PeerView", "RangeResult",
    "Status", "peer_hash_kv", "peer_members", "prefix_end",
]  # fmt: skip


class EtcdClient:
    """Calls to one etcd endpoint over one kept-alive connection; not for two threads at once.

    endpoint: a client URL. timeout: seconds for each call, all of it; methods take another. All
    methods raise EtcdError, whose `condition` says what the failure means. Only member_add,
    member_remove, member_promote, member_update, put, delete, compact, defragment, alarm_disarm and
    transfer_leadership change anything; where one of those fails with `sent`, look what happened.
    Raft drops a change of membership while it has not applied the one before: right after another
    one, a TIMEOUT may mean that nothing happened and that it should be asked for again.
    """

    def __init__(
        self, endpoint: str, tls: Optional[RealFiles] = None, timeout: float = 5.0
    ) -> None:
        self.endpoint = endpoint.rstrip("/")
        self.timeout = timeout
        self._tls = tls or RealFiles()
        self._connection = Connection(self.endpoint, self._tls)
        self._prefix = ""
        self._by_grpc = False

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def __enter__(self) -> EtcdClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- looking -----------------------------------------------------------------------------

    def version(self, timeout: float = 0) -> str:
        """The server's version from /version, which needs neither gateway nor quorum."""
        reply = self._connection.call("GET", "/version", None, timeout or self.timeout)
        if reply.status != 200:
            raise failure(self.endpoint, reply)
        return understood(self.endpoint, reply, lambda said: word(said, "etcdserver"))

    def health(self, timeout: float = 0) -> bool:
        """True if /health says so: a read through the quorum worked and no alarm is raised.

        Needs no gateway. False proves nothing about the quorum.
        """
        reply = self._connection.call("GET", "/health", None, timeout or self.timeout)
        try:
            said = reply.json()
        except ValueError:
            return False
        return reply.status == 200 and isinstance(said, dict) and said.get("health") == "true"

    def status(self, timeout: float = 0) -> Status:
        """The member's own status; needs no quorum, and learners answer it."""
        return self._post("maintenance/status", {}, timeout, parse_status)

    def members(self, linearizable: bool = True, timeout: float = 0) -> tuple[Member, ...]:
        """The membership. linearizable=False is the member's own view and needs no quorum.

        etcd 3.4 and earlier always give the member's own view (the field is ignored there).
        """
        body = {"linearizable": linearizable}
        return self._post("cluster/member/list", body, timeout, parse_members)

    def alarms(self, timeout: float = 0) -> tuple[Alarm, ...]:
        """The alarms raised. Goes through the quorum as a log entry; `status` has them without."""
        return self._post("maintenance/alarm", {"action": "GET"}, timeout, parse_alarms)

    def hash_kv(self, revision: int = 0, timeout: float = 0) -> KvHash:
        """Hash of the key space at `revision` (0: the newest). Needs no quorum.

        Only newer versions have it at their gateway (UNSUPPORTED otherwise: `/v3/maintenance/hash`
        of old ones covers the whole file and differs between members); then see peer_hash_kv.
        """
        body = {"revision": str(revision)}
        parse = partial(parse_hash, revision=revision)
        return self._post("maintenance/hashkv", body, timeout, parse)

    def range(
        self,
        key: bytes,
        range_end: bytes = b"",
        limit: int = 0,
        revision: int = 0,
        serializable: bool = False,
        keys_only: bool = False,
        count_only: bool = False,
        timeout: float = 0,
    ) -> RangeResult:
        """Keys from `key` up to `range_end` (see prefix_end); serializable reads need no quorum."""
        body = {
            "key": _b64(key),
            "range_end": _b64(range_end),
            "limit": str(limit),
            "revision": str(revision),
            "serializable": serializable,
            "keys_only": keys_only,
            "count_only": count_only,
        }
        return self._post("kv/range", body, timeout, parse_range)

    def get(self, key: bytes, serializable: bool = False, timeout: float = 0) -> Optional[KeyValue]:
        """One key, or None where it does not exist."""
        found = self.range(key, serializable=serializable, timeout=timeout).kvs
        return found[0] if found else None

    def count(self, prefix: bytes, serializable: bool = False, timeout: float = 0) -> int:
        """How many keys begin with `prefix`; b"" counts all."""
        return self.range(
            prefix or b"\0",
            prefix_end(prefix),
            serializable=serializable,
            count_only=True,
            timeout=timeout,
        ).count

    def linearizable_read(self, timeout: float = 0) -> bool:
        """True if a read through the quorum worked, False if no majority agreed in time.

        Authentication that refuses the key is a yes: etcd asks the quorum first. Raises EtcdError
        where the endpoint itself cannot be asked, or the cluster is marked corrupt.
        """
        return self._probe(serializable=False, timeout=timeout)

    def serializable_read(self, timeout: float = 0) -> bool:
        """True if the member answers a read from its own data; needs no quorum."""
        return self._probe(serializable=True, timeout=timeout)

    def _probe(self, serializable: bool, timeout: float) -> bool:
        try:
            self.range(b"health", serializable=serializable, count_only=True, timeout=timeout)
        except EtcdError as error:
            if error.condition is Condition.DENIED:
                return True
            if error.is_quorum_missing and error.sent:
                return False
            raise
        return True

    # ---- changing ----------------------------------------------------------------------------

    def member_add(
        self, peer_urls: Sequence[str], learner: bool = True, timeout: float = 0
    ) -> Member:
        """Add a member that has not started yet; its ID is in the answer."""
        body = {"peerURLs": list(peer_urls), "isLearner": learner}
        return self._post("cluster/member/add", body, timeout, parse_added, repeat=False)

    def member_remove(self, member_id: str, timeout: float = 0) -> tuple[Member, ...]:
        """Remove a member for good; returns those that remain."""
        body = {"ID": decimal_id(member_id)}
        return self._post("cluster/member/remove", body, timeout, parse_members, repeat=False)

    def member_promote(self, member_id: str, timeout: float = 0) -> tuple[Member, ...]:
        """Make a learner a voter. NOT_IN_SYNC: still catching up, or it never started."""
        body = {"ID": decimal_id(member_id)}
        return self._post("cluster/member/promote", body, timeout, parse_members, repeat=False)

    def member_update(
        self, member_id: str, peer_urls: Sequence[str], timeout: float = 0
    ) -> tuple[Member, ...]:
        """Give a member other peer URLs."""
        body = {"ID": decimal_id(member_id), "peerURLs": list(peer_urls)}
        return self._post("cluster/member/update", body, timeout, parse_members, repeat=False)

    def alarm_disarm(self, alarm: Alarm, timeout: float = 0) -> None:
        """Take one alarm back; its cause must be gone, or it comes again."""
        body = {
            "action": "DEACTIVATE",
            "memberID": decimal_id(alarm.member_id),
            "alarm": alarm.kind,
        }
        self._post("maintenance/alarm", body, timeout, _any, repeat=False)

    def put(self, key: bytes, value: bytes, timeout: float = 0) -> int:
        """Write one key; returns the revision it got."""
        body = {"key": _b64(key), "value": _b64(value)}
        return self._post("kv/put", body, timeout, _revision, repeat=False)

    def delete(self, key: bytes, range_end: bytes = b"", timeout: float = 0) -> int:
        """Delete a key, or all up to `range_end`; returns how many there were."""
        body = {"key": _b64(key), "range_end": _b64(range_end)}
        return self._post("kv/deleterange", body, timeout, _deleted, repeat=False)

    def transfer_leadership(self, member_id: str, timeout: float = 0) -> None:
        """Hand leadership to another voter; only the leader's own endpoint does it (NOT_LEADER)."""
        body = {"targetID": decimal_id(member_id)}
        self._post("maintenance/transfer-leadership", body, timeout, _any, repeat=False)

    def compact(self, revision: int, physical: bool = False, timeout: float = 0) -> None:
        """Forget history before `revision`; physical waits until it is off the file."""
        body = {"revision": str(revision), "physical": physical}
        self._post("kv/compaction", body, timeout, _any, repeat=False)

    def defragment(self, timeout: float = 0) -> None:
        """Rewrite the member's file without free pages; it serves nothing meanwhile."""
        self._post("maintenance/defragment", {}, timeout, _any, repeat=False)

    # ---- the gateway -------------------------------------------------------------------------

    def _post(
        self,
        path: str,
        body: dict[str, Any],
        timeout: float,
        parse: Callable[[dict[str, Any]], T],
        repeat: bool = True,
    ) -> T:
        timeout = timeout or self.timeout
        if not repeat and not (self._prefix or self._by_grpc):
            # A gateway without its etcd may hang up in the middle of a write: what happened to it
            # would not be known. So the way is found with a request that changes nothing.
            self._post("maintenance/status", {}, timeout, parse_status)
        if not self._by_grpc:
            try:
                return self._through_gateway(path, body, timeout, parse, repeat)
            except EtcdError as error:
                if error.condition is not Condition.NO_GATEWAY or self._prefix:
                    raise
        said = Reply(200, {}, self._ask(path, body, timeout))
        self._by_grpc = True
        return understood(self.endpoint, said, parse)

    def _ask(self, path: str, body: dict[str, Any], timeout: float) -> bytes:
        from agent.etcd.messages import ask

        return ask(self.endpoint, self._tls, path, body, timeout)

    def _through_gateway(
        self,
        path: str,
        body: dict[str, Any],
        timeout: float,
        parse: Callable[[dict[str, Any]], T],
        repeat: bool,
    ) -> T:
        data = json.dumps(body).encode()
        for prefix in (self._prefix,) if self._prefix else _PREFIXES:
            reply = self._connection.call("POST", f"{prefix}/{path}", data, timeout, repeat)
            if reply.status == 200:
                self._prefix = prefix
                return understood(self.endpoint, reply, parse)
            error = failure(self.endpoint, reply)
            if error.condition is Condition.NO_GATEWAY:
                raise error
            if error.condition is not Condition.UNSUPPORTED:
                self._prefix = prefix
                raise error
        raise self._missing(path)

    def _missing(self, path: str) -> EtcdError:
        condition = Condition.UNSUPPORTED if self._prefix else Condition.NO_GATEWAY
        what = "this version has no" if self._prefix else "there is no"
        return EtcdError(f"{self.endpoint}: {what} /v3/{path} at its JSON gateway", condition)


def peer_members(peer_url: str, tls: RealFiles, timeout: float = 2.0) -> PeerView:
    """The membership as the member behind a peer port has it (GET /members); needs no quorum.

    tls: a certificate that the peer port takes. Raises EtcdError.
    """
    with Connection(peer_url, tls) as connection:
        reply = connection.call("GET", "/members", None, timeout)
    if reply.status != 200:
        raise failure(peer_url, reply)
    try:
        members = tuple(parse_member({**row, "ID": row["id"]}) for row in reply.json())
    except (ValueError, TypeError, LookupError):
        raise not_understood(peer_url, reply) from None
    cluster_id = reply.headers.get("x-etcd-cluster-id", "").rjust(16, "0")
    return PeerView(cluster_id, members)


def peer_hash_kv(peer_url: str, tls: RealFiles, revision: int = 0, timeout: float = 10.0) -> KvHash:
    """The same hash as EtcdClient.hash_kv, from the peer port of etcd 3.4 and later."""
    body = json.dumps({"revision": revision}).encode()
    with Connection(peer_url, tls) as connection:
        reply = connection.call("GET", "/members/hashkv", body, timeout)
    if reply.status != 200:
        raise failure(peer_url, reply)
    return understood(peer_url, reply, partial(parse_hash, revision=revision))


def _any(said: dict[str, Any]) -> None:
    """An answer of which only matters that it came; of some calls it has not even a header."""


def _revision(said: dict[str, Any]) -> int:
    return number(header(said), "revision")


def _deleted(said: dict[str, Any]) -> int:
    header(said)
    return number(said, "deleted")


def prefix_end(prefix: bytes) -> bytes:
    """The range_end that makes a range of all keys with `prefix` (clientv3.GetPrefixRangeEnd)."""
    head = prefix.rstrip(b"\xff")
    return head[:-1] + bytes([head[-1] + 1]) if head else b"\0"


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
