"""What ssh_config says about a host: asked of `ssh -G`, which reads it as ssh itself does."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from functools import lru_cache

from agent.errors import UsageError

_TIMEOUT = 5.0


@dataclass(frozen=True)
class SshOptions:
    """How to reach one host. Empty: ssh_config does not say. connect_timeout: seconds, 0 unset.

    jumps: [user@]host[:port], the first one is connected to first. known_hosts: files in order,
    the user's first.
    """

    name: str
    hostname: str
    port: int
    user: str
    identity_files: tuple[str, ...] = ()
    identities_only: bool = False
    jumps: tuple[str, ...] = ()
    proxy_command: str = ""
    host_key_alias: str = ""
    known_hosts: tuple[str, ...] = ()
    connect_timeout: float = 0.0


def lookup(name: str, config: str = "", user: str = "", port: int = 0) -> SshOptions:
    """The options ssh would use for `name` (already validated). config: another file to read.

    user and port win over the file, as on ssh's command line, and take part in its Match blocks.
    Raises UsageError where the configuration cannot be read.
    """
    rows = _ask_ssh(name, config, user, port, _signature(config))
    one = {key: values[0] for key, values in rows.items()}
    hostname = one.get("hostname", name)
    found_user = user or one.get("user") or getpass.getuser()
    found_port = port or int(one.get("port", 22))
    tokens = _tokens(name, hostname, found_port, found_user)
    files = " ".join([one.get("userknownhostsfile", ""), one.get("globalknownhostsfile", "")])
    jumps = _unless_none(one.get("proxyjump", ""))
    return SshOptions(
        name=name,
        hostname=hostname,
        port=found_port,
        user=found_user,
        identity_files=tuple(_expand(f, tokens) for f in rows.get("identityfile", [])),
        identities_only=one.get("identitiesonly") == "yes",
        jumps=tuple(hop for hop in jumps.split(",") if hop),
        proxy_command=_substitute(_unless_none(one.get("proxycommand", "")), tokens),
        host_key_alias=one.get("hostkeyalias", ""),
        known_hosts=tuple(_expand(f, tokens) for f in files.split() if _unless_none(f)),
        connect_timeout=_seconds(one.get("connecttimeout", "")),
    )


def _signature(config: str) -> tuple[int, int]:
    """Of the file that is read first: what was asked before holds while it stays the same."""
    try:
        info = os.stat(config or os.path.expanduser("~/.ssh/config"))
    except OSError:
        return 0, 0
    return info.st_mtime_ns, info.st_size


@lru_cache(maxsize=1024)
def _ask_ssh(
    name: str, config: str, user: str, port: int, _signature: tuple[int, int]
) -> dict[str, list[str]]:
    """`ssh -G`: one `keyword value` per line, keywords in lower case, repeated ones repeated."""
    ssh = shutil.which("ssh")
    if not ssh:
        return _without_ssh(name, config)
    argv = [ssh, "-G", *(["-F", config] if config else []), *(["-l", user] if user else [])]
    argv += [*(["-p", str(port)] if port else []), "--", name]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=_TIMEOUT,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise UsageError(
            f"`ssh -G {name}` did not end within {_TIMEOUT:g} s",
            "a `Match exec` of your ssh_config probably hangs",
        ) from None
    if done.returncode != 0:
        raise UsageError(f"ssh cannot tell how to reach {name}: {done.stderr.strip()}")
    rows: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        rows.setdefault(key, []).append(value)
    return rows


def _without_ssh(name: str, config: str) -> dict[str, list[str]]:
    """The same through paramiko, for machines without an ssh client (it knows no Include)."""
    from paramiko import ConfigParseError, SSHConfig

    rows: dict[str, list[str]] = {
        "identityfile": [f"~/.ssh/id_{kind}" for kind in ("rsa", "ecdsa", "ed25519")],
        "userknownhostsfile": ["~/.ssh/known_hosts ~/.ssh/known_hosts2"],
        "globalknownhostsfile": ["/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"],
    }
    for file in [config] if config else ["/etc/ssh/ssh_config", "~/.ssh/config"]:
        path = os.path.expanduser(file)
        if not os.path.exists(path) and not config:
            continue
        try:
            found = SSHConfig.from_path(path).lookup(name)
        except (OSError, ConfigParseError) as error:
            raise UsageError(f"{file}: {error}") from None
        for key, value in found.items():
            rows[key] = value if isinstance(value, list) else [value]
    return rows


def _tokens(name: str, hostname: str, port: int, user: str) -> dict[str, str]:
    """The TOKENS of ssh_config(5) that make sense before there is a connection."""
    return {
        "%": "%", "d": os.path.expanduser("~"), "h": hostname, "i": str(os.getuid()),
        "k": name, "L": socket.gethostname().split(".")[0], "l": socket.gethostname(),
        "n": name, "p": str(port), "r": user, "u": getpass.getuser(),
    }  # fmt: skip


def _substitute(text: str, tokens: dict[str, str]) -> str:
    return re.sub("%(.)", lambda match: tokens.get(match[1], match[0]), text)


def _expand(path: str, tokens: dict[str, str]) -> str:
    return os.path.expanduser(_substitute(path, tokens))


def _unless_none(value: str) -> str:
    return "" if value == "none" else value


def _seconds(value: str) -> float:
    return float(value) if value.isdigit() else 0.0
