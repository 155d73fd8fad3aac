"""flannel's settings: which etcds it asks, where they stand, and the same without some of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Optional
from urllib.parse import urlsplit

from agent.errors import Refused
from agent.survey.envfile import Assignment, parse_env

FILE = "/etc/sysconfig/flanneld"
KEYS = ("FLANNEL_ETCD_ENDPOINTS", "FLANNEL_ETCD", "ETCD_ENDPOINTS")
"""flannel's own variable of 0.5 and later, the one before, and what units of others pass on."""


def endpoints(text: str) -> tuple[str, ...]:
    """The URLs that count, as written; empty where none are set."""
    found = _assignment(text)
    return tuple(_parts(found.value)) if found else ()


def hosts_of(text: str) -> tuple[str, ...]:
    """The hosts of the URLs."""
    return tuple(_host(url) for url in endpoints(text))


def without_endpoints(text: str, gone: Collection[str], path: str = FILE) -> str:
    """The text without the URLs of hosts in `gone`; every other byte stays.

    Raises Refused where none would be left, or where the value is written over several lines.
    """
    found = _assignment(text)
    if found is None:
        return text
    wanted = [url for url in _parts(found.value) if _host(url) not in gone]
    if len(wanted) == len(_parts(found.value)):
        return text
    if not wanted:
        raise Refused(
            f"{path}:{found.line}: all of {found.name} are of the host that leaves",
            "flannel would have no etcd to ask",
            f"write the URLs of the members that stay into {path}, then: fab resume",
        )
    after = text[: found.start] + _cut(text[found.start : found.end], gone) + text[found.end :]
    if endpoints(after) != tuple(wanted) or _others(after) != _others(text):
        raise Refused(
            f"{path}:{found.line}: {found.name} is written in a way that is not understood here",
            "it cannot be changed with certainty",
            f"take {', '.join(sorted(gone))} out of it by hand, then: fab resume",
        )
    return after


def _cut(written: str, gone: Collection[str]) -> str:
    """A list as it is written, without the URLs of some hosts and the commas between."""
    quote = written[:1] if written[:1] in ("'", '"') and written.endswith(written[:1]) else ""
    inner = written[len(quote) : len(written) - len(quote)]
    kept = [part for part in inner.split(",") if _host(part.strip()) not in gone]
    return f"{quote}{','.join(kept)}{quote}"


def _assignment(text: str) -> Optional[Assignment]:
    """The assignment that counts: the last one of the first key that is set at all."""
    given = [a for a in parse_env(text) if a.is_valid]
    for key in KEYS:
        found = [a for a in given if a.name == key and a.value]
        if found:
            return found[-1]
    return None


def _others(text: str) -> list[tuple[str, str]]:
    counts = _assignment(text)
    return [(a.name, a.value) for a in parse_env(text) if counts is None or a.start != counts.start]


def _parts(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
