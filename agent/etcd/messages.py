"""etcd's gRPC messages to and from the JSON that its gateway speaks, by a table of their fields.

Source: api/etcdserverpb/rpc.proto, api/mvccpb/kv.proto and the gateway's paths (rpc.pb.gw.go) of
etcd 3.4 to 3.6. Only calls and fields that are used here; an unknown field is passed over, as
protobuf wants it.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from typing import Any, NamedTuple, Union

from agent.etcd import protobuf
from agent.etcd.errors import Condition, EtcdError
from agent.etcd.grpc import unary
from agent.etcd.transport import RealFiles

_U64 = (1 << 64) - 1
_SIGN = 1 << 63

# A field is NAME KIND, by its number. Kinds: uint, int, bool, text, bytes, the name of an enum or a
# message; * says repeated.
_HEADER = {1: "cluster_id uint", 2: "member_id uint", 3: "revision int", 4: "raft_term uint"}
_ENUMS = {"Action": ("GET", "ACTIVATE", "DEACTIVATE"), "Kind": ("NONE", "NOSPACE", "CORRUPT")}
_MEMBER = {1: "ID uint", 2: "name text", 3: "peerURLs *text", 4: "clientURLs *text",
           5: "isLearner bool"}  # fmt: skip
_KV = {1: "key bytes", 2: "create_revision int", 3: "mod_revision int", 4: "version int",
       5: "value bytes", 6: "lease int"}  # fmt: skip
_MESSAGES = {
    "Header": _HEADER,
    "Member": _MEMBER,
    "KeyValue": _KV,
    "AlarmMember": {1: "memberID uint", 2: "alarm Kind"},
}
_ONLY_HEADER = {1: "header Header"}
_MEMBERS = {1: "header Header", 2: "members *Member"}
_RANGE = {1: "key bytes", 2: "range_end bytes", 3: "limit int", 4: "revision int",
          7: "serializable bool", 8: "keys_only bool", 9: "count_only bool"}  # fmt: skip
_STATUS = {1: "header Header", 2: "version text", 3: "dbSize int", 4: "leader uint",
           5: "raftIndex uint", 6: "raftTerm uint", 7: "raftAppliedIndex uint", 8: "errors *text",
           9: "dbSizeInUse int", 10: "isLearner bool", 11: "storageVersion text",
           12: "dbSizeQuota int"}  # fmt: skip
_Fields = dict[int, str]


class Method(NamedTuple):
    """One gRPC method: its name below etcdserverpb, the fields of what is asked and answered."""

    name: str
    request: _Fields
    response: _Fields


_METHODS: dict[str, tuple[str, _Fields, _Fields]] = {
    "kv/range": (
        "KV/Range",
        _RANGE,
        {1: "header Header", 2: "kvs *KeyValue", 3: "more bool", 4: "count int"},
    ),
    "kv/put": ("KV/Put", {1: "key bytes", 2: "value bytes"}, _ONLY_HEADER),
    "kv/deleterange": (
        "KV/DeleteRange",
        {1: "key bytes", 2: "range_end bytes"},
        {1: "header Header", 2: "deleted int"},
    ),
    "kv/compaction": ("KV/Compact", {1: "revision int", 2: "physical bool"}, _ONLY_HEADER),
    "cluster/member/list": ("Cluster/MemberList", {1: "linearizable bool"}, _MEMBERS),
    "cluster/member/add": (
        "Cluster/MemberAdd",
        {1: "peerURLs *text", 2: "isLearner bool"},
        {1: "header Header", 2: "member Member", 3: "members *Member"},
    ),
    "cluster/member/remove": ("Cluster/MemberRemove", {1: "ID uint"}, _MEMBERS),
    "cluster/member/promote": ("Cluster/MemberPromote", {1: "ID uint"}, _MEMBERS),
    "cluster/member/update": (
        "Cluster/MemberUpdate",
        {1: "ID uint", 2: "peerURLs *text"},
        _MEMBERS,
    ),
    "maintenance/status": ("Maintenance/Status", {}, _STATUS),
    "maintenance/alarm": (
        "Maintenance/Alarm",
        {1: "action Action", 2: "memberID uint", 3: "alarm Kind"},
        {1: "header Header", 2: "alarms *AlarmMember"},
    ),
    "maintenance/defragment": ("Maintenance/Defragment", {}, _ONLY_HEADER),
    "maintenance/hashkv": (
        "Maintenance/HashKV",
        {1: "revision int"},
        {1: "header Header", 2: "hash uint", 3: "compact_revision int", 4: "hash_revision int"},
    ),
    "maintenance/transfer-leadership": ("Maintenance/MoveLeader", {1: "targetID uint"}, {}),
}

CALLS = {path: Method(*method) for path, method in _METHODS.items()}
"""The gateway's path below /v3 → the method behind it."""


def ask(url: str, tls: RealFiles, path: str, body: dict[str, Any], timeout: float) -> bytes:
    """What the gateway would answer to a POST of `body` to /v3/`path`, asked for by gRPC: JSON.

    Raises EtcdError, with the same conditions as the gateway's answers have.
    """
    method, request, response = CALLS[path]
    said = unary(url, tls, f"etcdserverpb.{method}", encode(request, body), timeout)
    try:
        return json.dumps(decode(response, said)).encode()
    except (protobuf.Malformed, UnicodeDecodeError) as error:
        seen = f"{url}: not an answer of etcd to {method}: {error}"
        raise EtcdError(seen, Condition.OTHER) from None


# ---- JSON → protobuf -----------------------------------------------------------------------------


def encode(fields: _Fields, body: dict[str, Any]) -> bytes:
    """The message with these fields; bytes are base64 and integers may be decimal text in `body`.

    Raises KeyError for a name that is no field: that is a mistake of ours.
    """
    numbers = {field.split()[0]: number for number, field in fields.items()}
    encoded = bytearray()
    for name, value in body.items():
        number = numbers[name]
        kind = fields[number].split()[1]
        for one in value if kind.startswith("*") else [value]:
            encoded += _field(number, kind.lstrip("*"), one)
    return bytes(encoded)


def _field(number: int, kind: str, value: Any) -> bytes:
    if kind in ("text", "bytes"):
        data = value.encode() if kind == "text" else base64.b64decode(value)
        return _varint(number << 3 | 2) + _varint(len(data)) + data if data else b""
    plain = _ENUMS[kind].index(value) if kind in _ENUMS else int(value)
    return _varint(number << 3) + _varint(plain & _U64) if plain else b""


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


# ---- protobuf → JSON -----------------------------------------------------------------------------


def decode(fields: _Fields, message: bytes) -> dict[str, Any]:
    """The message as the gateway writes it: integers of 64 bits as text, bytes as base64.

    Raises protobuf.Malformed, or UnicodeDecodeError for a text that is none.
    """
    found: dict[str, Any] = {}
    for name, kind, value in _known(fields, message):
        if kind.startswith("*"):
            found.setdefault(name, []).append(_plain(kind[1:], value))
        else:
            found[name] = _plain(kind, value)
    return found


def _known(fields: _Fields, message: bytes) -> Iterator[tuple[str, str, Union[int, bytes]]]:
    for number, wire, value in protobuf.fields(message):
        if number not in fields:
            continue
        name, kind = fields[number].split()
        numeric = kind in ("uint", "int", "bool") or kind in _ENUMS
        if wire != (protobuf.VARINT if numeric else protobuf.BYTES):
            raise protobuf.Malformed(f"proto: wrong wireType = {wire} for field {name}")
        yield name, kind, value


def _plain(kind: str, value: Union[int, bytes]) -> Any:
    if isinstance(value, bytes):
        if kind == "text":
            return value.decode()
        if kind == "bytes":
            return binascii.b2a_base64(value, newline=False).decode()
        return decode(_MESSAGES[kind], value)
    if kind == "bool":
        return bool(value)
    if kind in _ENUMS:
        names = _ENUMS[kind]
        return names[value] if value < len(names) else str(value)
    return str(value - (1 << 64) if kind == "int" and value & _SIGN else value)
