"""What etcd answers, in its gateway's JSON, as plain facts."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Optional

from agent.etcd_errors import Condition, EtcdError
from agent.etcd_transport import Reply
from agent.model.facts import Alarm, Member

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
    errors = tuple(str(error).strip() for error in said.get("errors", []))
    leader = hex_id(said.get("leader"))
    return Status(
        version=str(said.get("version", "")),
        cluster_id=hex_id(head.get("cluster_id")),
        member_id=hex_id(head.get("member_id")),
        leader_id="" if leader == hex_id(0) else leader,
        raft_term=int(said.get("raftTerm", 0)),
        raft_index=int(said.get("raftIndex", 0)),
        applied_index=int(said.get("raftAppliedIndex", 0)),
        revision=int(head.get("revision", 0)),
        db_size=int(said.get("dbSize", 0)),
        db_size_in_use=int(said.get("dbSizeInUse", 0)),
        db_size_quota=int(said.get("dbSizeQuota", 0)),
        is_learner=bool(said.get("isLearner", False)),
        storage_version=str(said.get("storageVersion", "")),
        errors=errors,
        alarms=tuple(alarm for alarm in map(_parse_alarm, errors) if alarm),
    )


def parse_members(said: dict[str, Any]) -> tuple[Member, ...]:
    """The members of any answer of the Cluster service."""
    return tuple(parse_member(row) for row in said.get("members", []))


def _parse_alarm(error: str) -> Optional[Alarm]:
    """An AlarmMember in StatusResponse.errors, a protobuf text: memberID:1 alarm:NOSPACE."""
    fields = dict(part.split(":", 1) for part in error.split() if ":" in part)
    kind, member = fields.get("alarm", ""), fields.get("memberID", "")
    return Alarm(hex_id(member), kind) if kind in _ALARM_KINDS and member.isdigit() else None


def parse_member(row: dict[str, Any]) -> Member:
    """One member of the Cluster service; proto3 leaves empty fields out."""
    return Member(
        id=hex_id(row.get("ID")),
        name=str(row.get("name", "")),
        peer_urls=tuple(row.get("peerURLs") or ()),
        client_urls=tuple(row.get("clientURLs") or ()),
        is_learner=bool(row.get("isLearner", False)),
    )


def parse_kv(row: dict[str, Any]) -> KeyValue:
    """One mvccpb.KeyValue; bytes are base64."""
    return KeyValue(
        key=base64.b64decode(row.get("key", "")),
        value=base64.b64decode(row.get("value", "")),
        create_revision=int(row.get("create_revision", 0)),
        mod_revision=int(row.get("mod_revision", 0)),
        version=int(row.get("version", 0)),
        lease=int(row.get("lease", 0)),
    )


def parse_hash(said: dict[str, Any], revision: int) -> KvHash:
    """A HashKVResponse; hash_revision is there from 3.6."""
    at = revision or int(said.get("hash_revision", 0)) or int(header(said).get("revision", 0))
    return KvHash(int(said.get("hash", 0)), at, int(said.get("compact_revision", 0)))


def header(said: dict[str, Any]) -> dict[str, Any]:
    """The ResponseHeader, empty where there is none."""
    found = said.get("header")
    return found if isinstance(found, dict) else {}


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


def hex_id(number: Any) -> str:
    """An ID of the gateway (decimal) as etcdctl prints it: 16 hex digits."""
    return f"{int(number or 0):016x}"


def decimal_id(member_id: str) -> str:
    """An ID of ours (hex) as the gateway wants it."""
    return str(int(member_id, 16))
