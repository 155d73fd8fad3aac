"""Proves that a master's backup is whole: every file by its hash, the snapshot by its own."""

from __future__ import annotations

import hashlib

from agent.archive import extract
from agent.errors import Damaged, UsageError
from agent.host import Host
from agent.snapshot.master.model import (
    MANIFEST,
    MAX_MANIFEST,
    SNAPSHOT,
    SUMS,
    MasterBackup,
    parse_manifest,
)
from agent.snapshot.verify import Say, verify_snapshot

_CHUNK = 1 << 20


def read_backup(host: Host, directory: str) -> MasterBackup:
    """The manifest of the backup in `directory`. Raises UsageError where there is none, Damaged."""
    path = f"{directory}/{MANIFEST}"
    try:
        data = host.read_bytes(path, MAX_MANIFEST)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"{directory}: no {MANIFEST} in it", "a backup of a master has one", ""
        ) from None
    return parse_manifest(data, path)


def verify_backup(host: Host, directory: str, say: Say) -> MasterBackup:
    """Prove the backup in `directory`. Raises Damaged naming every file that is not as it was."""
    found = read_backup(host, directory)
    wrong = [
        f"{row.path}: {problem}"
        for row in found.files
        if row.kind == "file"
        for problem in [_problem(host, f"{directory}/{row.path}", row.size, row.sha256)]
        if problem
    ]
    known = {row.path for row in found.files} | {MANIFEST, SUMS}
    extra = [name for name in _files(host, directory, "") if name not in known]
    wrong += [f"{name}: the manifest does not name it" for name in extra]
    if wrong:
        shown = "; ".join(wrong[:10])
        raise Damaged(
            f"{directory}: {len(wrong)} files are not as they were: {shown}",
            "a backup that was changed puts back what was never there",
            "take another one: fab backup-master",
        )
    if found.row(SNAPSHOT) is not None:
        verify_snapshot(host, f"{directory}/{SNAPSHOT}", say=say)
    return found


def _problem(host: Host, path: str, size: int, sha256: str) -> str:
    digest, count = hashlib.sha256(), 0
    try:
        with host.open(path) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                count += len(chunk)
    except (OSError, Damaged) as error:
        return str(error.strerror if isinstance(error, OSError) else error.seen)
    if count != size:
        return f"{count} bytes instead of {size}"
    return "" if digest.hexdigest() == sha256 else "another content (sha256)"


def _files(host: Host, directory: str, below: str) -> list[str]:
    found = []
    for name in host.listdir(f"{directory}/{below}" if below else directory):
        path = f"{below}/{name}" if below else name
        full = f"{directory}/{path}"
        if host.is_dir(full) and not host.is_link(full):
            found += _files(host, directory, path)
        else:
            found.append(path)
    return found


def unpack_here(archive: str, target: str) -> str:
    """Unpack an archive of this machine into the new directory `target`; the backup's directory.

    Raises Damaged, Refused.
    """
    host = Host()
    with host.open(archive) as source:
        entries = extract(host, source, target, archive)
    tops = {entry.name.split("/")[0] for entry in entries}
    if len(tops) != 1:
        raise Damaged(f"{archive}: not one directory at its top", "no backup of a master is so")
    return f"{target}/{tops.pop()}"


def verify_here(directory: str, say: Say) -> MasterBackup:
    """`verify_backup` on this machine, which need not be a host."""
    return verify_backup(Host(), directory, say)
