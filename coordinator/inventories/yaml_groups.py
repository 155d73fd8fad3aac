"""Ansible's yaml inventory, read as Ansible's yaml plugin reads it, and never executed.

    all:
      vars: {key: value}
      hosts: {NAME-or-range: {key: value}}
      children: {GROUP: {hosts, vars, children}}

Encrypted and unsafe values (!vault, !unsafe) are kept as text that nobody looks at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from agent.errors import UsageError
from coordinator.inventories.groups import MAX_GROUPS, MAX_HOSTS, ROOT, Group, Groups
from coordinator.inventories.patterns import expand
from coordinator.yaml_input import parse_yaml

_OPAQUE = ("!vault", "!vault-encrypted", "!unsafe")


class _Draft:
    def __init__(self) -> None:
        self.hosts: dict[str, None] = {}
        self.children: dict[str, None] = {}
        self.vars: dict[str, str] = {}


class _Reader:
    def __init__(self, where: str) -> None:
        self._where = where
        self._groups: dict[str, _Draft] = {ROOT: _Draft()}
        self._host_vars: dict[str, dict[str, str]] = {}
        self._count = 0

    def read(self, data: Any) -> Groups:
        if not isinstance(data, dict):
            raise self._error("", f"expected groups, found {type(data).__name__}")
        for name, value in data.items():
            self._group(str(name), value)
        groups = {
            name: Group(name, tuple(draft.hosts), tuple(draft.children), draft.vars)
            for name, draft in self._groups.items()
        }
        return Groups(groups, self._host_vars)

    def _group(self, name: str, value: Any) -> None:
        draft = self._groups.setdefault(name, _Draft())
        if len(self._groups) > MAX_GROUPS:
            raise self._error(name, f"more than {MAX_GROUPS} groups")
        for key, inner in self._mapping(name, value).items():
            if key == "vars":
                draft.vars.update(_texts(self._mapping(f"{name}: vars", inner)))
            elif key == "children":
                for child, below in self._names(f"{name}: children", inner).items():
                    draft.children[child] = None
                    self._group(child, below)
            elif key == "hosts":
                for pattern, own in self._names(f"{name}: hosts", inner).items():
                    self._hosts(draft, name, pattern, own)

    def _hosts(self, draft: _Draft, group: str, pattern: str, own: Any) -> None:
        try:
            names, port = expand(pattern)
        except UsageError as error:
            raise self._error(f"{group}: hosts", error.seen) from None
        self._count += len(names)
        if self._count > MAX_HOSTS:
            raise self._error(f"{group}: hosts", f"more than {MAX_HOSTS} hosts")
        found = _texts(self._mapping(f"{group}: hosts: {pattern}", own))
        for name in names:
            draft.hosts[name] = None
            held = self._host_vars.setdefault(name, {})
            held.update({"ansible_port": str(port)} if port else {})
            held.update(found)

    def _names(self, where: str, value: Any) -> Mapping[str, Any]:
        """Names with what stands below them; a single name, or several on lines, is taken too."""
        if isinstance(value, str):
            return dict.fromkeys(value.split())
        return {str(key): inner for key, inner in self._mapping(where, value).items()}

    def _mapping(self, where: str, value: Any) -> Mapping[Any, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self._error(where, f"expected keys and values, found {type(value).__name__}")
        return value

    def _error(self, where: str, text: str) -> UsageError:
        return UsageError(": ".join(part for part in (self._where, where, text) if part))


def _texts(values: Mapping[Any, Any]) -> dict[str, str]:
    return {str(key): _text(value) for key, value in values.items()}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, default=str)


def parse_yaml_groups(data: bytes, where: str) -> Groups:
    """Read a yaml inventory. Raises UsageError with `where`, the place and the reason."""
    return _Reader(where).read(parse_yaml(data, where, _OPAQUE))
