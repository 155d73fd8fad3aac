"""Maintenance.Snapshot over gRPC, as etcdctl asks for it: the database as raw bytes.

etcd's JSON gateway can stream a snapshot too, at six times the processor time of the etcd that
serves it (base64 in JSON); and the gateway may be switched off. So this speaks the little of HTTP/2
(RFC 9113) and gRPC (PROTOCOL-HTTP2.md) that one call of one server-streaming method needs.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from agent.etcd.errors import Condition, EtcdError
from agent.etcd.transport import RealFiles, tls_context
from agent.survey import protobuf

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _PADDED, _PRIORITY, _END_HEADERS = 0x1, 0x1, 0x8, 0x20, 0x4
_WINDOW_SIZE = 8 * 1024 * 1024
_MAX_MESSAGE = 4 * 1024 * 1024
_RECV = 256 * 1024
_PATH = b"/etcdserverpb.Maintenance/Snapshot"
_STATUS_NAMES = (b"grpc-status", bytes.fromhex("9acac8b21234da8f"))  # plain, and Huffman-coded
_CODES = {
    "2": "unknown error", "4": "deadline exceeded", "7": "permission denied",
    "8": "resource exhausted", "12": "unimplemented", "13": "internal error", "14": "unavailable",
    "16": "unauthenticated",
}  # fmt: skip
_TIMEOUTS = (TimeoutError, socket.timeout)


def iter_snapshot(url: str, tls: RealFiles, silence: float = 30.0) -> Iterator[tuple[bytes, int]]:
    """(bytes, how many are still to come) of a snapshot of the member behind a client URL.

    Needs no quorum: the member streams its own database, and its sha256 after it. silence: the
    longest wait for the next bytes, in seconds. Ends when the member said that all was sent. Raises
    EtcdError for a stream that ends before.
    """
    with _Call(url, tls, silence) as call:
        left = -1
        for message in call.messages():
            blob, left = _parse(url, message)
            yield blob, left
        if left != 0:
            raise EtcdError(
                f"{url}: the snapshot stream ended with {max(left, 0)} bytes still to come",
                Condition.OTHER,
                why="the member stopped, or gave up",
                next="fab survey, then take the snapshot again",
            )


def _parse(url: str, message: bytes) -> tuple[bytes, int]:
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
        raise _failed(url, f"not a SnapshotResponse: {error}") from None
    return blob, left


class _Call:
    """One connection with one call on stream 1."""

    def __init__(self, url: str, tls: RealFiles, silence: float) -> None:
        self._url, self._tls, self._silence = url.rstrip("/"), tls, silence
        self._socket: Any = None
        self._buffer = bytearray()
        self._taken = 0
        self._consumed = 0

    def __enter__(self) -> _Call:
        parts = urlsplit(self._url)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            raw = socket.create_connection((host, port), self._silence)
            self._socket = self._secured(raw, host) if parts.scheme == "https" else raw
            self._socket.sendall(_opening(parts.scheme, f"{host}:{port}"))
        except BaseException as error:
            self.__exit__()
            raise self._explained(error) from None
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()

    def _secured(self, raw: socket.socket, host: str) -> socket.socket:
        context = tls_context(self._tls)
        context.set_alpn_protocols(["h2"])
        try:
            return context.wrap_socket(raw, server_hostname=host)
        except BaseException:
            raw.close()
            raise

    def messages(self) -> Iterator[bytes]:
        """The gRPC messages of the answer. Raises EtcdError unless the call ended well."""
        pending = bytearray()
        for kind, flags, payload in self._frames():
            if kind == _DATA:
                pending += self._unpadded(flags, payload)
                yield from self._complete(pending)
            elif kind == _HEADERS:
                self._check_status(payload)
            elif kind == _RESET:
                raise _failed(self._url, f"the stream was reset ({_number(payload)})")
            elif kind == _GOAWAY:
                raise _failed(self._url, "the server is going away")
            if kind in (_DATA, _HEADERS) and flags & _END_STREAM:
                return

    def _unpadded(self, flags: int, payload: bytes) -> bytes:
        """The data of a DATA frame (RFC 9113, 6.1)."""
        if not flags & _PADDED:
            return payload
        if not payload or payload[0] >= len(payload):
            raise _failed(self._url, "a frame with more padding than it is long")
        return payload[1 : len(payload) - payload[0]]

    def _complete(self, pending: bytearray) -> Iterator[bytes]:
        at = 0
        while len(pending) - at >= 5:
            compressed, size = struct.unpack_from(">BI", pending, at)
            if compressed or size > _MAX_MESSAGE:
                raise _failed(self._url, f"a message of {size} bytes, compressed: {compressed}")
            if len(pending) - at - 5 < size:
                break
            yield bytes(pending[at + 5 : at + 5 + size])
            at += 5 + size
        del pending[:at]

    def _check_status(self, block: bytes) -> None:
        """grpc-status of the trailers. Its name is a literal; one digit is never Huffman-coded."""
        for name in _STATUS_NAMES:
            at = block.find(name)
            if at < 0:
                continue
            at += len(name)
            size = block[at] & 0x7F if at < len(block) else 0
            code = block[at + 1 : at + 1 + size].decode("ascii", "replace")
            if code != "0":
                raise self._refused(code)

    def _refused(self, code: str) -> EtcdError:
        denied = code in ("7", "16")
        said = _CODES.get(code, f"gRPC status {code}")
        return EtcdError(
            f"{self._url}: no snapshot: {said}",
            Condition.DENIED if denied else Condition.OTHER,
            why="with authentication only root may take one" if denied else "",
            next="fab survey",
        )

    # ---- frames ----------------------------------------------------------------------------------

    def _frames(self) -> Iterator[tuple[int, int, bytes]]:
        """(kind, flags, payload) of stream 1, and of the connection; what has to be is answered."""
        while True:
            head = self._take(9)
            size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
            payload = self._take(size)
            if kind == _SETTINGS and not flags & _ACK:
                self._send(_frame(_SETTINGS, _ACK, 0, b""))
            elif kind == _PING and not flags & _ACK:
                self._send(_frame(_PING, _ACK, 0, payload))
            elif kind == _HEADERS and not flags & _END_HEADERS:
                raise _failed(self._url, "headers in several frames")
            else:
                self._count(kind, size)
                yield kind, flags, payload

    def _count(self, kind: int, size: int) -> None:
        """Let the server send as much again once half of the window is used."""
        self._consumed += size if kind == _DATA else 0
        if self._consumed >= _WINDOW_SIZE // 2:
            more = struct.pack(">I", self._consumed)
            self._send(_frame(_WINDOW, 0, 0, more) + _frame(_WINDOW, 0, 1, more))
            self._consumed = 0

    def _take(self, size: int) -> bytes:
        while len(self._buffer) - self._taken < size:
            del self._buffer[: self._taken]
            self._taken = 0
            self._buffer += self._receive()
        data = bytes(self._buffer[self._taken : self._taken + size])
        self._taken += size
        return data

    def _receive(self) -> bytes:
        try:
            data: bytes = self._socket.recv(_RECV)
        except OSError as error:
            raise self._explained(error) from None
        if not data:
            raise _failed(self._url, "the connection ended in the middle of the stream")
        return data

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise self._explained(error) from None

    def _explained(self, error: BaseException) -> BaseException:
        if isinstance(error, _TIMEOUTS):
            seen = f"{self._url}: nothing came of the snapshot for {self._silence:g} s"
            return EtcdError(seen, Condition.TIMEOUT)
        if isinstance(error, ssl.SSLError):
            said = (error.reason or str(error)).replace("_", " ").lower()
            return EtcdError(f"{self._url}: TLS failed: {said}", Condition.TLS)
        if isinstance(error, OSError):
            return EtcdError(f"{self._url}: {error.strerror or error}", Condition.UNREACHABLE)
        return error


def _failed(url: str, reason: str) -> EtcdError:
    return EtcdError(
        f"{url}: no snapshot: {reason}", Condition.OTHER, next="fab survey, then take it again"
    )


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def _opening(scheme: str, authority: str) -> bytes:
    """Preface, settings (no header table: trailers are literals), one empty SnapshotRequest."""
    settings = struct.pack(">HIHI", 1, 0, 4, _WINDOW_SIZE)
    window = struct.pack(">I", _WINDOW_SIZE - 65535)
    headers = b"".join(
        b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value
        for name, value in (
            (b":method", b"POST"),
            (b":scheme", scheme.encode()),
            (b":path", _PATH),
            (b":authority", authority.encode()[:127]),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        )
    )
    return (
        _PREFACE
        + _frame(_SETTINGS, 0, 0, settings)
        + _frame(_WINDOW, 0, 0, window)
        + _frame(_HEADERS, _END_HEADERS, 1, headers)
        + _frame(_DATA, _END_STREAM, 1, bytes(5))
    )


def _number(payload: bytes) -> str:
    return f"error {int.from_bytes(payload[:4], 'big')}"
