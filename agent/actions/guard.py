"""Guard the survivor's peer port while its etcd is not up: answer old members as it will.

Between the last look at the other members and the moment the survivor's etcd listens, old members
that come back together could elect a leader and accept writes. A running survivor ends them: it
answers `410 Gone`, and etcd stops ("the member has been permanently removed from the cluster";
etcd server/etcdserver/api/rafthttp/stream.go, dial). The guard gives the same answer in its place.

Connections that come in for the peer port are redirected (nftables) to a listener of ours, so the
port itself stays free for etcd. The redirection expires by itself, should the agent be killed.
"""

from __future__ import annotations

import http.server
import socket
import ssl
import threading
from dataclasses import dataclass
from typing import Optional

from agent.actions.base import Action, Context, Data, NoArgs
from agent.actions.definitions import current_config
from agent.errors import CommandFailed, RescueError
from agent.etcd.transport import real_files
from agent.host import Host
from agent.model.facts import EtcdConfig
from agent.survey.processes import url_port

_TABLE = "etcd_rescue_guard"
_FAMILIES = ("ip", "ip6")
_NEWER_THAN_ALL = "3.99.0"
_EXPIRES = "300s"
"""Longer than any wait for a start of etcd; after it the rule matches nothing."""


@dataclass
class _Guard:
    """The listener that is up in this process."""

    server: http.server.ThreadingHTTPServer
    asked: list[str]


_up: list[_Guard] = []
"""The one guard of this agent process, or nothing; it cannot outlive the process."""


class _DualStackServer(http.server.ThreadingHTTPServer):
    """Listens on a free port for IPv4 and IPv6; the TLS handshake is done in each one's thread."""

    address_family = socket.AF_INET6
    daemon_threads = True

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a peer that breaks off or speaks no TLS is no concern of ours."""


def _handler(asked: list[str]) -> type[http.server.BaseHTTPRequestHandler]:
    class Gone(http.server.BaseHTTPRequestHandler):
        """Answers every request like an etcd that knows the asker as removed."""

        timeout = 5

        def _gone(self) -> None:
            asked.append(str(self.client_address[0]))
            self.send_response(410)
            # A peer that takes us for an older etcd than itself does not read the status.
            self.send_header("X-Server-Version", _NEWER_THAN_ALL)
            self.send_header("X-Min-Cluster-Version", "3.0.0")
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            self.end_headers()

        do_GET = do_POST = _gone  # noqa: N815 - names that http.server calls

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent: stderr is for diagnostics of the agent."""

    return Gone


def _listen(host: Host, config: EtcdConfig) -> _Guard:
    asked: list[str] = []
    server = _DualStackServer(("::", 0), _handler(asked))
    if config.peer_tls.cert:
        files = real_files(host, config.peer_tls)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.cert, files.key)
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return _Guard(server, asked)


def _redirect(host: Host, ports: set[int], to: int) -> None:
    """Lead the peer ports to ours. Raises CommandFailed where nftables cannot do it for IPv4."""
    elements = ", ".join(str(port) for port in sorted(ports))
    for family in _FAMILIES:
        place = f"{family} {_TABLE}"
        commands = (
            f"add table {place}",
            f"add set {place} ports {{ type inet_service; flags timeout; timeout {_EXPIRES}; }}",
            f"add element {place} ports {{ {elements} }}",
            f"add chain {place} in {{ type nat hook prerouting priority -100; }}",
            f"add rule {place} in tcp dport @ports redirect to :{to}",
        )
        try:
            host.run(["nft", "; ".join(commands)], timeout=5)
        except CommandFailed:
            if family == _FAMILIES[0]:
                raise


def is_up() -> bool:
    """Say whether this process guards."""
    return bool(_up)


def lower(host: Host) -> list[str]:
    """Take the guard away; the addresses that it turned away. Safe where there is none."""
    if host.which("nft"):
        for family in _FAMILIES:
            host.run(["nft", "delete", "table", family, _TABLE], timeout=5, ok=(0, 1))
    asked: list[str] = []
    while _up:
        guard = _up.pop()
        guard.server.shutdown()
        guard.server.server_close()
        asked += guard.asked
    return sorted(set(asked))


class GuardPeers(Action[NoArgs]):
    """Answer old members `410 Gone` on the peer port until etcd does it itself."""

    name = "guard_peers"
    args_type = NoArgs

    def is_done(self, ctx: Context, args: NoArgs, undo: Optional[Data]) -> bool:
        return False  # a guard of an earlier process is gone with it

    def act(self, ctx: Context, args: NoArgs, undo: Data) -> Data:
        lower(ctx.host)
        config = current_config(ctx)
        ports = {url_port(url) for url in config.listen_peer_urls or config.advertise_peer_urls}
        if ports & ctx.host.listening_ports():
            return {"left": "etcd listens on its peer port and answers for itself"}
        try:
            guard = _listen(ctx.host, config)
            _up.append(guard)
            _redirect(ctx.host, ports, guard.server.server_address[1])
        except (RescueError, OSError) as error:
            lower(ctx.host)  # it narrows a window of seconds; the rescue does not hang on it
            seen = error.seen if isinstance(error, RescueError) else str(error)
            return {"left": f"no guard on the peer port: {seen}"}
        return {"ports": sorted(ports)}

    def undo(self, ctx: Context, args: NoArgs, undo: Data) -> None:
        """One whose agent was killed would keep the peers from the old etcd for minutes."""
        lower(ctx.host)


class UnguardPeers(Action[NoArgs]):
    """Let etcd answer for itself again."""

    name = "unguard_peers"
    args_type = NoArgs

    def is_done(self, ctx: Context, args: NoArgs, undo: Optional[Data]) -> bool:
        return False  # taking away what is not there costs milliseconds

    def act(self, ctx: Context, args: NoArgs, undo: Data) -> Data:
        return {"turned_away": lower(ctx.host)}
