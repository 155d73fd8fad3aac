"""Names and addresses: which host has which, and who the operator is."""

from __future__ import annotations

MAX_HOSTS = 9
LB_INDEX = 9
"""The load balancer, where a layout has one: a host that is no master."""

BRIDGE = "lab0"
OPERATOR_ADDRESS = "10.77.0.1"
OPERATOR_ADDRESS_V6 = "fd77::1"
PREFIX_LENGTH = 24
PREFIX_LENGTH_V6 = 64
_families = [4]


def use_family(family: int) -> None:
    """Let the hosts of labs that this process makes have IPv4 (4) or IPv6 (6) addresses only."""
    _families[:] = [family]


def family() -> int:
    """4 or 6."""
    return _families[0]


def host_name(index: int) -> str:
    """The name of the index-th control-plane host, which is its etcd member's name too."""
    return "lb" if index == LB_INDEX else f"master-{index}"


def host_address(index: int) -> str:
    """The address of the index-th control-plane host."""
    return f"10.77.0.{10 + index}" if family() == 4 else f"fd77::{10 + index:x}"


def url_host(address: str) -> str:
    """An address as it stands in a URL: an IPv6 one in brackets."""
    return f"[{address}]" if ":" in address else address


def all_hosts() -> dict[str, str]:
    """Every possible host: name -> address."""
    return {host_name(i): host_address(i) for i in (*range(MAX_HOSTS), LB_INDEX)}


def hosts_file() -> str:
    """An /etc/hosts in which every host of the lab has its name."""
    lines = ["127.0.0.1 localhost", "::1 localhost", f"{OPERATOR_ADDRESS} operator"]
    lines += [f"{address} {name}" for name, address in all_hosts().items()]
    return "\n".join(lines) + "\n"
