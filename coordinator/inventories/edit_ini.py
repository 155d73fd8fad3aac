"""Take a host out of groups of an Ansible ini inventory: its lines, and not one byte more.

Proved by reading both texts again (ini.py): every other host, group, child and variable is as it
was. A range that the host is in becomes the ranges around it, each with what stood behind it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from agent.errors import Refused, UsageError
from coordinator.inventories.groups import Groups
from coordinator.inventories.ini import parse_ini
from coordinator.inventories.patterns import expand

_SECTION = re.compile(r"\[([^:\]\s]+)(?::(\w+))?\]\s*(?:#.*)?")
_PATTERN = re.compile(r"""[ \t]*((?:[^\s"'\\#]|\\.)+)""")
_ONE_RANGE = re.compile(r"([^\[\]]*)\[(\d*):(\d+)\]([^\[\]]*)")
_SAID = ("ansible_host", "ansible_ssh_host", "openshift_hostname", "openshift_ip",
         "openshift_public_hostname", "openshift_public_ip")  # fmt: skip


@dataclass(frozen=True)
class Edited:
    """text: the new one. lines: numbers (from 1) of the old lines that changed or left."""

    text: str
    lines: tuple[int, ...]


def named(groups: Groups, names: Collection[str], within: Collection[str]) -> tuple[str, ...]:
    """The inventory's own names of a host that is known by `names` (host names and addresses)."""
    found: dict[str, None] = {}
    for group in within:
        for host in groups.hosts_of(group):
            said = groups.variables_of(host)
            known = {host, *(said.get(key, "").strip("\"'") for key in _SAID)}
            if known & set(names):
                found[host] = None
    return tuple(found)


def without_host(text: str, where: str, host: str, groups: Collection[str]) -> Edited:
    """The text without `host` in these groups; other groups keep it.

    Raises UsageError for a text that is no inventory, Refused where the host would still be in one
    of the groups, by a group below it, or where a line cannot be changed with certainty.
    """
    before = parse_ini(text.encode(), where)
    out: list[str] = []
    changed: list[int] = []
    group, is_hosts = "ungrouped", True
    for number, raw in enumerate(re.split(r"(?<=\n)", text), 1):
        line = raw.strip().lstrip("\ufeff")
        match = _SECTION.fullmatch(line) if line.startswith("[") else None
        if match:
            group, is_hosts = match[1], (match[2] or "hosts") == "hosts"
        new = raw
        if not match and is_hosts and group in groups and line and line[0] not in "#;":
            new = _without(raw, host, f"{where}:{number}")
        if new != raw:
            changed.append(number)
        out.append(new)
    after = "".join(out)
    _require_proved(before, parse_ini(after.encode(), where), where, host, groups)
    return Edited(after, tuple(changed))


def _without(raw: str, host: str, where: str) -> str:
    """A host line without the host: the same, nothing, or the ranges around it."""
    match = _PATTERN.match(raw)
    if match is None:
        return raw
    pattern = match[1]
    try:
        names, port = expand(pattern)
    except UsageError:
        return raw
    if host not in names:
        return raw
    if len(names) == 1:
        return ""
    head, tail = raw[: match.start(1)], raw[match.end(1) :]
    if not tail.endswith("\n"):
        tail += "\r\n" if "\r" in raw else "\n"
    suffix = f":{port}" if port else ""
    pieces = _pieces(pattern, names, host)
    rows = [f"{head}{piece}{suffix if suffix not in piece else ''}{tail}" for piece in pieces]
    text = "".join(rows)
    return text if raw.endswith("\n") else text.rstrip("\r\n")


def _pieces(pattern: str, names: list[str], host: str) -> list[str]:
    """What is left of a range, as ranges where they are simple, else as names."""
    place = names.index(host)
    parts = [part for part in (names[:place], names[place + 1 :]) if part]
    match = _ONE_RANGE.fullmatch(pattern)
    pieces: list[str] = []
    for part in parts:
        piece = _as_range(match, part) if match and len(part) > 1 else ""
        pieces += [piece] if piece and expand(piece)[0] == part else part
    return pieces


def _as_range(match: re.Match[str], names: list[str]) -> str:
    head, tail = match[1], match[4]
    first = names[0][len(head) : len(names[0]) - len(tail) or None]
    last = names[-1][len(head) : len(names[-1]) - len(tail) or None]
    return f"{head}[{first}:{last}]{tail}"


def _require_proved(
    before: Groups, after: Groups, where: str, host: str, groups: Collection[str]
) -> None:
    """Raise Refused unless exactly the host left exactly these groups."""
    for group in groups:
        if host in after.hosts_of(group):
            below = [c for c in before.groups[group].children if host in after.hosts_of(c)]
            raise Refused(
                f"{where}: {host} is in {group} through {', '.join(below) or 'another group'}",
                "a line that puts it there is in a group of your own",
                f"take {host} out of {below[0] if below else group} by hand",
            )
    for name, held in before.groups.items():
        now = after.groups.get(name)
        gone = {host} if name in groups else set()
        if (
            now is None
            or [h for h in held.hosts if h not in gone] != list(now.hosts)
            or (held.children, dict(held.vars)) != (now.children, dict(now.vars))
        ):
            raise _unproved(where, f"group {name}")
    kept = {h for group in after.groups.values() for h in group.hosts} - {host}
    for other in kept:
        if before.variables_of(other) != after.variables_of(other):
            raise _unproved(where, f"host {other}")


def _unproved(where: str, what: str) -> Refused:
    return Refused(
        f"{where}: {what} would not be as it was",
        "reading the changed text again gave something else than wanted",
        "change it by hand",
    )
