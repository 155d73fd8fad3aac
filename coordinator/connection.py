"""SSH connections through Fabric, to hosts whose keys are known, and through jump hosts."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import paramiko
from fabric import Config, Connection

from agent.errors import RescueError, Unreachable, UsageError
from coordinator import sshconfig
from coordinator.hostkeys import KnownHosts, Server, lookup_names
from coordinator.hosts import HostSpec, checked_name, checked_user, split_address
from coordinator.sshconfig import SshOptions
from coordinator.transports.pod import Pods

CONNECT_TIMEOUT = 3.0
HANDSHAKE_TIMEOUT = 10.0
AUTH_TIMEOUT = 20.0
"""sshd may look up our name before it answers, with DNS down: 10 s and more are usual then."""

KEEPALIVE = 5
_USER_TIMEOUT_MS = 20_000
_MAX_HOPS = 8
# Far above what a run transfers: paramiko's own re-keying in the middle of a stream breaks it.
# A server still re-keys when its limit says so.
_REKEY_BYTES = 2**40
_REKEY_PACKETS = 2**31

logging.getLogger("paramiko").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Access:
    """What an operator adds to ssh_config. Passwords never reach an argument list or a log.

    config: an ssh_config file to use in place of the usual ones. connect_timeout: seconds for the
    TCP connection; 0: as ssh_config says, else 3. password: of the login on the host itself;
    jump_password: on its jump hosts, which never see the other one. pods: the debug pods of
    this run.
    """

    config: str = ""
    connect_timeout: float = 0.0
    password: str = field(default="", repr=False)
    jump_password: str = field(default="", repr=False)
    sudo_password: str = field(default="", repr=False)
    pods: Pods = field(default_factory=Pods, repr=False, compare=False)


@dataclass
class Link:
    """An open connection and the jump hosts that it goes through."""

    connection: Connection
    user: str
    hops: list[Connection] = field(default_factory=list)

    def session(self) -> Any:
        """A new session channel. Raises Unreachable where the connection is gone."""
        try:
            return self.connection.create_session()
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise Unreachable(f"{self.connection.host}: no session: {error}") from None

    def close(self) -> None:
        """Close it, and then its jump hosts from the nearest to the farthest."""
        for connection in (self.connection, *reversed(self.hops)):
            with contextlib.suppress(Exception):
                connection.close()


def resolve(spec: HostSpec, access: Access) -> SshOptions:
    """What ssh would do for this host, with the spec's own address, user, port and jump first."""
    name, user = checked_name(spec.name), checked_user(spec.user)
    options = sshconfig.lookup(name, access.config, user, spec.port)
    changes: dict[str, Any] = {}
    if spec.address:
        changes["hostname"] = checked_name(spec.address, "address")
    if spec.jump:
        jumps = () if spec.jump == "none" else tuple(spec.jump.split(","))
        changes.update(jumps=jumps, proxy_command="")
    if spec.key:
        key = os.path.expanduser(spec.key)
        if not os.path.isfile(key):
            raise UsageError(f"{spec.name}: the private key {key} is no file")
        changes["identity_files"] = (key, *options.identity_files)
    return SshOptions(**{**options.__dict__, **changes})


def connect(spec: HostSpec, access: Access = Access()) -> Link:
    """Open a connection to a host, its key verified, and that of every jump host.

    Raises Refused for an unknown or changed host key; Unreachable, saying which hop and what it
    was, for a name that does not resolve, no route, a refused or silent port, a failed login.
    """
    hops: list[Connection] = []
    target = resolve(spec, access)
    route = [*_jumps(target, access), target]
    try:
        for number, options in enumerate(route):
            behind = hops[-1] if hops else None
            is_last = number == len(route) - 1
            own = access if is_last else replace(access, password=access.jump_password)
            hops.append(_open(options, behind, own, spec.name if is_last else ""))
    except BaseException:
        for connection in reversed(hops):
            with contextlib.suppress(Exception):
                connection.close()
        raise
    return Link(hops[-1], target.user, hops[:-1])


def _jumps(target: SshOptions, access: Access) -> list[SshOptions]:
    """The jump hosts in order; a first one that itself has a ProxyJump brings those along."""
    hops: list[SshOptions] = []
    todo = list(target.jumps)
    while todo:
        user, host, port = split_address(todo.pop())
        options = sshconfig.lookup(host, access.config, user, port)
        hops.insert(0, options)
        if not todo:
            todo = list(options.jumps)
        if len(hops) > _MAX_HOPS:
            raise UsageError(
                f"{target.name} is behind more than {_MAX_HOPS} jump hosts",
                f"their ProxyJump entries lead in a circle: {', '.join(h.name for h in hops)}",
            )
    return hops


# ---- one hop -------------------------------------------------------------------------------------


def _open(options: SshOptions, behind: Any, access: Access, name: str) -> Connection:
    known = KnownHosts(options.known_hosts)
    server = _server(options, behind, name)
    timeout = access.connect_timeout or options.connect_timeout or CONNECT_TIMEOUT
    with _explained(server, options):
        sock = _dial(options, behind, timeout)
        try:
            return _greet(options, sock, known, server, access)
        except BaseException:
            sock.close()
            raise


def _greet(
    options: SshOptions, sock: Any, known: KnownHosts, server: Server, access: Access
) -> Connection:
    connection = Connection(
        options.hostname,
        user=options.user,
        port=options.port,
        config=Config(ssh_config=paramiko.SSHConfig(), lazy=True),
        gateway=False,
        connect_timeout=int(HANDSHAKE_TIMEOUT),
        connect_kwargs={
            "sock": sock,
            "transport_factory": _transport_factory(known.types(server.names)),
            "banner_timeout": HANDSHAKE_TIMEOUT,
            "auth_timeout": AUTH_TIMEOUT,
            "channel_timeout": HANDSHAKE_TIMEOUT,
            "key_filename": [f for f in options.identity_files if os.path.isfile(f)],
            "allow_agent": not options.identities_only,
            "look_for_keys": False,  # ssh_config's list has the usual names already
            "password": access.password or None,
        },
    )
    connection.client.set_missing_host_key_policy(_Verify(known, server))
    try:
        connection.open()
    except BaseException:
        connection.close()
        raise
    connection.transport.set_keepalive(KEEPALIVE)
    return connection


class _Verify:
    """paramiko asks this for every key, since it is given none itself."""

    def __init__(self, known: KnownHosts, server: Server) -> None:
        self._known, self._server = known, server

    def missing_host_key(self, client: Any, hostname: str, key: paramiko.PKey) -> None:
        """Raise Refused unless the key is known."""
        self._known.check(self._server, key.get_name(), key.asbytes())


def _server(options: SshOptions, behind: Any, name: str) -> Server:
    names = lookup_names(options.hostname, options.port, options.host_key_alias)
    is_direct = not (behind or options.proxy_command or options.host_key_alias)
    if not options.host_key_alias and name and name != options.hostname:
        names += lookup_names(name, options.port)
    shown = options.name + (f" ({options.hostname})" if options.name != options.hostname else "")
    shown += f" port {options.port}" if options.port != 22 else ""
    accept = options.hostname if is_direct else options.name
    return Server(shown, names, options.port, accept, is_direct)


def _transport_factory(known_types: list[str]) -> Any:
    def make(sock: Any, **kwargs: Any) -> paramiko.Transport:
        transport = paramiko.Transport(sock, **kwargs)
        packetizer: Any = transport.packetizer
        packetizer.REKEY_BYTES = packetizer.REKEY_BYTES_OVERFLOW_MAX = _REKEY_BYTES
        packetizer.REKEY_PACKETS = packetizer.REKEY_PACKETS_OVERFLOW_MAX = _REKEY_PACKETS
        security = transport.get_security_options()
        security.key_types = _known_first(list(security.key_types), known_types)
        return transport

    return make


def _known_first(offered: list[str], known: list[str]) -> list[str]:
    """Host key algorithms reordered: one whose key we know is asked for before any other."""
    wanted = {"rsa-sha2-512", "rsa-sha2-256"} if "ssh-rsa" in known else set()
    wanted |= set(known)
    return sorted(offered, key=lambda algorithm: algorithm not in wanted)


# ---- the socket ----------------------------------------------------------------------------------


class _CommandSocket:
    """The socket to a ProxyCommand; closing it ends the command."""

    def __init__(self, command: str) -> None:
        ours, theirs = socket.socketpair()
        self._socket = ours
        with theirs:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],  # as ssh itself does; it is the user's own
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                start_new_session=True,
            )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def close(self) -> None:
        """Close the socket, and end and reap the command."""
        self._socket.close()
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2)


class _Closable(Protocol):
    def close(self) -> None: ...


def _dial(options: SshOptions, behind: Any, timeout: float) -> _Closable:
    if behind is not None:
        target = (options.hostname, options.port)
        channel: _Closable = behind.transport.open_channel(
            "direct-tcpip", target, ("127.0.0.1", 0), timeout=timeout + HANDSHAKE_TIMEOUT
        )
        return channel
    if options.proxy_command:
        return _CommandSocket(options.proxy_command)
    sock = socket.create_connection((options.hostname, options.port), timeout)
    # Small packets go at once, and a host that vanished is noticed while data waits for it.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
    return sock


# ---- errors --------------------------------------------------------------------------------------


@contextlib.contextmanager
def _explained(server: Server, options: SshOptions) -> Iterator[None]:
    """Turn what sockets and paramiko raise into Unreachable with a text of its own each."""
    try:
        yield
    except RescueError:
        raise
    except paramiko.AuthenticationException as error:
        raise _login_failed(server, options, str(error)) from None
    except paramiko.ChannelException as error:
        raise Unreachable(
            f"{server.shown}: the jump host cannot connect to it: {error.text}",
            next=_by_hand(options),
        ) from None
    except (paramiko.SSHException, EOFError) as error:
        raise _ssh_failed(server, options, error) from None
    except OSError as error:
        raise _network_failed(server, options, error) from None


def _by_hand(options: SshOptions) -> str:
    """The ssh command that tries the same, and says every step of it."""
    port = "" if options.port == 22 else f" -p {options.port}"
    jump = f" -J {','.join(options.jumps)}" if options.jumps else ""
    return f"ssh -v{jump}{port} {options.user}@{options.hostname} true"


def _login_failed(server: Server, options: SshOptions, said: str) -> Unreachable:
    return Unreachable(
        f"{server.shown}: login as {options.user} failed: {said.rstrip('.')}",
        "the host answers, and its key is the known one, but it takes none of the keys offered",
        f"ssh-add -l; {_by_hand(options)}",
    )


def _ssh_failed(server: Server, options: SshOptions, error: Exception) -> Unreachable:
    said = str(error) or "it closed the connection"
    if "No authentication methods" in said or "encrypted" in said:
        return _login_failed(server, options, f"no usable key ({said})")
    if said == "No existing session":  # paramiko's words for a greeting that did not end in time
        said = f"no whole greeting within {HANDSHAKE_TIMEOUT:g} s"
    return Unreachable(
        f"{server.shown}: the port is open, but SSH does not come up: {said}",
        "sshd may be hanging, out of processes, or limiting connections; or it is not an sshd",
        _by_hand(options),
    )


_MEANINGS = {
    errno.ECONNREFUSED: ("connection refused", "the host is up, but no sshd listens there"),
    errno.EHOSTUNREACH: ("no route to host", "nothing there answers, or a firewall rejects"),
    errno.ENETUNREACH: ("network unreachable", "this machine has no route to that network"),
    errno.ECONNRESET: ("connection reset", "sshd or a firewall cut the connection"),
}


def _network_failed(server: Server, options: SshOptions, error: OSError) -> Unreachable:
    target = f"{options.hostname} port {options.port}"
    if isinstance(error, socket.gaierror):
        return Unreachable(
            f"{server.shown}: the name {options.hostname} does not resolve: {error.strerror}",
            next=f"getent hosts {options.hostname}; give an address in cluster.yaml or ssh_config",
        )
    if isinstance(error, TimeoutError):
        seen = "no answer in time"
        why = "the host is down, cut off, or a firewall drops silently"
    else:
        seen, why = _MEANINGS.get(error.errno or 0, (error.strerror or str(error), ""))
    return Unreachable(
        f"{server.shown}: {seen} ({target})",
        why,
        _by_hand(options),
    )
