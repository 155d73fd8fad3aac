"""SSH: Fabric's connection for sessions, the system's ssh for large files where it works.

paramiko alone manages a half to nine tenths of what ssh does. So the host's key is verified by
paramiko, as for every connection; then ssh is started with that one key as all it knows, and
without a terminal to ask at. What it runs on the host is the one command that also starts agents.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from coordinator.connection import Access, Link, connect, resolve
from coordinator.hosts import HostSpec
from coordinator.sshconfig import SshOptions
from coordinator.streams import BulkStream, ProcessStream, SshStream
from coordinator.transports.line import CommandLine

_ALIAS = "etcd-rescue-host"


class SshLine:
    """One SSH connection, opened and its host key verified at once; see Line."""

    words: tuple[str, ...] = ()
    has_shell = True

    def __init__(self, spec: HostSpec, access: Access) -> None:
        """Raises what `connect` raises."""
        self._spec, self._access = spec, access
        self._link = connect(spec, access)
        self._left = contextlib.ExitStack()
        self._left.callback(self._link.close)

    def start(self, command: CommandLine) -> SshStream:
        """See Line."""
        return self.run(command(self.is_root))

    @property
    def is_root(self) -> bool:
        """Whether the login is root's."""
        return self._link.user == "root"

    def run(self, command: str) -> SshStream:
        """Start a command line in the host's login shell."""
        return SshStream(self._link.session(), command)

    def start_bulk(self, command: CommandLine) -> Iterator[BulkStream]:
        """See Line. The system's ssh cannot be given a password."""
        ssh = None if self._access.password else shutil.which("ssh")
        if ssh:
            words = _ssh_argv(ssh, self._spec, self._access, self._link, self._left)
            yield ProcessStream([*words, command(self.is_root)])
        yield self.start(command)

    def close(self) -> None:
        """See Line."""
        self._left.close()


def _ssh_argv(
    ssh: str, spec: HostSpec, access: Access, link: Link, stack: contextlib.ExitStack
) -> list[str]:
    """Argv of ssh to the host of `link`, with that host's key as the only one it knows."""
    options = resolve(spec, access)
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="etcd-rescue-"))
    known = Path(folder) / "known_hosts"
    key = link.connection.transport.get_remote_server_key()
    known.write_text(f"{_ALIAS} {key.get_name()} {key.get_base64()}\n")
    settings = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(known),
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": _ALIAS,
        "UpdateHostKeys": "no",
        "HostName": options.hostname,
        "Compression": "no",
        "Ciphers": "^aes128-gcm@openssh.com,aes256-gcm@openssh.com",
        "ServerAliveInterval": "5",
        "ServerAliveCountMax": "4",
        "ControlMaster": "no",
        "ControlPath": "none",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "PermitLocalCommand": "no",
        "ClearAllForwardings": "yes",
    }
    words = [ssh, "-T", *(f"-o{name}={value}" for name, value in settings.items())]
    words += ["-F", access.config] if access.config else []
    words += _route(options)
    return [*words, "-l", options.user, "-p", str(options.port), "--", spec.name]


def _route(options: SshOptions) -> list[str]:
    """Jump hosts as resolved; a ProxyCommand is ssh_config's own, and ssh reads it there."""
    if options.jumps:
        return ["-J", ",".join(options.jumps)]
    return [] if options.proxy_command else ["-oProxyJump=none"]
