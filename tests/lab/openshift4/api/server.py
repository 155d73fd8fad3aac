"""The API server: TLS with client certificates, Kubernetes' paths, and faults on demand."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from .answers import Failure, discovery, fault, list_of, openapi, table_of
from .faults import Asked, Faults
from .kinds import Kind, Object, find
from .objects import Objects, merge
from .store import Entry, Store, StoreDown

_HANG_SECONDS = 60
_LONGEST_WATCH = 300.0
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_PROTOBUF = "application/octet-stream"


class _Path:
    """A request's path and query, taken apart."""

    def __init__(self, target: str) -> None:
        split = urlsplit(target)
        self.path = split.path
        self.query = {k: v[0] for k, v in parse_qs(split.query).items()}
        parts = [unquote(p) for p in split.path.strip("/").split("/")]
        self.group, self.version, rest = "", "", []
        if parts[0] == "api":
            self.version, rest = parts[1] if len(parts) > 1 else "", parts[2:]
        elif parts[0] == "apis" and len(parts) > 2:
            self.group, self.version, rest = parts[1], parts[2], parts[3:]
        self.namespace = ""
        if len(rest) > 2 and rest[0] == "namespaces":
            self.namespace, rest = rest[1], rest[2:]
        self.plural = rest[0] if rest else ""
        self.name = rest[1] if len(rest) > 1 else ""
        self.subresource = rest[2] if len(rest) > 2 else ""

    @property
    def is_watch(self) -> bool:
        return self.query.get("watch") in ("1", "true")


class ApiServer(ThreadingHTTPServer):
    """Serves objects of a store on one address until it is told to stop."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, address: tuple[str, int], tls: ssl.SSLContext, store: Store, faults: Faults
    ) -> None:
        super().__init__(address, _Handler)
        self.tls, self.objects, self.faults = tls, Objects(store), faults

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"https://127.0.0.1:{self.server_address[1]}"

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Nothing serves here for a while, where a fault says so."""
        if self.faults.meet(Asked("connect", "", "")) != "gone":
            return True
        _reset(request)
        return False

    def start(self) -> ApiServer:
        """Serve in the background."""
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nothing to tell of."""


def _reset(connection: socket.socket) -> None:
    """Close with RST instead of FIN: SO_LINGER with no time."""
    linger = struct.pack("ii", 1, 0)
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ApiServer
    connection: ssl.SSLSocket

    def setup(self) -> None:
        self.request.settimeout(10)
        self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        self.request.settimeout(_LONGEST_WATCH)
        super().setup()
        subject = dict(pair[0] for pair in (self.request.getpeercert() or {}).get("subject", ()))
        self.user = str(subject.get("commonName", "system:anonymous"))

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline(20).partition(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline(4)
        self.rfile.readline(4)
        return b"".join(pieces)

    def _handle(self) -> None:
        body = self._body()
        try:
            self._route(_Path(self.path), body)
        except Failure as failure:
            self._send(failure.status(), failure.code, failure.retry_after)
        except StoreDown as error:
            down = Failure(500, "InternalError", f"Internal error occurred: {error}")
            self._send(down.status(), down.code)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815

    def _route(self, path: _Path, body: bytes) -> None:
        if path.path in ("/healthz", "/readyz", "/livez"):
            self.server.objects.store.get("/kubernetes.io/health")
            self._send_bytes(b"ok", "text/plain")
        elif path.path == "/openapi/v2":
            self._send_bytes(openapi(), _PROTOBUF)
        elif path.plural == "selfsubjectaccessreviews":
            self._review(json.loads(body))
        elif path.plural:
            self._resource(path, body)
        else:
            found = discovery(path.path)
            if found is None:
                told = "the server could not find the requested resource"
                raise Failure(404, "NotFound", told)
            self._send(found)

    def _review(self, asked: Object) -> None:
        wanted = asked["spec"].get("resourceAttributes") or {}
        rule = Asked(wanted.get("verb", ""), wanted.get("resource", ""), wanted.get("name", ""))
        allowed = not self.server.faults.denies(rule)
        self._send({**asked, "status": {"allowed": allowed}}, 201)

    def _resource(self, path: _Path, body: bytes) -> None:
        kind = find(path.group, path.version, path.plural)
        if kind is None:
            raise Failure(404, "NotFound", "the server could not find the requested resource")
        verb = _VERBS.get(self.command) or ("get" if path.name else "list")
        verb = "watch" if path.is_watch else verb
        met = self.server.faults.meet(Asked(verb, path.plural, path.name))
        if met in ("reset", "hang", "gone"):
            self._break(met)
            return
        if met and met != "done-then-reset":
            raise fault(met, self.user, verb, path.plural, path.group, path.name)
        if verb in ("list", "watch"):
            self._read(kind, path)
            return
        answer, code = self._change(kind, path, verb, body)
        if met:
            self._break("gone")
            return
        self._send(self._form(kind, [answer], 0) if self._wants_table() else answer, code)

    def _break(self, how: str) -> None:
        """Half an answer and a reset; or nothing for long."""
        if how == "hang":
            time.sleep(_HANG_SECONDS)
        if how == "reset":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                             b'Content-Length: 4096\r\n\r\n{"kind":')  # fmt: skip
            self.wfile.flush()
        _reset(self.connection)
        self.close_connection = True

    def _change(self, kind: Kind, path: _Path, verb: str, body: bytes) -> tuple[Object, int]:
        objects, name, space = self.server.objects, path.name, path.namespace
        if body[:4] == b"k8s\0":
            raise Failure(415, "UnsupportedMediaType", "protobuf is not known here")
        given = json.loads(body) if body else {}
        if path.query.get("dryRun"):
            raise Failure(400, "BadRequest", "dry run is not known here")
        if verb == "create":
            return objects.create(kind, space, given), 201
        if verb == "get":
            return objects.show(objects.read(kind, space, name)), 200
        if verb == "delete":
            return objects.delete(kind, space, name, given), 200
        is_status = path.subresource == "status"
        if verb == "update":
            return objects.update(kind, space, name, lambda _old: given, status=is_status), 200
        form = (self.headers.get("Content-Type") or "").partition(";")[0]
        if "json-patch" in form:
            raise Failure(415, "UnsupportedMediaType", f"{form} is not known here")
        if "apply-patch" in form and objects.store.get(kind.prefix(space) + name) is None:
            return objects.create(kind, space, given), 201
        change = lambda old: merge(old, given)  # noqa: E731
        return objects.update(kind, space, name, change, status=is_status), 200

    # ---- reading ---------------------------------------------------------------------------------

    def _wants_table(self) -> bool:
        return "as=Table" in (self.headers.get("Accept") or "")

    def _form(self, kind: Kind, items: list[Object], revision: int) -> Object:
        return (table_of if self._wants_table() else list_of)(kind, items, revision)

    def _read(self, kind: Kind, path: _Path) -> None:
        objects = self.server.objects
        prefix = kind.prefix(path.namespace)
        if path.is_watch:
            self._watch(kind, path, prefix)
            return
        entries, revision = objects.store.list(prefix)
        items = [objects.show(entry) for entry in entries]
        chosen = [item for item in items if _chosen(item, path.query)]
        self._send(self._form(kind, chosen, revision))

    def _watch(self, kind: Kind, path: _Path, prefix: str) -> None:
        """Events as lines, chunked, until the client's time is over."""
        store, objects = self.server.objects.store, self.server.objects
        since = path.query.get("resourceVersion", "")
        entries, revision = store.list(prefix)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        known = {e.key: objects.show(e) for e in entries}
        if since in ("", "0"):
            for item in known.values():
                self._event(kind, path, "ADDED", item)
        start = revision if since in ("", "0") else int(since)
        left = float(path.query.get("timeoutSeconds", _LONGEST_WATCH))
        for entry in store.watch(prefix, start, time.monotonic() + left):
            self._tell(kind, path, entry, known)
        self.wfile.write(b"0\r\n\r\n")

    def _tell(self, kind: Kind, path: _Path, entry: Entry, known: dict[str, Object]) -> None:
        if entry.object is None:
            old = known.pop(entry.key, None)
            if old is not None:
                meta = {**old["metadata"], "resourceVersion": str(entry.revision)}
                self._event(kind, path, "DELETED", {**old, "metadata": meta})
            return
        name = "MODIFIED" if entry.key in known else "ADDED"
        known[entry.key] = self.server.objects.show(entry)
        self._event(kind, path, name, known[entry.key])

    def _event(self, kind: Kind, path: _Path, name: str, item: Object) -> None:
        if not _chosen(item, path.query):
            return
        shown = table_of(kind, [item], 0) if self._wants_table() else item
        line = json.dumps({"type": name, "object": shown}).encode() + b"\n"
        self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        self.wfile.flush()

    # ---- answering -------------------------------------------------------------------------------

    def _send(self, value: Object, code: int = 200, retry_after: int = 0) -> None:
        self._send_bytes(json.dumps(value).encode() + b"\n", "application/json", code, retry_after)

    def _send_bytes(self, data: bytes, form: str, code: int = 200, retry_after: int = 0) -> None:
        self.send_response(code)
        self.send_header("Content-Type", form)
        self.send_header("Content-Length", str(len(data)))
        if retry_after:
            self.send_header("Retry-After", str(retry_after))
        self.end_headers()
        self.wfile.write(data)


def _chosen(item: Object, query: dict[str, str]) -> bool:
    """Whether label and field selectors (equality only) take an object."""
    labels = item["metadata"].get("labels") or {}
    fields = {"metadata.name": item["metadata"]["name"],
              "metadata.namespace": item["metadata"].get("namespace", "")}  # fmt: skip
    for text, values in (
        (query.get("labelSelector"), labels),
        (query.get("fieldSelector"), fields),
    ):
        for part in filter(None, (text or "").split(",")):
            key, is_equal, wanted = part.replace("==", "=").partition("=")
            if (is_equal and values.get(key) != wanted) or (not is_equal and key not in values):
                return False
    return True
