"""A backup set: one directory with a snapshot, what belongs to it, and a manifest of all of it.

    NAME/snapshot.db            the snapshot; or member/…: a copy of a stopped data directory
    NAME/host/etc/…             manifests, certificates, encryption configuration, by their paths
    NAME/MANIFEST.json          what is in it, of which cluster and host, and when
    NAME/SHA256SUMS             of all files: `sha256sum -c SHA256SUMS`

Certificates, keys and encryption configuration of one set fit its snapshot and no other: a set is
taken, moved, verified and restored as a whole. All of it is secret: 0700 and 0600.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Optional

from agent.archive import name_problem
from agent.errors import Damaged, Refused, UsageError
from agent.host import Host
from agent.model.codec import from_plain, parse_json, to_plain
from agent.model.facts import Damage
from agent.snapshot import openshift4_set
from agent.snapshot.verify import Say, SnapshotDamaged, SnapshotFacts, verify_snapshot

FORMAT = 1
MANIFEST, SUMS, SNAPSHOT = "MANIFEST.json", "SHA256SUMS", "snapshot.db"
COPIED_DB = "member/snap/db"
HOST_FILES = "host"
_MAX_MANIFEST = 4 * 1024 * 1024
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class SetFile:
    """One file of a set. path: in the set; source: on the host, empty for what came from etcd.

    mode, uid, gid, owner, group: of the source; in the set every file is 0600. what: "snapshot",
    "data", "manifest", "certificate", "key", "encryption" or "etcd".
    """

    path: str
    size: int
    sha256: str
    what: str
    source: str = ""
    mode: int = 0o600
    uid: int = 0
    gid: int = 0
    owner: str = ""
    group: str = ""


@dataclass(frozen=True)
class BackupSet:
    """What MANIFEST.json says. time: seconds since the epoch, by the host's clock; created: the
    same for people.

    kind: "snapshot", taken of a running member, or "copy", of a stopped data directory. quorum: a
    read through the quorum worked when it was taken; without, other members may have held more.
    snapshot: None for a copy that is damaged; `problems` says how.
    """  # noqa: D205

    format: int
    name: str
    kind: str
    cluster_id: str
    host: str
    machine_id: str
    member: str
    member_id: str
    time: float
    created: str
    tool: str
    platform: str
    etcd_version: str
    quorum: bool
    files: tuple[SetFile, ...]
    snapshot: Optional[SnapshotFacts] = None
    problems: tuple[str, ...] = ()

    @property
    def main(self) -> str:
        """Where the database lies in the set."""
        return SNAPSHOT if self.kind == "snapshot" else COPIED_DB

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def manifest_bytes(found: BackupSet) -> bytes:
    """MANIFEST.json."""
    return (json.dumps(to_plain(found), indent=2, ensure_ascii=True) + "\n").encode()


def parse_manifest(data: bytes, where: str) -> BackupSet:
    """MANIFEST.json read strictly. Raises Damaged; Refused for a format of a newer version."""
    try:
        plain = parse_json(data, where)
        if isinstance(plain, dict) and isinstance(plain.get("format"), int):
            _require_format(plain["format"], where)
        found = from_plain(BackupSet, plain, where)
    except UsageError as error:
        raise Damaged(error.seen, "this is not a manifest as this tool writes it") from None
    seen = {MANIFEST, SUMS}
    for file in found.files:
        problem = name_problem(file.path) or ("given twice" if file.path in seen else "")
        if problem or file.size < 0 or len(file.sha256) != 64:
            raise Damaged(f"{where}: file {file.path!r}: {problem or 'no size or hash'}")
        seen.add(file.path)
    if found.kind not in ("snapshot", "copy") or found.main not in seen:
        raise Damaged(f"{where}: a set of kind {found.kind!r} without {found.main}")
    return found


def _require_format(format: int, where: str) -> None:
    if format != FORMAT:
        raise Refused(
            f"{where}: format {format}, this version of etcd-rescue knows {FORMAT}",
            next="use the version that made it, or a newer one",
        )


def sums_bytes(found: BackupSet, manifest: bytes) -> bytes:
    """SHA256SUMS as coreutils' sha256sum writes and checks it, the manifest included."""
    rows = [(file.path, file.sha256) for file in found.files]
    rows.append((MANIFEST, hashlib.sha256(manifest).hexdigest()))
    return "".join(_sum_line(path, digest) for path, digest in sorted(rows)).encode()


def _sum_line(path: str, digest: str) -> str:
    """A name with a backslash is escaped, and the line begins with one (coreutils' digest.c)."""
    escaped = path.replace("\\", "\\\\")
    return f"{chr(92) if escaped != path else ''}{digest}  {escaped}\n"


# ---- reading -------------------------------------------------------------------------------------


def read_set(host: Host, directory: str) -> BackupSet:
    """The manifest of the set in `directory`. Raises UsageError, Damaged, Refused."""
    path = f"{directory.rstrip('/') or '/'}/{MANIFEST}"
    try:
        data = host.read_bytes(path, _MAX_MANIFEST)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"{directory}: no backup set: there is no {MANIFEST}",
            next="give the path of a snapshot file, or of a directory that `fab snapshot` made",
        ) from None
    return parse_manifest(data, path)


def verify_set(host: Host, directory: str, say: Say = lambda text: None) -> BackupSet:
    """Prove that a set is whole: every file with its size and hash, no other file, the database.

    Raises SnapshotDamaged with the file and offset, Damaged, Refused for a file that is not of this
    set, UsageError where there is none.
    """
    found = read_set(host, directory)
    _require_own_files(host, directory, found)
    sums = host.read_bytes(f"{directory}/{SUMS}", _MAX_MANIFEST)
    if sums != sums_bytes(found, manifest_bytes(found)):
        raise Damaged(
            f"{directory}/{SUMS} and {MANIFEST} do not say the same",
            "one of them was changed since the set was made",
        )
    for file in found.files:
        if file.path != found.main:
            _check_file(host, directory, file)
    return replace(found, snapshot=_check_main(host, directory, found, say))


def _check_main(host: Host, directory: str, found: BackupSet, say: Say) -> Optional[SnapshotFacts]:
    row = next(file for file in found.files if file.path == found.main)
    if found.snapshot is None:  # damaged when it was copied; it is still that copy
        _check_file(host, directory, row)
        return None
    facts = verify_snapshot(host, f"{directory}/{found.main}", found.kind == "copy", say)
    _require_same(facts.path, row, facts.size, facts.sha256)
    return replace(facts, cluster_id=found.cluster_id)


def verify_path(
    host: Host, path: str, no_hash_ok: bool = False, say: Say = lambda text: None
) -> tuple[SnapshotFacts, Optional[BackupSet]]:
    """Verify a snapshot file, or the set in a directory, ours or in OpenShift 4's own layout.

    A file inside a set is held against the set's manifest as well. Raises as verify_set and
    verify_snapshot.
    """
    if host.is_dir(path) and openshift4_set.is_set(host, path):
        return openshift4_set.read(host, path, say).facts, None
    if host.is_dir(path):
        found = verify_set(host, path, say)
        if found.snapshot is None:
            raise Damaged(
                f"{path}: the set is whole, and its database was damaged when it was copied: "
                f"{'; '.join(found.problems)}",
                "it can be looked at, not restored",
                "restore another set",
            )
        return found.snapshot, found
    found_set = _set_around(host, path)
    is_copy = found_set is not None and found_set.kind == "copy"
    facts = verify_snapshot(host, path, no_hash_ok or is_copy, say)
    if found_set is None:
        return facts, None
    row = next(file for file in found_set.files if file.path == found_set.main)
    _require_same(path, row, facts.size, facts.sha256)
    return replace(facts, cluster_id=found_set.cluster_id), found_set


def _set_around(host: Host, path: str) -> Optional[BackupSet]:
    """The set that has `path` as its database, or None."""
    for name in (SNAPSHOT, COPIED_DB):
        directory = path[: -len(name) - 1]
        if path.endswith(f"/{name}") and host.exists(f"{directory}/{MANIFEST}"):
            found = read_set(host, directory)
            return found if found.main == name else None
    return None


def _check_file(host: Host, directory: str, row: SetFile) -> None:
    path = f"{directory}/{row.path}"
    digest, size = hashlib.sha256(), 0
    with host.open(path) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    _require_same(path, row, size, digest.hexdigest())


def _require_same(path: str, row: SetFile, size: int, digest: str) -> None:
    if size != row.size:
        raise SnapshotDamaged(
            Damage(path, min(size, row.size), f"{size} bytes, the set's manifest says {row.size}"),
            "a file of another set, or one that was cut short",
        )
    if digest != row.sha256:
        raise SnapshotDamaged(
            Damage(path, 0, f"sha256 {digest}, the set's manifest says {row.sha256}"),
            "a file of another set, or one that was changed",
        )


def _require_own_files(host: Host, directory: str, found: BackupSet) -> None:
    """Raise where a file is missing, or lies there that the manifest does not name."""
    known = {file.path for file in found.files} | {MANIFEST, SUMS}
    there = set(_files_below(host, directory, ""))
    if strange := sorted(there - known):
        raise Refused(
            f"{directory}/{strange[0]} is not of this set"
            + (f", and {len(strange) - 1} more" if len(strange) > 1 else ""),
            "sets are not mixed: what belongs together was taken together",
            f"move it out of {directory}",
        )
    if missing := sorted(known - there):
        raise Damaged(
            f"{directory}/{missing[0]} is missing"
            + (f", and {len(missing) - 1} more" if len(missing) > 1 else ""),
            "the set is not whole",
        )


def _files_below(host: Host, directory: str, prefix: str) -> Iterator[str]:
    for name in host.listdir(directory):
        path = f"{directory}/{name}"
        if host.is_link(path):
            raise Refused(f"{path} is a link", "a set holds regular files only")
        if host.is_dir(path):
            yield from _files_below(host, path, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}"
