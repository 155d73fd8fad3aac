"""HTTP to an etcd port within a deadline: sockets, TLS, and what a failure means."""

from __future__ import annotations

import http.client
import io
import ipaddress
import json
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from typing import Any, Optional
from urllib.parse import urlsplit

from agent.errors import UsageError
from agent.etcd.errors import Condition, EtcdError, condition_of
from agent.host import Host
from agent.model.facts import TlsFiles

_MAX_BODY = 64 * 1024 * 1024
# X509_V_FLAG_PARTIAL_CHAIN of OpenSSL (ssl names it from Python 3.10). etcd is written in Go, which
# takes an intermediate in the CA file as a trust anchor; OpenSSL does so only with this flag.
_PARTIAL_CHAIN = 0x80000


# Before Python 3.10 a socket's timeout is no TimeoutError.
_TIMEOUTS = (TimeoutError, socket.timeout)


@dataclass(frozen=True)
class Reply:
    """An HTTP answer, its body complete."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body parsed; raises ValueError where it is not JSON."""
        try:
            return json.loads(self.body)
        except RecursionError:
            raise ValueError("nested too deeply") from None


class RealFiles(TlsFiles):
    """TLS files by the paths to open from here: a definition's become so by `real_files` alone."""


def real_files(host: Host, tls: TlsFiles) -> RealFiles:
    """The same files by the paths to open from here (root prefix)."""
    return RealFiles(**{k: v and host.real(v) for k, v in vars(tls).items()})


def tls_context(tls: RealFiles) -> ssl.SSLContext:
    """A context that verifies the server by `tls.ca` (the system's CAs where empty) and its name.

    Raises EtcdError (condition TLS) naming the file that cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VerifyFlags(_PARTIAL_CHAIN)
    try:
        if tls.ca:
            context.load_verify_locations(tls.ca)
        else:
            context.load_default_certs()
    except (OSError, ssl.SSLError) as error:
        raise _tls_file_error("CA file", tls.ca, error) from None
    try:
        if tls.cert:
            # Without a password given, an encrypted key would make OpenSSL ask on the terminal.
            context.load_cert_chain(tls.cert, tls.key or None, password="")
    except (OSError, ssl.SSLError) as error:
        raise _tls_file_error(
            "client certificate and key", f"{tls.cert}, {tls.key}", error
        ) from None
    return context


def _tls_file_error(what: str, path: str, error: OSError) -> EtcdError:
    reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return EtcdError(f"{what} {path}: {reason or error}", Condition.TLS, sent=False)


class Connection:
    """One kept-alive HTTP/1.1 connection to an etcd port. Not for use by two threads at once.

    url: http(s)://host:port. Every call has a deadline that covers name resolution, connecting, the
    TLS handshake, and the whole answer, whatever the other side does or leaves undone.
    """

    def __init__(self, url: str, tls: RealFiles) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url!r}: not an http:// or https:// URL of etcd")
        self.url = url.rstrip("/")
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = tls if parts.scheme == "https" else None
        self._http: Optional[http.client.HTTPConnection] = None
        self._timed: Optional[_TimedSocket] = None

    def close(self) -> None:
        """End the connection; the next call makes a new one."""
        if self._http is not None:
            self._http.close()
        self._http = None

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(
        self, method: str, path: str, body: Optional[bytes], timeout: float, repeat: bool = True
    ) -> Reply:
        """Send one request and read the whole answer within `timeout` seconds.

        repeat: the request may be sent again where a kept-alive connection turns out to be closed;
        without it a new connection is used, so that what happened is never ambiguous. Raises
        EtcdError: UNREACHABLE, TIMEOUT or TLS.
        """
        deadline = time.monotonic() + timeout
        if not repeat:
            self.close()
        is_reused = self._http is not None and self._http.sock is not None
        try:
            return self._exchange(method, path, body, deadline, timeout)
        except (http.client.RemoteDisconnected, ConnectionError) as error:
            self.close()
            if not is_reused:
                raise self._cut_off(error) from None
        return self.call(method, path, body, deadline - time.monotonic(), repeat=False)

    def _exchange(
        self, method: str, path: str, body: Optional[bytes], deadline: float, timeout: float
    ) -> Reply:
        client = self._connected(deadline, timeout)
        try:
            headers = {"Grpc-Timeout": f"{max(1, int(_left(deadline) * 1000))}m"}
            client.request(method, path, body, headers)
            response = client.getresponse()
            data = response.read(_MAX_BODY + 1)
        except _TIMEOUTS:
            self.close()
            raise self._timeout(timeout, "answer", sent=True) from None
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            raise ConnectionResetError("the other side closed the connection") from None
        except ssl.SSLError as error:
            # TLS 1.3 tells of a refused client certificate only with the first read.
            self.close()
            raise self._tls_error(error) from None
        except http.client.RemoteDisconnected:
            raise
        except (http.client.HTTPException, ValueError) as error:
            self.close()
            raise EtcdError(
                f"{self.url}: the answer is not HTTP: {error!r}", Condition.UNREACHABLE
            ) from None
        if len(data) > _MAX_BODY:
            self.close()
            raise EtcdError(f"{self.url}{path}: answer above {_MAX_BODY} bytes", Condition.OTHER)
        return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, data)

    def _connected(self, deadline: float, timeout: float) -> http.client.HTTPConnection:
        if self._http is not None and self._timed is not None and self._http.sock is not None:
            self._timed.deadline = deadline
            return self._http
        try:
            raw = connect(self._host, self._port, deadline)
        except _TIMEOUTS:
            raise self._timeout(timeout, "accept the connection", sent=False) from None
        except OSError as error:
            raise self._unreachable(error, sent=False) from None
        self._timed = _TimedSocket(self._secured(raw, deadline, timeout), deadline)
        self._http = http.client.HTTPConnection(self._host, self._port)
        self._http.sock = self._timed
        return self._http

    def _secured(self, raw: socket.socket, deadline: float, timeout: float) -> socket.socket:
        if self._tls is None:
            return raw
        try:
            raw.settimeout(_left(deadline))
            return tls_context(self._tls).wrap_socket(raw, server_hostname=self._host)
        except _TIMEOUTS:
            error: EtcdError = self._timeout(timeout, "finish the TLS handshake", sent=False)
        except ssl.SSLError as failure:
            error = self._tls_error(failure)
        except OSError as failure:
            error = self._unreachable(failure, sent=False)
        except EtcdError as failure:
            error = failure
        raw.close()
        raise error from None

    def _timeout(self, timeout: float, what: str, sent: bool) -> EtcdError:
        seen = f"{self.url} did not {what} within {timeout:.3g} s"
        return EtcdError(seen, Condition.TIMEOUT, sent=sent)

    def _unreachable(self, error: Exception, sent: bool) -> EtcdError:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return EtcdError(f"{self.url}: {reason}", Condition.UNREACHABLE, sent=sent)

    def _cut_off(self, error: Exception) -> EtcdError:
        """A new connection that ended without an answer.

        With TLS 1.3 a client certificate is refused after the handshake; when the request is on its
        way by then, the reset overtakes the alert that would have said so.
        """
        if self._tls is None or isinstance(error, http.client.RemoteDisconnected):
            return self._unreachable(error, sent=True)
        return EtcdError(
            f"{self.url} ended the connection right after the TLS handshake: it does not trust the"
            " client certificate, or it was stopping",
            Condition.TLS,
        )

    def _tls_error(self, error: ssl.SSLError) -> EtcdError:
        if isinstance(error, ssl.SSLCertVerificationError):
            said = f"the server's certificate does not verify: {error.verify_message}"
        else:
            said = f"TLS failed: {(error.reason or str(error)).replace('_', ' ').lower()}"
        return EtcdError(f"{self.url}: {said}", Condition.TLS, sent=False)


def failure(url: str, reply: Reply) -> EtcdError:
    """The error that an answer other than 200 stands for; gRPC code and message kept."""
    code, message = 0, reply.body[:500].decode(errors="replace").strip()
    try:
        said = reply.json()
        code = int(said.get("code", 0))
        message = str(said.get("message") or said.get("error") or message)
    except (ValueError, AttributeError, TypeError):
        pass
    if reply.status == 404 and not message.startswith("etcdserver:"):
        condition = Condition.UNSUPPORTED
    else:
        condition = condition_of(code, message)
    return EtcdError(f"{url}: {message or f'HTTP {reply.status}'}", condition, code, message)


class _TimedSocket:
    """What http.client uses of a socket, every operation ending at `deadline` (time.monotonic)."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock, self.deadline = sock, deadline

    def sendall(self, data: bytes) -> None:
        self.sock.settimeout(_left(self.deadline))
        self.sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self))

    def close(self) -> None:
        self.sock.close()


class _TimedReader(io.RawIOBase):
    """Reads of a _TimedSocket; closing it leaves the connection open for the next call."""

    def __init__(self, timed: _TimedSocket) -> None:
        super().__init__()
        self._timed = timed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._timed.sock.settimeout(_left(self._timed.deadline))
        return self._timed.sock.recv_into(buffer)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def connect(host: str, port: int, deadline: float) -> socket.socket:
    """A TCP connection to the first address that takes it before `deadline` (time.monotonic).

    Raises OSError, or TimeoutError (before Python 3.10 socket.timeout).
    """
    last: OSError = OSError(f"no address for {host}")
    for family, kind, protocol, _, address in _resolve(host, port, deadline):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(_left(deadline))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except OSError as error:
            sock.close()
            last = error
    raise last


def _resolve(host: str, port: int, deadline: float) -> list[Any]:
    """Addresses of `host`. A name server that is down must not hold us longer than the deadline."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except ValueError:
        pass
    found: list[Any] = []

    def look_up() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(_left(deadline))
    if not found:
        raise OSError(f"the name {host} was not resolved in time")
    if isinstance(found[0], OSError):
        raise OSError(f"the name {host} cannot be resolved: {found[0].strerror}")
    return list(found[0])
