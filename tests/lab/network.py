"""The lab's network: a bridge, one namespace and cable per host, and faults on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.lab.commands import run
from tests.lab.names import (
    BRIDGE,
    OPERATOR_ADDRESS,
    OPERATOR_ADDRESS_V6,
    PREFIX_LENGTH,
    PREFIX_LENGTH_V6,
)

_TABLE = "inet lab"


def namespace_path(host: str) -> Path:
    """The file that holds a host's network namespace; it outlives power cuts."""
    return Path("/run/netns") / host


def create_bridge() -> None:
    """The switch that all hosts and the operator are plugged into."""
    _ip_batch(
        f"link add {BRIDGE} type bridge",
        f"addr add {OPERATOR_ADDRESS}/{PREFIX_LENGTH} dev {BRIDGE}",
        f"addr add {OPERATOR_ADDRESS_V6}/{PREFIX_LENGTH_V6} dev {BRIDGE} nodad",
        f"link set {BRIDGE} up",
    )


def plug_in(host: str, address: str) -> None:
    """Give a host its network namespace, and a cable from it to the bridge."""
    run(["ip", "netns", "add", host])
    _ip_batch(f"link add {host} type veth peer name eth0 netns {host}")
    _ip_batch(f"link set {host} master {BRIDGE}", f"link set {host} up")
    is_v6 = ":" in address
    length = PREFIX_LENGTH_V6 if is_v6 else PREFIX_LENGTH
    _ip_batch(
        "link set lo up",
        f"addr add {address}/{length} dev eth0{' nodad' if is_v6 else ''}",
        "link set eth0 up",
        f"route add default via {OPERATOR_ADDRESS_V6 if is_v6 else OPERATOR_ADDRESS}",
        namespace=host,
    )


def _ip_batch(*lines: str, namespace: str | None = None) -> None:
    where = ["-n", namespace] if namespace else []
    run(["ip", *where, "-batch", "-"], stdin="".join(f"{line}\n" for line in lines))


def unplug(host: str) -> None:
    """Pull the cable out of the switch."""
    run(["ip", "link", "set", host, "down"])


def drop(host: str, ports: Sequence[int], peers: Sequence[str]) -> None:
    """Drop what crosses the host's cable: to or from these TCP ports, and these peers."""
    conditions = {"input": ("dport", "saddr"), "output": ("sport", "daddr")}
    rules = []
    for chain, (port_key, peer_key) in conditions.items():
        match = f"ip {peer_key} {{ {', '.join(peers)} }} " if peers else ""
        interface = "iifname" if chain == "input" else "oifname"
        head = f'add rule {_TABLE} {chain} {interface} != "lo" {match}'
        rules += [f"{head}tcp {port_key} {{ {', '.join(map(str, ports))} }} drop"] if ports else []
        rules += [] if ports else [f"{head}drop"]
    lines = [
        f"add table {_TABLE}",
        f"add chain {_TABLE} input {{ type filter hook input priority 0; }}",
        f"add chain {_TABLE} output {{ type filter hook output priority 0; }}",
        *rules,
    ]
    _nft(host, lines)


def heal(host: str) -> None:
    """Plug the cable in again and forget every rule."""
    run(["ip", "link", "set", host, "up"])
    _nft(host, [f"add table {_TABLE}", f"delete table {_TABLE}"])


def _nft(host: str, lines: Sequence[str]) -> None:
    enter = ["nsenter", f"--net={namespace_path(host)}"]
    run([*enter, "nft", "-f", "-"], stdin="".join(f"{line}\n" for line in lines))


def remove(host: str) -> None:
    """Take a host's cable and network namespace away."""
    run(["ip", "link", "del", host], check=False)
    run(["ip", "netns", "del", host], check=False)


def remove_bridge() -> None:
    """Take the switch away."""
    run(["ip", "link", "del", BRIDGE], check=False)
