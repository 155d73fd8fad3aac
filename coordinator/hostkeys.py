"""Host keys the operator already trusts, as OpenSSH keeps them in known_hosts (sshd(8))."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.errors import Refused

_MAX_FILE = 32 * 1024 * 1024
_SHORT_TYPE = {
    "ssh-ed25519": "ed25519",
    "ssh-rsa": "rsa",
    "ecdsa-sha2-nistp256": "ecdsa",
    "ecdsa-sha2-nistp384": "ecdsa",
    "ecdsa-sha2-nistp521": "ecdsa",
}


@dataclass(frozen=True)
class KnownKey:
    """One line of a known_hosts file. marker: "", "@revoked" or "@cert-authority"."""

    file: str
    line: int
    marker: str
    patterns: str
    type: str
    blob: bytes


@dataclass(frozen=True)
class Server:
    """Which host a key is asked for. shown: how errors name it. direct: no jump, no proxy.

    names: what to look up, the first one that is known decides. accept: the host to name in
    `ssh-keyscan` or `ssh`.
    """

    shown: str
    names: tuple[str, ...]
    port: int
    accept: str
    direct: bool = True


def fingerprint(blob: bytes) -> str:
    """As `ssh-keygen -l` prints it: SHA256: and base64 without padding."""
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode()
    return "SHA256:" + digest.rstrip("=")


def lookup_names(host: str, port: int, alias: str = "") -> tuple[str, ...]:
    """What OpenSSH looks a host up as: its alias alone, else [host]:port before the bare name."""
    if alias:
        return (alias,)
    host = host.lower()
    return (host,) if port == 22 else (f"[{host}]:{port}", host)


class KnownHosts:
    """The keys of several known_hosts files."""

    def __init__(self, files: Iterable[str]) -> None:
        self.files = tuple(files)
        self._keys = [key for file in self.files for key in _read(file)]

    def of(self, names: Sequence[str]) -> list[KnownKey]:
        """Keys of the first of `names` that has any; certificate authorities do not count."""
        for name in names:
            found = [k for k in self._keys if not k.marker and _matches(k.patterns, name)]
            if found:
                return found
        return []

    def types(self, names: Sequence[str]) -> list[str]:
        """Key types known for a host: asking for one of these first keeps a known host known."""
        return list(dict.fromkeys(key.type for key in self.of(names)))

    def check(self, server: Server, type: str, blob: bytes) -> None:
        """Return where this key is known as the server's. Raises Refused for every other one."""
        for key in self._keys:
            if key.marker == "@revoked" and key.blob == blob and _any(key, server.names):
                raise _revoked(server, key)
        known = self.of(server.names)
        if any(key.blob == blob for key in known):
            return
        raise _changed(server, known, type, blob) if known else self._unknown(server, type, blob)

    def _unknown(self, server: Server, type: str, blob: bytes) -> Refused:
        short = _SHORT_TYPE.get(type, type)
        file = self.files[0] if self.files else "~/.ssh/known_hosts"
        if server.direct:
            port = "" if server.port == 22 else f" -p {server.port}"
            accept = f"ssh-keyscan -t {short}{port} {server.accept} >> {_tilde(file)}"
        else:
            accept = f"ssh {server.accept}  # answers with the same fingerprint, and asks"
        return Refused(
            f"{server.shown} shows a host key that is not known here: {short} {fingerprint(blob)}",
            "it may be another host's; with a wrong one, root commands would run on a stranger",
            f"compare with `ssh-keygen -lf /etc/ssh/ssh_host_{short}_key.pub` on the host's own "
            f"console; if equal: {accept}",
        )


def _revoked(server: Server, key: KnownKey) -> Refused:
    return Refused(
        f"{server.shown} shows a REVOKED host key: {fingerprint(key.blob)}",
        f"{key.file} line {key.line} revokes it",
        "find out who has that key; nothing was sent to this host",
    )


def _changed(server: Server, known: list[KnownKey], type: str, blob: bytes) -> Refused:
    old = next((key for key in known if key.type == type), known[0])
    name = next(name for name in server.names if _matches(old.patterns, name))
    removal = f"ssh-keygen -f {_tilde(old.file)} -R '{name}'"
    return Refused(
        f"THE HOST KEY OF {server.shown} HAS CHANGED: "
        f"known is {_SHORT_TYPE.get(old.type, old.type)} {fingerprint(old.blob)} "
        f"({old.file} line {old.line}), "
        f"shown is {_SHORT_TYPE.get(type, type)} {fingerprint(blob)}",
        "the host was set up anew, its address now belongs to another one, or somebody is in "
        "between; root commands and keys must not go there",
        f"if you know that it was set up anew, and the new fingerprint is right: {removal}",
    )


# ---- the file format -----------------------------------------------------------------------------


def _read(file: str) -> list[KnownKey]:
    path = Path(file)
    try:
        if not path.is_file():
            return []
        with path.open("rb") as stream:
            text = stream.read(_MAX_FILE).decode(errors="replace")
    except OSError:
        return []
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        key = _parse(file, number, line)
        if key:
            keys.append(key)
    return keys


def _parse(file: str, number: int, line: str) -> KnownKey | None:
    """One line: [@marker] patterns type base64 [comment]; None for anything else, as OpenSSH."""
    fields = line.split()
    if not fields or fields[0].startswith("#"):
        return None
    marker = fields.pop(0) if fields[0].startswith("@") else ""
    if len(fields) < 3 or marker not in ("", "@revoked", "@cert-authority"):
        return None
    try:
        blob = base64.b64decode(fields[2], validate=True)
    except (binascii.Error, ValueError):
        return None
    return KnownKey(file, number, marker, fields[0], fields[1], blob)


def _any(key: KnownKey, names: Sequence[str]) -> bool:
    return any(_matches(key.patterns, name) for name in names)


def _matches(patterns: str, name: str) -> bool:
    """Comma-separated patterns with * and ?, where one with ! rules out; or one hashed name."""
    if patterns.startswith("|1|"):
        return _matches_hash(patterns, name)
    found = False
    for pattern in patterns.lower().split(","):
        negated = pattern.startswith("!")
        # A [ is a plain character here ([host]:port), and a set to fnmatch.
        plain = pattern.lstrip("!").replace("[", "[[]")
        if fnmatch.fnmatchcase(name.lower(), plain):
            if negated:
                return False
            found = True
    return found


def _matches_hash(hashed: str, name: str) -> bool:
    """|1|base64(salt)|base64(HMAC-SHA1(salt, name)): HashKnownHosts of OpenSSH."""
    try:
        _, _, salt, digest = hashed.split("|")
        expected = hmac.new(base64.b64decode(salt), name.encode(), hashlib.sha1).digest()
        return hmac.compare_digest(expected, base64.b64decode(digest))
    except (ValueError, binascii.Error):
        return False


def _tilde(path: str) -> str:
    home = os.path.expanduser("~")
    return "~" + path[len(home) :] if path.startswith(home + "/") else path
