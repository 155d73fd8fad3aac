"""Maintenance.Snapshot over gRPC, as etcdctl asks for it: the database as raw bytes."""

from __future__ import annotations

from collections.abc import Iterator

from agent.etcd import protobuf
from agent.etcd.errors import Condition, EtcdError
from agent.etcd.grpc import Call
from agent.etcd.transport import RealFiles

SNAPSHOT = "etcdserverpb.Maintenance/Snapshot"


def iter_snapshot(url: str, tls: RealFiles, silence: float = 30.0) -> Iterator[tuple[bytes, int]]:
    """(bytes, how many are still to come) of a snapshot of the member behind a client URL.

    Needs no quorum: the member streams its own database, and its sha256 after it. silence: the
    longest wait for the next bytes, in seconds. Ends when the member said that all was sent. Raises
    EtcdError for a stream that ends before.
    """
    try:
        with Call(url, tls, SNAPSHOT, b"", silence, what="snapshot") as call:
            left = -1
            for message in call.messages():
                blob, left = parse(url, message)
                yield blob, left
    except EtcdError as error:
        if error.condition is Condition.DENIED:
            error.why = "with authentication only root may take one"
        error.next = error.next or "fab survey, then take the snapshot again"
        raise
    if left != 0:
        raise EtcdError(
            f"{url}: the snapshot stream ended with {max(left, 0)} bytes still to come",
            Condition.OTHER,
            why="the member stopped, or gave up",
            next="fab survey, then take the snapshot again",
        )


def parse(url: str, message: bytes) -> tuple[bytes, int]:
    """SnapshotResponse (etcd's rpc.proto): 2 remaining_bytes, 3 blob; 1 and 4 are of no use."""
    blob, left, at = b"", 0, 0
    try:
        while at < len(message):
            tag, at = protobuf.varint(message, at)
            if tag & 7 == 0:
                value, at = protobuf.varint(message, at)
                left = value if tag >> 3 == 2 else left
            elif tag & 7 == 2:
                length, at = protobuf.varint(message, at)
                if at + length > len(message):
                    raise protobuf.Malformed("proto: unexpected EOF")
                blob = message[at : at + length] if tag >> 3 == 3 else blob
                at += length
            else:
                raise protobuf.Malformed(f"proto: wire type {tag & 7}")
    except (protobuf.Malformed, IndexError) as error:
        seen = f"{url}: no snapshot: not a SnapshotResponse: {error}"
        raise EtcdError(seen, Condition.OTHER) from None
    return blob, left
