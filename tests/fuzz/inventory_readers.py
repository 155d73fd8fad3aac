"""Readers of inventories that others keep, and of what the API server says of its nodes."""

from __future__ import annotations

from typing import Any

from agent.errors import UsageError
from coordinator.inventories.groups import MAX_HOSTS, Groups
from coordinator.inventories.ini import parse_ini
from coordinator.inventories.nodes import hosts_of_answer
from coordinator.inventories.yaml_groups import parse_yaml_groups
from tests.fuzz.reader import Reader, Wrong


def _checked(found: Groups) -> Any:
    everyone = set(found.hosts_of("all"))
    if everyone != {host for group in found.groups.values() for host in group.hosts}:
        raise Wrong("a host of a group that is not among all")
    if len(everyone) > MAX_HOSTS:
        raise Wrong("more hosts than one inventory may have")
    return [(host, found.variables_of(host)) for host in sorted(everyone)[:50]]


INVENTORY_READERS = (
    Reader("Ansible inventory", "inventory", lambda data: _checked(parse_ini(data, "hosts")),
           (UsageError,)),
    Reader("Ansible inventory in YAML", "inventory.yaml",
           lambda data: _checked(parse_yaml_groups(data, "hosts.yaml")), (UsageError,)),
    Reader("list of nodes", "nodes", lambda data: hosts_of_answer(data, "kubectl"), (UsageError,)),
)  # fmt: skip
