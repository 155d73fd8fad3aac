"""What an Ansible inventory says, as plain data: groups, hosts, children, variables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

MAX_HOSTS = 20_000
"""Names that all ranges of one inventory may come to; a mistyped range must not fill the memory."""

ROOT = "all"
UNGROUPED = "ungrouped"

MAX_GROUPS = 1000


@dataclass(frozen=True)
class Group:
    """One group. hosts and children in the order of the file; values are text.

    `vars` values keep their quotes where the format leaves them to Ansible; see `plain_text`.
    """

    name: str
    hosts: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    vars: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Groups:
    """A whole inventory. host_vars: what stands beside a host's name, of all its lines together."""

    groups: Mapping[str, Group]
    host_vars: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def hosts_of(self, name: str) -> tuple[str, ...]:
        """Hosts of a group and of its children, each once; empty for an unknown group."""
        found: dict[str, None] = {}
        for group in self._down(name):
            found.update(dict.fromkeys(group.hosts))
        return tuple(found)

    def variables_of(self, host: str) -> dict[str, str]:
        """A host's variables: those of outer groups first, then of inner ones, then its own.

        Groups of one depth in the order of their names, as Ansible merges them.
        """
        depths = self._depths()
        holding = [g for g in self.groups.values() if host in g.hosts]
        above = {name for group in holding for name in self._up(group.name)}
        found: dict[str, str] = {}
        for name in sorted(above, key=lambda name: (depths.get(name, 1), name)):
            found.update(self.groups[name].vars)
        return {**found, **self.host_vars.get(host, {})}

    def _down(self, name: str) -> Iterator[Group]:
        todo, seen = [name], set()
        while todo:
            here = todo.pop()
            group = self.groups.get(here)
            if group is None or here in seen:
                continue
            seen.add(here)
            yield group
            below = group.children if here != ROOT else (*group.children, *self.groups)
            todo += reversed(below)

    def _up(self, name: str) -> set[str]:
        """The group, all groups that it is a child of, and `all`."""
        found, todo = {ROOT} & set(self.groups), [name]
        while todo:
            here = todo.pop()
            if here not in found:
                found.add(here)
                todo += [g.name for g in self.groups.values() if here in g.children]
        return found

    def _depths(self) -> dict[str, int]:
        """Group → how far it is below `all`, by its longest way; circles end too."""
        depths = {name: 0 if name == ROOT else 1 for name in self.groups}
        edges = [(g.name, child) for g in self.groups.values() for child in g.children]
        for _round in depths:
            deeper = [(b, depths[a] + 1) for a, b in edges if depths.get(b, 0) <= depths[a]]
            if not deeper:
                break
            depths.update(deeper)
        return depths


def plain_text(value: str) -> str:
    """A value without the quotes around it, where both are the same and none is inside."""
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        inner = value[1:-1]
        return inner if value[0] not in inner else value
    return value
