"""haproxy.cfg: which server lines are of a host, and the same file without them.

Only `server` lines leave. Sections, words and quotes: haproxy's Configuration Manual, 2.1 and 2.2
(a backslash takes the next character as it is, quotes group, # begins a comment).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Optional

from agent.errors import Refused

FILE = "/etc/haproxy/haproxy.cfg"
_SECTIONS = (
    "global", "defaults", "frontend", "backend", "listen", "peers", "resolvers", "userlist",
    "program", "mailers", "cache", "http-errors", "ring", "log-forward", "fcgi-app", "crt-store",
)  # fmt: skip
_WORD = re.compile(r"""(?:[^\s"'\\#]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+""")


@dataclass(frozen=True)
class Line:
    """One line with its words. start, end: of the whole line, its end included."""

    number: int
    words: tuple[str, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Server:
    """A server of a backend. section: "backend NAME" or "listen NAME"."""

    section: str
    name: str
    address: str
    port: int
    line: Line


@dataclass(frozen=True)
class Section:
    """kind and name; binds: ports that it listens on; leads_to: backends named by it."""

    kind: str
    name: str
    binds: tuple[int, ...]
    leads_to: tuple[str, ...]


def lines_of(text: str) -> list[Line]:
    """Every line, in words as haproxy splits them."""
    found, place = [], 0
    for number, raw in enumerate(re.split(r"(?<=\n)", text), 1):
        if raw:
            found.append(Line(number, _words(raw), place, place + len(raw)))
        place += len(raw)
    return found


def _words(raw: str) -> tuple[str, ...]:
    words, place = [], 0
    while place < len(raw):
        if raw[place] == "#":
            break
        match = _WORD.match(raw, place)
        if match:
            words.append(match.group())
            place = match.end()
        elif raw[place] in "\"'\\":
            return ()  # a quote that does not end here: nothing of this line is understood
        else:
            place += 1
    return tuple(words)


def servers(text: str) -> list[Server]:
    """All `server` lines of backends and listen sections, in order."""
    found, section = [], ""
    for line in lines_of(text):
        first = line.words[0] if line.words else ""
        if first in _SECTIONS:
            section = " ".join(line.words[:2])
        if first == "server" and len(line.words) > 2 and section.startswith(("backend", "listen")):
            address, port = _address(line.words[2])
            found.append(Server(section, line.words[1], address, port, line))
    return found


def sections(text: str) -> list[Section]:
    """Frontends, backends and listen sections: what they listen on, and where they lead."""
    found: list[Section] = []
    kind = name = ""
    binds: list[int] = []
    leads: list[str] = []

    def close() -> None:
        if kind in ("frontend", "backend", "listen"):
            found.append(Section(kind, name, tuple(binds), tuple(leads)))

    for line in lines_of(text):
        words = line.words
        if words and words[0] in _SECTIONS:
            close()
            kind, name = words[0], words[1] if len(words) > 1 else ""
            binds, leads = _ports(words[2:3]), []
        elif words[:1] == ("bind",):
            binds += _ports(words[1:2])
        elif words[:1] in (("default_backend",), ("use_backend",)) and len(words) > 1:
            leads.append(words[1])
    close()
    return found


def _ports(words: tuple[str, ...]) -> list[int]:
    if not words:
        return []
    found = [_address(part)[1] for part in words[0].split(",")]
    return [port for port in found if port]


def _address(text: str) -> tuple[str, int]:
    """(address, port) of `address:port`, `[v6]:port`, `ipv4@address:port` or `:port`."""
    text = text.rpartition("@")[2]
    match = re.fullmatch(r"\[([^\]]*)\]:?(\d*)|(.*):(\d+)", text)
    if not match:
        return text, 0
    address = match[1] if match[1] is not None else match[3]
    port = match[2] if match[1] is not None else match[4]
    return address, int(port) if port else 0


def of_host(text: str, names: Collection[str], port: int = 0) -> list[Server]:
    """The servers that are a host: by their address, or by their name where that is a host name.

    names: host names and addresses of the host. port: only servers on it; 0: on any. A server whose
    name is the host's and whose address is another one is not its.
    """
    known = {_plain(name) for name in names}
    full = {name.partition(".")[0] for name in known if "." in name and not _is_ip(name)}

    def is_it(server: Server) -> bool:
        address = _plain(server.address)
        if port and server.port != port:
            return False
        short = address.partition(".")[0]
        if address in known or (address == short and short in full):
            return True
        # Known by its short name alone: a full one with the same beginning is its.
        return not _is_ip(address) and short in known and short not in full

    return [server for server in servers(text) if is_it(server)]


def _plain(name: str) -> str:
    name = name.strip("\"'").lower()
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def without_host(text: str, names: Collection[str], path: str = FILE, port: int = 0) -> str:
    """The text without the server lines of a host; every other byte stays.

    Raises Refused where a backend would be left without a server, and where the host is in the file
    in a way that no server line explains (a name that only looks like its).
    """
    gone = of_host(text, names, port)
    _require_told(text, names, path)
    if not gone:
        return text
    cut = {server.line.start: server.line.end for server in gone}
    left = {s.section for s in servers(text) if s.line.start not in cut}
    empty = sorted({s.section for s in gone} - left)
    if empty:
        raise Refused(
            f"{path}: {', '.join(empty)} would have no server left",
            "nobody could be sent anywhere",
            f"add the servers that stay to {path}, then run this again",
        )
    parts, place = [], 0
    for start, end in sorted(cut.items()):
        parts.append(text[place:start])
        place = end
    after = "".join([*parts, text[place:]])
    _require_same(text, after, [server.line for server in gone], path)
    return after


def _require_told(text: str, names: Collection[str], path: str) -> None:
    """Raise Refused for a server that has the host's name, and a variable for its address."""
    short = {_plain(name).partition(".")[0] for name in names if not _is_ip(_plain(name))}
    for server in servers(text):
        if "$" in server.address and _plain(server.name).partition(".")[0] in short:
            raise Refused(
                f"{path}:{server.line.number}: server {server.name} is at {server.address}",
                "whether that is the master which leaves is known to haproxy's environment only",
                f"take the line out by hand, if it is; or write its address into {path}",
            )


def _require_same(before: str, after: str, gone: list[Line], path: str) -> None:
    """Raise Refused unless all other lines are read as they were."""
    numbers = {line.number for line in gone}
    kept = [line.words for line in lines_of(before) if line.number not in numbers]
    if [line.words for line in lines_of(after)] != kept:
        raise Refused(
            f"{path}: its last line has no end, or a line goes on over the next",
            "it cannot be changed with certainty",
            f"take {', '.join(' '.join(line.words) for line in gone)} out by hand",
        )


def ports_to(text: str, backends: Collection[str]) -> list[int]:
    """Ports that lead to one of these sections ("backend NAME", "listen NAME")."""
    found: dict[int, None] = {}
    for section in sections(text):
        own = f"{section.kind} {section.name}" in backends
        leads = any(f"backend {name}" in backends for name in section.leads_to)
        if (section.kind in ("frontend", "listen") and leads) or (section.kind == "listen" and own):
            found.update(dict.fromkeys(section.binds))
    return list(found)


def first_problem(said: str) -> Optional[str]:
    """The line of `haproxy -c` that tells what is wrong."""
    rows = [line for line in said.splitlines() if "ALERT" in line or "error" in line.lower()]
    return rows[0].strip() if rows else None
