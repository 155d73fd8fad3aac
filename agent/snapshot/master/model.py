"""A backup of a master host: one directory (or archive of it), with a manifest of all of it.

etc/…                  files of the host by their paths, owner, mode and attributes kept
packages.txt           installed packages, sorted
snapshot.db            etcd's verified snapshot;  v2/: its keys of API 2, where there are any
MANIFEST.json          what is in it, of which host, and when; what was missing
SHA256SUMS             of all files: `sha256sum -c SHA256SUMS`
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass, field
from typing import Optional

from agent.archive import name_problem
from agent.errors import Damaged, Refused, UsageError
from agent.model.codec import from_plain, parse_json, to_plain
from agent.snapshot.verify import SnapshotFacts

FORMAT = 1
MANIFEST, SUMS, SNAPSHOT, PACKAGES, V2 = (
    "MANIFEST.json", "SHA256SUMS", "snapshot.db", "packages.txt", "v2",
)  # fmt: skip
MAX_MANIFEST = 64 * 1024 * 1024


@dataclass(frozen=True)
class MasterFile:
    """One row. path: in the backup; for files of the host, also the host's without its slash.

    kind: file, directory or link. target: of a link. xattrs: name → base64 of its value, the
    SELinux context (security.selinux) among them.
    """

    path: str
    kind: str
    mode: int = 0o600
    uid: int = 0
    gid: int = 0
    mtime: float = 0.0
    size: int = 0
    sha256: str = ""
    target: str = ""
    xattrs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MasterBackup:
    """What MANIFEST.json says. time: seconds since the epoch; created: the same for people.

    missing: paths of the list that this host does not have. ca_files: those that only one master
    has, which are here. v2: "none", "saved", "off" (API 2 is switched off) or "unknown". packages:
    rpm, dpkg or "". problems: what could not be taken, and why.
    """

    format: int
    name: str
    host: str
    machine_id: str
    time: float
    created: str
    tool: str
    platform: str
    files: tuple[MasterFile, ...]
    missing: tuple[str, ...] = ()
    ca_files: tuple[str, ...] = ()
    v2: str = "unknown"
    packages: str = ""
    snapshot: Optional[SnapshotFacts] = None
    problems: tuple[str, ...] = ()

    def row(self, path: str) -> Optional[MasterFile]:
        """The row of a path, with or without its first slash; None for none."""
        wanted = path.lstrip("/")
        return next((f for f in self.files if f.path == wanted), None)


def manifest_bytes(found: MasterBackup) -> bytes:
    """MANIFEST.json."""
    return (json.dumps(to_plain(found), indent=1, ensure_ascii=True) + "\n").encode()


def sums_bytes(found: MasterBackup, manifest: bytes) -> bytes:
    """SHA256SUMS as coreutils' sha256sum writes and checks it, the manifest included."""
    rows = [(f.path, f.sha256) for f in found.files if f.kind == "file"]
    rows.append((MANIFEST, hashlib.sha256(manifest).hexdigest()))
    return "".join(_line(path, digest) for path, digest in sorted(rows)).encode()


def _line(path: str, digest: str) -> str:
    escaped = path.replace("\\", "\\\\")
    return f"{chr(92) if escaped != path else ''}{digest}  {escaped}\n"


def parse_manifest(data: bytes, where: str) -> MasterBackup:
    """MANIFEST.json read strictly. Raises Damaged; Refused for a format of a newer version."""
    try:
        plain = parse_json(data, where)
        if isinstance(plain, dict) and plain.get("format", FORMAT) != FORMAT:
            raise Refused(
                f"{where}: format {plain['format']}; this version knows {FORMAT}",
                next="use the version that made it, or a newer one",
            )
        found = from_plain(MasterBackup, plain, where)
    except UsageError as error:
        raise Damaged(error.seen, "this is not a manifest as this tool writes it") from None
    seen = {MANIFEST, SUMS}
    for file in found.files:
        problem = name_problem(file.path) or ("given twice" if file.path in seen else "")
        problem = problem or _row_problem(file)
        if problem:
            raise Damaged(f"{where}: {file.path!r}: {problem}")
        seen.add(file.path)
    return found


def _row_problem(file: MasterFile) -> str:
    if file.kind not in ("file", "directory", "link"):
        return f"of kind {file.kind!r}"
    if file.kind == "file" and (file.size < 0 or len(file.sha256) != 64):
        return "no size or hash"
    if not 0 <= file.mode <= 0o7777 or file.uid < 0 or file.gid < 0:
        return "no owner or mode"
    try:
        for value in file.xattrs.values():
            base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return "an attribute that is no base64"
    return ""
