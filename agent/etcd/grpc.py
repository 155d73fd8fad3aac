"""One gRPC call to etcd: as much of HTTP/2 (RFC 9113) and gRPC (PROTOCOL-HTTP2.md) as that needs.

The JSON gateway answers most of what is asked here. It may be switched off (it is by default where
etcd 3.4 reads a configuration file), it cannot reach its own etcd where the server's certificate is
none for clients, and it streams a snapshot at six times the processor time. The port is the same.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Iterator
from typing import Any, Optional
from urllib.parse import unquote, urlsplit

from agent.etcd.errors import Condition, EtcdError, condition_of
from agent.etcd.transport import RealFiles, connect, tls_context

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _PADDED, _PRIORITY, _END_HEADERS = 0x1, 0x1, 0x8, 0x20, 0x4
_WINDOW_SIZE = 8 * 1024 * 1024
_MAX_MESSAGE = 64 * 1024 * 1024
_MAX_FRAME = 1 << 14  # what a peer may send that was allowed no more
_MAX_HEADERS = 64 * 1024
_RECV = 256 * 1024
_CODES = {
    2: "unknown error", 4: "deadline exceeded", 7: "permission denied", 8: "resource exhausted",
    12: "unimplemented", 13: "internal error", 14: "unavailable", 16: "unauthenticated",
}  # fmt: skip
_DENIED = (7, 16)
_TIMEOUTS = (TimeoutError, socket.timeout)


def unary(url: str, tls: RealFiles, method: str, request: bytes, timeout: float) -> bytes:
    """The one answer to one request. method: "etcdserverpb.KV/Range". Raises EtcdError.

    timeout: seconds for all of it, from the name's resolution to the last byte.
    """
    with Call(url, tls, method, request, timeout, whole=True) as call:
        found = list(call.messages())
    if len(found) != 1:
        raise EtcdError(f"{url}: {len(found)} answers to {method}", Condition.OTHER)
    return found[0]


class Call:
    """One connection with one call on stream 1.

    silence: the longest wait for the next bytes, in seconds; `whole`: the longest time for all of
    it. what: that which is asked for, in words.
    """

    def __init__(
        self, url: str, tls: RealFiles, method: str, request: bytes, silence: float,
        whole: bool = False, what: str = "",
    ) -> None:  # fmt: skip
        self._url, self._tls, self._silence = url.rstrip("/"), tls, silence
        self._method, self._request = method, request
        self._what = what or f"answer to {method.rpartition('/')[2]}"
        self._deadline = time.monotonic() + silence if whole else 0.0
        self._socket: Any = None
        self._buffer = bytearray()
        self._taken = 0
        self._consumed = 0
        self._sent = False
        self._decoder: Any = None

    def __enter__(self) -> Call:
        parts = urlsplit(self._url)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            raw = connect(host, port, time.monotonic() + self._left())
            self._socket = self._secured(raw, host) if parts.scheme == "https" else raw
            self._sent = True
            self._send(opening(parts.scheme, parts.netloc, self._method, self._request, self._wait))
        except BaseException as error:
            self.__exit__()
            raise self._explained(error) from None
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()

    @property
    def _wait(self) -> float:
        """How long the server may take; nothing where only silence counts."""
        return self._left() if self._deadline else 0.0

    def _left(self) -> float:
        if not self._deadline:
            return self._silence
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _secured(self, raw: socket.socket, host: str) -> socket.socket:
        try:
            context = tls_context(self._tls)
            context.set_alpn_protocols(["h2"])
            raw.settimeout(self._left())
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
                self._check_headers(self._unpadded(flags, payload)[5 * bool(flags & _PRIORITY) :])
            elif kind == _RESET:
                raise self._failed(f"the stream was reset ({_number(payload)})")
            elif kind == _GOAWAY:
                raise self._failed("the server is going away")
            if kind in (_DATA, _HEADERS) and flags & _END_STREAM:
                return

    def _unpadded(self, flags: int, payload: bytes) -> bytes:
        """The payload of a frame that may be padded (RFC 9113, 6.1)."""
        if not flags & _PADDED:
            return payload
        if not payload or payload[0] >= len(payload):
            raise self._failed("a frame with more padding than it is long")
        return payload[1 : len(payload) - payload[0]]

    def _complete(self, pending: bytearray) -> Iterator[bytes]:
        at = 0
        while len(pending) - at >= 5:
            compressed, size = struct.unpack_from(">BI", pending, at)
            if compressed or size > _MAX_MESSAGE:
                raise self._failed(f"a message of {size} bytes, compressed: {compressed}")
            if len(pending) - at - 5 < size:
                break
            yield bytes(pending[at + 5 : at + 5 + size])
            at += 5 + size
        del pending[:at]

    def _check_headers(self, block: bytes) -> None:
        """Raise EtcdError unless these headers, or trailers, tell of no failure."""
        from hpack import Decoder, HPACKError

        if self._decoder is None:
            self._decoder = Decoder(max_header_list_size=_MAX_HEADERS)
        try:
            pairs = self._decoder.decode(block, raw=True)
        except (HPACKError, ValueError, IndexError) as error:
            raise self._failed(f"headers that nobody can read: {error}") from None
        said = {bytes(name): bytes(value).decode("utf-8", "replace") for name, value in pairs}
        if said.get(b":status", "200") != "200":
            raise self._failed(f"HTTP status {said[b':status'][:20]}")
        code = said.get(b"grpc-status", "0")
        if code != "0":
            raise self._refused(code, unquote(said.get(b"grpc-message", ""))[:500])

    def _refused(self, told: str, message: str) -> EtcdError:
        code = int(told) if told.isascii() and told.isdigit() and len(told) < 4 else 2
        condition = Condition.DENIED if code in _DENIED else condition_of(code, message)
        said = message or _CODES.get(code, f"gRPC status {code}")
        return EtcdError(f"{self._url}: no {self._what}: {said}", condition, code, message)

    # ---- frames ----------------------------------------------------------------------------------

    def _frames(self) -> Iterator[tuple[int, int, bytes]]:
        """(kind, flags, payload) of stream 1, and of the connection; what has to be is answered."""
        while True:
            head = self._take(9)
            size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
            if head.startswith(b"HTTP/"):
                raise self._failed("the port does not speak HTTP/2")
            if size > _MAX_FRAME:
                raise self._failed(f"a frame of {size} bytes, which nobody allowed")
            payload = self._take(size)
            if kind == _SETTINGS and not flags & _ACK:
                self._send(frame(_SETTINGS, _ACK, 0, b""))
            elif kind == _PING and not flags & _ACK:
                self._send(frame(_PING, _ACK, 0, payload))
            elif kind == _HEADERS and not flags & _END_HEADERS:
                raise self._failed("headers in several frames")
            else:
                self._count(kind, size)
                yield kind, flags, payload

    def _count(self, kind: int, size: int) -> None:
        """Let the server send as much again once half of the window is used."""
        self._consumed += size if kind == _DATA else 0
        if self._consumed >= _WINDOW_SIZE // 2:
            more = struct.pack(">I", self._consumed)
            self._send(frame(_WINDOW, 0, 0, more) + frame(_WINDOW, 0, 1, more))
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
            self._socket.settimeout(self._left())
            data: bytes = self._socket.recv(_RECV)
        except OSError as error:
            raise self._explained(error) from None
        if not data:
            raise self._failed("the connection ended in the middle of the answer")
        return data

    def _send(self, data: bytes) -> None:
        try:
            self._socket.settimeout(self._left())
            self._socket.sendall(data)
        except OSError as error:
            raise self._explained(error) from None

    def _explained(self, error: BaseException) -> BaseException:
        if isinstance(error, _TIMEOUTS):
            seen = f"{self._url}: no {self._what}: nothing came for {self._silence:.3g} s"
            return EtcdError(seen, Condition.TIMEOUT, sent=self._sent)
        if isinstance(error, ssl.SSLError):
            said = (error.reason or str(error)).replace("_", " ").lower()
            return EtcdError(f"{self._url}: TLS failed: {said}", Condition.TLS, sent=self._sent)
        if isinstance(error, OSError):
            seen = f"{self._url}: {error.strerror or error}"
            return EtcdError(seen, Condition.UNREACHABLE, sent=self._sent)
        return error

    def _failed(self, reason: str) -> EtcdError:
        return EtcdError(f"{self._url}: no {self._what}: {reason}", Condition.OTHER)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame (RFC 9113, 4.1)."""
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def opening(
    scheme: str, authority: str, method: str, request: bytes, timeout: Optional[float] = None
) -> bytes:
    """Preface, settings (no header table), and one request on stream 1, with its end."""
    settings = struct.pack(">HIHI", 1, 0, 4, _WINDOW_SIZE)
    window = struct.pack(">I", _WINDOW_SIZE - 65535)
    told = [
        (":method", "POST"),
        (":scheme", scheme),
        (":path", f"/{method}"),
        (":authority", authority[:127]),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    if timeout:
        told.append(("grpc-timeout", f"{max(1, int(timeout * 1000))}m"))
    headers = b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in told
    )
    body = struct.pack(">BI", 0, len(request)) + request
    pieces = [body[at : at + _MAX_FRAME] for at in range(0, len(body), _MAX_FRAME)]
    return (
        _PREFACE
        + frame(_SETTINGS, 0, 0, settings)
        + frame(_WINDOW, 0, 0, window)
        + frame(_HEADERS, _END_HEADERS, 1, headers)
        + b"".join(frame(_DATA, 0, 1, piece) for piece in pieces[:-1])
        + frame(_DATA, _END_STREAM, 1, pieces[-1])
    )


def _number(payload: bytes) -> str:
    return f"error {int.from_bytes(payload[:4], 'big')}"
