"""--hosts-from: kubeconfig[:PATH] or ansible:PATH[:GROUP]."""

from __future__ import annotations

from pathlib import Path

from agent.errors import UsageError
from coordinator.hosts import HostSpec
from coordinator.inventories.ansible import hosts_from_inventory
from coordinator.inventories.nodes import hosts_from_nodes

_FORMS = "kubeconfig, kubeconfig:PATH, ansible:PATH or ansible:PATH:GROUP"


def hosts_from(source: str) -> tuple[HostSpec, ...]:
    """The hosts that another inventory names. Raises UsageError, Unreachable."""
    kind, _, rest = source.partition(":")
    if kind == "kubeconfig":
        return hosts_from_nodes(str(Path(rest).expanduser()) if rest else "")
    if kind == "ansible" and rest:
        path, group = rest, ""
        if not Path(path).expanduser().exists() and ":" in rest:
            path, _, group = rest.rpartition(":")
        return hosts_from_inventory(Path(path).expanduser(), group)
    raise UsageError(f"--hosts-from {source!r} is not understood", f"it is one of {_FORMS}")
