"""What an etcd that runs says of itself, and what can be seen of another host's from here."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Optional
from urllib.parse import urlsplit

from agent.errors import RescueError
from agent.etcd.client import Condition, EtcdClient, EtcdError, Status, peer_members
from agent.etcd.transport import RealFiles, real_files
from agent.host import Host
from agent.model.facts import EtcdConfig, Member, OnlineFacts, Sighting
from agent.platforms import detect
from agent.survey.watched import find_parked, read_config, read_watched

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}  # noqa: S104 - read, not bound
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_READ_SHARE = 0.56  # of the whole time: a read through the quorum, and the status beside it


@dataclass
class _Heard:
    """What the threads of one reading have learned so far; read by whoever gives up waiting."""

    endpoint: str = ""
    status: Optional[Status] = None
    members: tuple[Member, ...] = ()
    cluster_id: str = ""
    linearizable: bool = False
    errors: dict[str, str] = field(default_factory=dict)


def local_endpoints(config: EtcdConfig) -> tuple[str, ...]:
    """URLs at which this host's etcd serves its API with HTTP, loopback first.

    With --listen-client-http-urls (3.4.28, 3.5.10, 3.6) the other client URLs speak only gRPC. A
    wildcard is asked through loopback, then by the address that it advertises: a certificate may
    not carry 127.0.0.1.
    """
    given = config.flags.get("listen-client-http-urls", "").split(",")
    listens = [url.strip() for url in given if url.strip()] or list(config.listen_client_urls)
    found: list[str] = []
    for url in listens:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            continue
        port = parts.port or 2379
        host = _WILDCARDS.get(parts.hostname or "", parts.hostname or "")
        found.append(_url(parts.scheme, host, port))
        if (parts.hostname or "") in _WILDCARDS:
            names = [urlsplit(u).hostname for u in config.advertise_client_urls]
            found += [_url(parts.scheme, name, port) for name in names if name]
    return tuple(sorted(dict.fromkeys(found), key=_nearness))


def _nearness(url: str) -> int:
    host = _host(url)
    return _LOOPBACK.index(host) if host in _LOOPBACK else len(_LOOPBACK)


def local_endpoint(config: EtcdConfig) -> str:
    """The first of local_endpoints. Raises EtcdError where etcd has no URL that can be asked."""
    endpoints = local_endpoints(config)
    if not endpoints:
        raise EtcdError(
            f"{config.definition}: no http(s) URL among its client URLs "
            f"({', '.join(config.listen_client_urls) or 'none'})",
            Condition.UNREACHABLE,
            sent=False,
        )
    return endpoints[0]


def read_online(host: Host, config: EtcdConfig, timeout: float = 0.8) -> OnlineFacts:
    """Ask the local member for its status, its members, and for a read through the quorum.

    Takes at most `timeout` seconds and never raises: `error` says which part failed and how. A
    member without quorum answers all but that read. One that was restarted since the loss answers
    no client at all; then the membership comes from its peer port, with `answers` False.
    """
    try:
        local_endpoint(config)
    except EtcdError as error:
        return OnlineFacts("", False, error=error.seen)
    endpoints, tls = local_endpoints(config), real_files(host, config.client_tls)
    heard = _Heard(endpoint=endpoints[0])
    deadline = time.monotonic() + timeout
    share = timeout * _READ_SHARE
    threads = [
        _start(lambda: _ask_quorum(heard, endpoints, tls, share)),
        _start(lambda: _ask_member(heard, host, config, endpoints, tls, deadline, share)),
    ]
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return _facts(heard, config, timeout)


def _start(target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def _first_that_connects(
    endpoints: Sequence[str], tls: RealFiles, seconds: float, ask: Callable[[EtcdClient], None]
) -> str:
    """Ask at each endpoint in turn while none can be connected to; returns why none could."""
    deadline = time.monotonic() + seconds
    said: list[str] = []
    for endpoint in endpoints:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        try:
            with EtcdClient(endpoint, tls, left) as client:
                ask(client)
                return ""
        except EtcdError as error:
            said.append("; ".join(filter(None, (error.seen, error.why, error.next))))
            if error.condition not in (Condition.TLS, Condition.UNREACHABLE):
                break
    return "; ".join(dict.fromkeys(said))


def _ask_quorum(heard: _Heard, endpoints: Sequence[str], tls: RealFiles, seconds: float) -> None:
    def ask(client: EtcdClient) -> None:
        heard.linearizable = client.linearizable_read()
        if not heard.linearizable:
            heard.errors["quorum"] = f"no read through the quorum within {seconds:.2g} s"

    why = _first_that_connects(endpoints, tls, seconds, ask)
    if why:
        heard.errors["quorum"] = f"read through the quorum: {why}"


def _ask_member(
    heard: _Heard,
    host: Host,
    config: EtcdConfig,
    endpoints: Sequence[str],
    tls: RealFiles,
    deadline: float,
    seconds: float,
) -> None:
    def ask(client: EtcdClient) -> None:
        heard.endpoint = client.endpoint
        heard.status = client.status()

    why = _first_that_connects(endpoints, tls, seconds, ask)
    if why:
        heard.errors["status"] = f"status: {why}"
        _ask_peer_port(heard, host, config, deadline)
        return
    try:
        with EtcdClient(heard.endpoint, tls, max(0.05, deadline - time.monotonic())) as client:
            heard.members = client.members(linearizable=False)
    except EtcdError as error:
        # A learner serves no member list; its peer port does.
        heard.errors["members"] = f"member list: {error.seen}"
        _ask_peer_port(heard, host, config, deadline)


def _ask_peer_port(heard: _Heard, host: Host, config: EtcdConfig, deadline: float) -> None:
    tls = real_files(host, config.peer_tls)
    for url in local_peer_urls(config):
        left = deadline - time.monotonic() - 0.02
        if left <= 0:
            heard.errors.setdefault("peer", "peer port: no time left to ask it")
            return
        try:
            view = peer_members(url, tls, left)
        except EtcdError as error:
            heard.errors["peer"] = f"peer port: {error.seen}"
            continue
        heard.members, heard.cluster_id = view.members, view.cluster_id
        heard.errors.pop("peer", None)
        heard.errors.pop("members", None)
        return


def local_peer_urls(config: EtcdConfig) -> tuple[str, ...]:
    """The peer port's URLs as this host reaches it; a certificate names the advertised ones."""
    bound = replace(config, listen_client_urls=config.listen_peer_urls, flags={})
    return local_endpoints(replace(bound, advertise_client_urls=config.advertise_peer_urls))


def _facts(heard: _Heard, config: EtcdConfig, timeout: float) -> OnlineFacts:
    status = heard.status
    errors = dict(heard.errors)
    if status is None:
        errors.setdefault("status", f"status: no answer within {timeout:.2g} s")
        if errors.get("quorum", "").partition(": ")[2] == errors["status"].partition(": ")[2]:
            del errors["quorum"]  # the same failure twice says nothing more
        return OnlineFacts(
            endpoint=heard.endpoint,
            answers=False,
            linearizable=heard.linearizable,
            cluster_id=heard.cluster_id,
            members=heard.members,
            error="; ".join(errors.values()),
        )
    if not heard.linearizable:
        errors.setdefault("quorum", f"no read through the quorum within {timeout:.2g} s")
    return OnlineFacts(
        endpoint=heard.endpoint,
        answers=True,
        linearizable=heard.linearizable,
        version=status.version,
        cluster_id=status.cluster_id,
        member_id=status.member_id,
        leader_id=status.leader_id,
        raft_term=status.raft_term,
        raft_index=status.raft_index,
        applied_index=status.applied_index,
        revision=status.revision,
        db_size=status.db_size,
        db_size_in_use=status.db_size_in_use,
        is_learner=status.is_learner,
        members=heard.members,
        alarms=status.alarms,
        error="; ".join([*errors.values(), *status.errors]),
    )


def probe(
    urls: Sequence[str], tls: RealFiles, seen_from: str = "", timeout: float = 0.8
) -> Sighting:
    """What the client or peer ports of another member answer, all asked at once. Never raises.

    urls: of one host; tls: paths to open from here. A port counts as open when TCP connects, also
    where nobody answers behind it. linearizable: one of them served a read through the quorum.
    """
    opened: set[int] = set()
    served: set[int] = set()

    def look(url: str) -> None:
        parts = urlsplit(url)
        port = parts.port or 2379
        began = time.monotonic()
        if not _is_open(parts.hostname or "", port, timeout):
            return
        opened.add(port)
        left = timeout - (time.monotonic() - began)
        try:
            with EtcdClient(url, tls, max(0.05, left)) as client:
                if client.linearizable_read():
                    served.add(port)
        except RescueError:
            return  # a peer port, another service, or no certificate for it: open all the same

    deadline = time.monotonic() + timeout
    for thread in [_start(lambda url=url: look(url)) for url in urls]:  # type: ignore[misc]
        thread.join(max(0.0, deadline - time.monotonic()))
    ports = {urlsplit(url).port or 2379 for url in urls}
    return Sighting(
        seen_from=seen_from,
        address=_host(urls[0]) if urls else "",
        open_ports=tuple(sorted(opened)),
        closed_ports=tuple(sorted(ports - opened)),
        linearizable=bool(served),
    )


def sight(host: Host, address: str, ports: Sequence[int], timeout: float = 1.0) -> Sighting:
    """What of another host's etcd can be seen from this one, with this one's certificates."""
    tls, scheme = _own_files(host)
    urls = [_url(scheme, address, port) for port in ports]
    found = probe(urls, tls, host.hostname(), timeout)
    return replace(found, address=address)


def _own_files(host: Host) -> tuple[RealFiles, str]:
    """(client certificates, scheme) of this host's own etcd, its definition in place or parked."""
    try:
        platform = detect(host)
        config, _, _ = read_watched(host, platform)
        parked = find_parked(host)
        if config is None and parked:
            config = read_config(host, platform, parked[-1].path)
    except (RescueError, OSError):
        config = None
    if config is None:
        return RealFiles(), "https"
    scheme = "https" if config.server_tls.cert else "http"
    return real_files(host, config.client_tls), scheme


def _is_open(host: str, port: int, timeout: float) -> bool:
    try:
        socket.create_connection((host, port), timeout).close()
    except OSError:
        return False
    return True


def _url(scheme: str, host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"{scheme}://{shown}:{port}"


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""
