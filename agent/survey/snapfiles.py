"""The raft snapshot files beside the database: which one etcd would start from.

`%016x-%016x.snap` (term, index) is protobuf: 1 CRC-32C of the data, 2 data. `%016x.snap.db` is a
database received from the leader and not yet put in the place of `db`. Sources: etcd's
server/etcdserver/api/snap/{snapshotter,db}.go.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Optional

from agent.etcd import protobuf
from agent.host import Host
from agent.model.facts import Damage
from agent.survey import crc32c
from agent.survey.positioned import DamagedAt, PositionedFile
from agent.survey.wal import Position

_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.snap\Z")
_CHUNK = 1024 * 1024
_HEAD = 32


def snapshot_names(host: Host, snap_dir: str) -> list[tuple[Position, str]]:
    """(position, name) of the snapshot files, newest first; `.broken` and others passed over."""
    found = []
    for name in reversed(host.listdir(snap_dir)):
        match = _NAME.match(name)
        if match:
            found.append((Position(int(match[1], 16), int(match[2], 16)), name))
    return found


def newest_usable(
    host: Host, snap_dir: str, recorded: Sequence[Position]
) -> tuple[Optional[Position], list[Damage]]:
    """The snapshot etcd starts from, and the damaged files it would rename to `.broken` before.

    That is the newest intact file whose position the log records (LoadNewestAvailable). None where
    there is none: etcd then starts from the beginning of the log.
    """
    damage = []
    for position, name in snapshot_names(host, snap_dir):
        problem = check_snapshot(host, f"{snap_dir}/{name}")
        if problem is not None:
            damage.append(problem)
        elif position in recorded:
            return position, damage
    return None, damage


def check_snapshot(host: Host, path: str) -> Optional[Damage]:
    """What is wrong with a `.snap` file, or None; reads it once, 1 MiB at a time."""
    try:
        with PositionedFile(host, path) as file:
            return _check(file)
    except FileNotFoundError:
        return Damage(path, 0, "no such file")
    except DamagedAt as error:
        return error.damage


def _check(file: PositionedFile) -> Optional[Damage]:
    head = file.read(0, _HEAD)
    if not head:
        return Damage(file.path, 0, "snap: empty snapshot")
    try:
        expected, at, length = _head(head)
    except protobuf.Malformed as error:
        return Damage(file.path, 0, f"snappb.Snapshot: {error.reason}")
    if length == 0 or expected == 0:
        return Damage(file.path, 0, "snap: empty snapshot")
    if at + length > file.size:
        return Damage(file.path, file.size, "snappb.Snapshot: unexpected EOF")
    if at + length < file.size:
        # etcd writes nothing there, and does not start from a file whose end it cannot parse.
        behind = file.size - at - length
        return Damage(file.path, at + length, f"snappb.Snapshot: {behind} bytes behind the data")
    computed, end = 0, at + length
    while at < end:
        chunk = file.read(at, min(_CHUNK, end - at))
        if not chunk:
            break
        computed, at = crc32c.update(computed, chunk), at + len(chunk)
    if computed != expected:
        reason = f"snap: crc mismatch: expected: {expected:x} computed: {computed:x}"
        return Damage(file.path, 0, reason)
    return None


def _head(head: bytes) -> tuple[int, int, int]:
    """(checksum, where the data begins, its length). Raises Malformed."""
    if head[0] != 0x08:
        raise protobuf.Malformed("proto: no checksum in front")
    expected, at = protobuf.varint(head, 1)
    if head[at : at + 1] != b"\x12":
        raise protobuf.Malformed("proto: no data behind the checksum")
    length, at = protobuf.varint(head, at + 1)
    return expected & 0xFFFFFFFF, at, length
