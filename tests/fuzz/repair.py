"""Makes checksums right again, so that an edited file is not refused at the door."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib

from agent.etcd import protobuf
from agent.model.codec import canonical
from agent.survey import crc32c
from agent.survey.bbolt import fnv1a
from tests.unit.survey.make_wal import numbers, text


def wal(data: bytes) -> bytes:
    """Every record that can still be read, with the checksum of the chain."""
    out, at, crc = bytearray(data), 0, 0
    while at + 8 <= len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        size = length & ((1 << 56) - 1)
        padding = (length >> 56) & 7 if length >> 63 else 0
        if length == 0 or at + 8 + size > len(data):
            break
        try:
            found = protobuf.message(data[at + 8 : at + 8 + size], {1: 0, 2: 0, 3: 2})
        except protobuf.Malformed:
            break
        kind, content = protobuf.unsigned(found, 1), found.get(3, b"")
        assert isinstance(content, bytes)
        crc = crc32c.update(crc, content) if kind != 4 else crc
        record = numbers(kind, crc) + (text(3, content) if content else b"")
        if len(record) == size:
            out[at + 8 : at + 8 + size] = record
        at += 8 + size + padding
    return bytes(out)


def db(data: bytes) -> bytes:
    """Both metas with the checksum of what is in them."""
    out = bytearray(data)
    for place in (0, 4096):
        meta = data[place + 16 : place + 72]
        if len(data) >= place + 80:
            out[place + 72 : place + 80] = struct.pack("<Q", fnv1a(meta))
    return bytes(out)


def snapshot(data: bytes) -> bytes:
    """The database repaired, and its hash behind it."""
    body = db(data[: len(data) // 512 * 512])
    return body + hashlib.sha256(body).digest()


def snap(data: bytes) -> bytes:
    """The checksum of the raft snapshot in front of it."""
    try:
        found = protobuf.message(data, {1: 0, 2: 2}).get(2, b"")
    except protobuf.Malformed:
        return data
    assert isinstance(found, bytes)
    return numbers(crc32c.update(0, found)) + text(2, found)


def journal(data: bytes) -> bytes:
    """Every line that is still JSON, with the checksum of the chain."""
    lines, previous = [], ""
    for line in data.split(b"\n"):
        try:
            record = json.loads(line)
            record.pop("crc", None)
            previous = f"{zlib.crc32(previous.encode() + canonical(record)):08x}"
            line = canonical({**record, "crc": previous})
        except (ValueError, AttributeError, RecursionError):
            pass
        lines.append(line)
    return b"\n".join(lines)


def plan(data: bytes) -> bytes:
    """The plan's own hash."""
    try:
        value = json.loads(data)
        value["id"] = ""
        return canonical({**value, "id": hashlib.sha256(canonical(value)).hexdigest()})
    except (ValueError, TypeError, RecursionError):
        return data


def tar(data: bytes) -> bytes:
    """The checksum of every block that could be a header, where the archive is not packed."""
    out = bytearray(data)
    for at in range(0, len(data) - 511, 512):
        if data[at + 257 : at + 262] == b"ustar":
            head = bytearray(data[at : at + 512])
            head[148:156] = b" " * 8
            out[at + 148 : at + 156] = b"%06o\0 " % (sum(head) & 0o777777)
    return bytes(out)


def carried(data: bytes) -> bytes:
    """A carried file whose hashes fit, its journals' and its own, as somebody could make one."""
    try:
        found = json.loads(data)
        for one in found["journals"]:
            one["sha256"] = hashlib.sha256(one["text"].encode()).hexdigest()
        bare = {key: value for key, value in found.items() if key != "sha256"}
        return canonical({**bare, "sha256": hashlib.sha256(canonical(bare)).hexdigest()})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return data
