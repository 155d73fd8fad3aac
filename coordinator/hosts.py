"""One host as the coordinator addresses it, and the names that are allowed for one."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from agent.errors import UsageError

TRANSPORTS = ("ssh", "local", "oc-debug")

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9._@\\-]{0,127}")


@dataclass(frozen=True)
class HostSpec:
    """How to get onto one host. Empty or 0: as ssh_config says, else ssh's default.

    address: what to connect to, where that is not the name. jump: [user@]host[:port],… or "none".
    transport: ssh; local for this machine; oc-debug for a debug pod on the node of that name. key:
    a private key's file, tried before ssh_config's.
    """

    name: str
    address: str = ""
    user: str = ""
    port: int = 0
    jump: str = ""
    transport: str = "ssh"
    key: str = ""


def checked_name(value: object, what: str = "host name") -> str:
    """A name or IP address fit for a command line and a path. Raises UsageError for others."""
    if isinstance(value, str):
        if _NAME.fullmatch(value) and ".." not in value:
            return value
        if ":" in value and is_ip(value):
            return value
    raise UsageError(
        f"{value!r} is not a {what}",
        "letters, digits, dots, dashes and underscores make one, or an IP address",
    )


def checked_user(value: object) -> str:
    """A login name; empty for none. Raises UsageError."""
    if value == "" or (isinstance(value, str) and _USER.fullmatch(value)):
        return str(value)
    raise UsageError(f"{value!r} is not a login name")


def checked_port(value: object) -> int:
    """A TCP port, 0 for none given. Raises UsageError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 65535:
        raise UsageError(f"{value!r} is not a port number")
    return value


def checked_jump(value: object) -> str:
    """[user@]host[:port] separated by commas, "none", or empty. Raises UsageError."""
    if not isinstance(value, str):
        raise UsageError(f"{value!r} is not a jump host", "expected [user@]host[:port],…")
    if value not in ("", "none"):
        for hop in value.split(","):
            split_address(hop)
    return value


def split_address(text: str) -> tuple[str, str, int]:
    """[user@]host[:port] as (user, host, port); "" and 0 where absent; IPv6 with a port in [].

    Raises UsageError.
    """
    rest, user, port = text, "", 0
    if "@" in rest:
        user, _, rest = rest.rpartition("@")
        if not checked_user(user):
            raise UsageError(f"{text!r} has no login name before its @")
    match = re.fullmatch(r"(?:\[([^\]]*)\]|([^:]*))(?::([0-9]{1,5}))?", rest)
    if match:
        rest = match[1] or match[2] or ""
        port = checked_port(int(match[3])) if match[3] else 0
    return user, checked_name(rest), port


def is_ip(value: str) -> bool:
    """True for an IPv4 or IPv6 address, with or without a scope (%eth0)."""
    try:
        ipaddress.ip_address(value.partition("%")[0])
    except ValueError:
        return False
    return re.fullmatch(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?", value) is not None


def canonical(address: str) -> str:
    """An address as it is written when compared: IPv6 has many spellings, names have two cases."""
    plain, percent, scope = address.partition("%")
    try:
        return ipaddress.ip_address(plain).compressed + percent + scope
    except ValueError:
        return address.lower()
