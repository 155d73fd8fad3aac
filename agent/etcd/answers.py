"""What etcd answers, in its gateway's JSON, as plain facts."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional, TypeVar

from agent.etcd.errors import Condition, EtcdError
from agent.etcd.transport import Reply
from agent.model.facts import Alarm, Member

T = TypeVar("T")

_ALARM_KINDS = ("NOSPACE", "CORRUPT")


@dataclass(frozen=True)
class Status:
    """One member's own view (Maintenance.Status). leader_id is empty where it knows none.

    errors: what the member itself complains of, as it says it.
    """

    version: str
    cluster_id: str
    member_id: str
    leader_id: str
    raft_term: int
    raft_index: int
    applied_index: int
    revision: int
    db_size: int
    db_size_in_use: int
    db_size_quota: int = 0
    is_learner: bool = False
    storage_version: str = ""
    errors: tuple[str, ...] = ()
    alarms: tuple[Alarm, ...] = ()


@dataclass(frozen=True)
class KeyValue:
    """One key as stored."""

    key: bytes
    value: bytes
    create_revision: int = 0
    mod_revision: int = 0
    version: int = 0
    lease: int = 0


@dataclass(frozen=True)
class RangeResult:
    """Answer to a range. count: all keys in it, also those left out by the limit."""

    kvs: tuple[KeyValue, ...]
    count: int
    revision: int


@dataclass(frozen=True)
class KvHash:
    """Hash of the key space up to `revision`; equal on all members at the same two revisions."""

    hash: int
    revision: int
    compact_revision: int


@dataclass(frozen=True)
class PeerView:
    """What a peer port says without a quorum: the membership, and the version behind it."""

    cluster_id: str
    members: tuple[Member, ...]


def parse_status(said: dict[str, Any]) -> Status:
    """A StatusResponse in the gateway's JSON: 64-bit numbers are strings, zeros are left out."""
    head = header(said)
    errors = tuple(error.strip() for error in words(said, "errors"))
    leader = hex_id(said.get("leader"))
    return Status(
        version=word(said, "version"),
        cluster_id=hex_id(head.get("cluster_id")),
        member_id=hex_id(head.get("member_id")),
        leader_id="" if leader == hex_id(0) else leader,
        raft_term=number(said, "raftTerm"),
        raft_index=number(said, "raftIndex"),
        applied_index=number(said, "raftAppliedIndex"),
        revision=number(head, "revision"),
        db_size=number(said, "dbSize"),
        db_size_in_use=number(said, "dbSizeInUse"),
        db_size_quota=number(said, "dbSizeQuota"),
        is_learner=flag(said, "isLearner"),
        storage_version=word(said, "storageVersion"),
        errors=errors,
        alarms=tuple(alarm for alarm in map(_parse_alarm, errors) if alarm),
    )


def parse_members(said: dict[str, Any]) -> tuple[Member, ...]:
    """The members of any answer of the Cluster service."""
    header(said)
    return tuple(parse_member(row) for row in rows(said, "members"))


def parse_added(said: dict[str, Any]) -> Member:
    """The new member of a MemberAddResponse; one without an ID is none."""
    header(said)
    found = parse_member(said.get("member"))
    if found.id == hex_id(0):
        raise ValueError("a new member without an ID")
    return found


def parse_alarms(said: dict[str, Any]) -> tuple[Alarm, ...]:
    """The alarms of an AlarmResponse; etcd 3.4 gives it no header."""
    return tuple(
        Alarm(hex_id(row.get("memberID")), word(row, "alarm")) for row in rows(said, "alarms")
    )


def parse_range(said: dict[str, Any]) -> RangeResult:
    """A RangeResponse."""
    head = header(said)
    kvs = tuple(parse_kv(row) for row in rows(said, "kvs"))
    return RangeResult(kvs, number(said, "count"), number(head, "revision"))


def _parse_alarm(error: str) -> Optional[Alarm]:
    """An AlarmMember in StatusResponse.errors, a protobuf text: memberID:1 alarm:NOSPACE."""
    fields = dict(part.split(":", 1) for part in error.split() if ":" in part)
    kind, member = fields.get("alarm", ""), fields.get("memberID", "")
    return Alarm(hex_id(member), kind) if kind in _ALARM_KINDS and member.isdecimal() else None


def parse_member(row: Any) -> Member:
    """One member of the Cluster service; proto3 leaves empty fields out."""
    if not isinstance(row, dict):
        raise TypeError("a member that is no object")
    return Member(
        id=hex_id(row.get("ID")),
        name=word(row, "name"),
        peer_urls=words(row, "peerURLs"),
        client_urls=words(row, "clientURLs"),
        is_learner=flag(row, "isLearner"),
    )


def parse_kv(row: dict[str, Any]) -> KeyValue:
    """One mvccpb.KeyValue; bytes are base64."""
    return KeyValue(
        key=base64.b64decode(word(row, "key"), validate=True),
        value=base64.b64decode(word(row, "value"), validate=True),
        create_revision=number(row, "create_revision"),
        mod_revision=number(row, "mod_revision"),
        version=number(row, "version"),
        lease=number(row, "lease"),
    )


def parse_hash(said: dict[str, Any], revision: int) -> KvHash:
    """A HashKVResponse; hash_revision is there from 3.6."""
    at = revision or number(said, "hash_revision") or number(header(said), "revision")
    never = said.get("compact_revision") in (-1, "-1")  # what etcd says before the first compaction
    return KvHash(number(said, "hash"), at, -1 if never else number(said, "compact_revision"))


def header(said: dict[str, Any]) -> dict[str, Any]:
    """The ResponseHeader. Raises TypeError where there is none: then it is no answer of etcd's.

    An empty object from whatever listens there must not pass for a read through the quorum.
    """
    found = said.get("header")
    if not isinstance(found, dict) or hex_id(found.get("cluster_id")) == hex_id(0):
        raise TypeError("no header with the cluster's ID")
    return found


def understood(url: str, reply: Reply, parse: Callable[[dict[str, Any]], T]) -> T:
    """What `parse` makes of the answer. Raises EtcdError where etcd would not have said that."""
    said = json_object(url, reply)
    try:
        return parse(said)
    except (ValueError, TypeError):
        raise not_understood(url, reply) from None


def json_object(url: str, reply: Reply) -> dict[str, Any]:
    """The JSON object in an answer. Raises EtcdError where it is something else."""
    try:
        said = reply.json()
    except ValueError:
        raise not_understood(url, reply) from None
    if not isinstance(said, dict):
        raise not_understood(url, reply)
    return said


def not_understood(url: str, reply: Reply) -> EtcdError:
    """The error for an answer that no etcd gives."""
    begins = reply.body[:80].decode(errors="replace")
    return EtcdError(f"{url}: not an answer of etcd: {begins!r}", Condition.OTHER)


# ---- fields: what is not of its type raises ValueError or TypeError, and is never guessed at -----


def number(said: dict[str, Any], key: str) -> int:
    """An integer of up to 64 bits, as a JSON number or as decimal text; 0 where it is left out."""
    return _integer(said.get(key))


def word(said: dict[str, Any], key: str) -> str:
    """A text, empty where it is left out."""
    value = said.get(key)
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{key} is no text")
    return value or ""


def words(said: dict[str, Any], key: str) -> tuple[str, ...]:
    """A list of texts, empty where it is left out."""
    values = said.get(key)
    if values is None:
        return ()
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{key} is no list of texts")
    return tuple(values)


def flag(said: dict[str, Any], key: str) -> bool:
    """A truth value, false where it is left out."""
    value = said.get(key)
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{key} is neither true nor false")
    return bool(value)


def rows(said: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """A list of objects, empty where it is left out."""
    found = said.get(key)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise TypeError(f"{key} is no list of objects")
    return found


def hex_id(value: Any) -> str:
    """An ID of the gateway (decimal) as etcdctl prints it: 16 hex digits."""
    return f"{_integer(value):016x}"


def _integer(value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 64:
        raise ValueError(f"{str(value)[:40]!r} is no number of 64 bits")
    return value


def decimal_id(member_id: str) -> str:
    """An ID of ours (hex) as the gateway wants it."""
    return str(int(member_id, 16))
