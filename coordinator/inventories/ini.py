"""Ansible's ini inventory, read as Ansible's ini plugin reads it, and never executed.

[group] holds host lines `PATTERN key=value …` (split like a shell's words, # begins a comment),
[group:vars] lines `key = value` (all behind the first =, quotes included), [group:children] names
of groups. Lines that begin with # or ; are comments; hosts before the first section are ungrouped.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field

from agent.errors import UsageError
from coordinator.inventories.groups import MAX_GROUPS, MAX_HOSTS, ROOT, UNGROUPED, Group, Groups
from coordinator.inventories.patterns import expand

MAX_SIZE = 1024 * 1024
_SECTION = re.compile(r"\[([^:\]\s]+)(?::(\w+))?\]\s*(?:#.*)?")
_CHILD = re.compile(r"([^:\]\s]+)\s*(?:#.*)?")


@dataclass
class _Draft:
    """A group while the file is read. line: where it was first named; 0: only as a child."""

    hosts: dict[str, None] = field(default_factory=dict)
    children: dict[str, int] = field(default_factory=dict)
    vars: dict[str, str] = field(default_factory=dict)
    is_defined: bool = False
    named_at: int = 0


class _Reader:
    def __init__(self, where: str) -> None:
        self._where, self._line = where, 0
        self._groups: dict[str, _Draft] = {}
        self._host_vars: dict[str, dict[str, str]] = {}
        self._count = 0
        self._enter(ROOT, "")
        self._enter(UNGROUPED, "")

    def read(self, text: str) -> Groups:
        # Only what ends a line to Ansible ends one here; str.splitlines would split at more.
        for self._line, raw in enumerate(text.split("\n"), 1):
            line = raw.strip()
            if not line or line[0] in "#;":
                continue
            if line.startswith("[") and (match := _SECTION.fullmatch(line)):
                self._enter(match[1], match[2] or "")
            elif line.startswith("[") and "]" in line and _is_section(line):
                raise self._error(f"{line[:80]!r} is no section")
            else:
                self._take(line)
        return self._result()

    def _enter(self, name: str, kind: str) -> None:
        if kind not in ("", "hosts", "vars", "children"):
            raise self._error(
                f"a section is [GROUP], [GROUP:vars] or [GROUP:children], not :{kind}"
            )
        self._name, self._kind = name, kind
        draft = self._groups.setdefault(name, _Draft())
        if len(self._groups) > MAX_GROUPS:
            raise self._error(f"more than {MAX_GROUPS} groups")
        draft.is_defined |= kind != "vars"
        draft.named_at = draft.named_at or self._line

    def _take(self, line: str) -> None:
        draft = self._groups[self._name]
        if self._kind == "vars":
            key, equals, value = line.partition("=")
            if not equals or not key.strip():
                raise self._error(f"expected key=value, found {line[:80]!r}")
            draft.vars[key.strip()] = value.strip()
        elif self._kind == "children":
            match = _CHILD.fullmatch(line)
            if not match:
                raise self._error(f"expected the name of a group, found {line[:80]!r}")
            draft.children.setdefault(match[1], self._line)
        else:
            self._take_host(draft, line)

    def _take_host(self, draft: _Draft, line: str) -> None:
        try:
            pattern, *words = shlex.split(line, comments=True)
            names, port = expand(pattern)
        except ValueError as error:
            raise self._error(f"{error}: {line[:80]!r}") from None
        except UsageError as error:
            raise self._error(error.seen) from None
        found = {"ansible_port": str(port)} if port else {}
        for word in words:
            key, equals, value = word.partition("=")
            if not equals or not key:
                raise self._error(f"expected key=value behind {pattern!r}, found {word[:80]!r}")
            found[key] = value
        self._count += len(names)
        if self._count > MAX_HOSTS:
            raise self._error(f"more than {MAX_HOSTS} hosts")
        for name in names:
            draft.hosts[name] = None
            self._host_vars.setdefault(name, {}).update(found)

    def _result(self) -> Groups:
        known = {name for name, draft in self._groups.items() if draft.is_defined} | {ROOT}
        for name, draft in self._groups.items():
            if name not in known:
                raise self._error(f"[{name}:vars] is there, but no group {name}", draft.named_at)
            for child, line in draft.children.items():
                if child not in known:
                    raise self._error(f"[{name}:children] names {child}, which is no group", line)
        groups = {
            name: Group(name, tuple(draft.hosts), tuple(draft.children), draft.vars)
            for name, draft in self._groups.items()
        }
        return Groups(groups, self._host_vars)

    def _error(self, text: str, line: int = 0) -> UsageError:
        return UsageError(f"{self._where}:{line or self._line}: {text}")


def _is_section(line: str) -> bool:
    """True unless it can be a host whose name begins with a bracket: [::1]:22, [a:c]-node."""
    return line.split("#")[0].rstrip().endswith("]")


def parse_ini(data: bytes, where: str) -> Groups:
    """Read an ini inventory. Raises UsageError with `where`, line and reason."""
    if len(data) > MAX_SIZE:
        raise UsageError(f"{where}: larger than {MAX_SIZE} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{where}: not UTF-8 at offset {error.start}") from None
    if "\0" in text:
        raise UsageError(f"{where}: a NUL byte at offset {text.index(chr(0))}")
    return _Reader(where).read(text.replace("\r\n", "\n"))
