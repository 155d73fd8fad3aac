"""A backup set on its way to this machine: under its final name only once all of it is here."""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from agent.errors import Damaged, Refused, UsageError
from agent.snapshot.backup_set import MANIFEST, BackupSet, SetFile, parse_manifest
from coordinator.transfer import Piece, Say, sync_directory

LARGE = ("snapshot", "data")
_PART = ".part"


@contextmanager
def incoming(folder: Path, name: str, say: Say) -> Iterator[Path]:
    """A directory for a set on its way (0700), locked; after the block it has its name.

    What interrupted runs left in `folder` is taken away first. Where the block fails, what is there
    stays under a name with .part, for the next run to take away. Raises Refused where the name is
    taken, UsageError where `folder` cannot be one.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{folder}: {error.strerror}", next="another directory: --to DIR"
        ) from None
    _discard_leftovers(folder, say)
    part, target = folder / f".{name}{_PART}", folder / name
    if target.exists():
        raise Refused(f"{target} exists", "nothing is ever overwritten")
    part.mkdir(mode=0o700)
    fd = os.open(part, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fchmod(fd, 0o700)
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield part
        for directory in [part, *(p for p in part.rglob("*") if p.is_dir())]:
            sync_directory(directory)
        os.rename(part, target)
        sync_directory(folder)
    finally:
        os.close(fd)


def _discard_leftovers(folder: Path, say: Say) -> None:
    """Take away what no run works on any more: its lock went with it."""
    for part in sorted(folder.glob(f".*{_PART}")):
        if part.is_symlink() or not part.is_dir():
            continue
        fd = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            say(f"taking away {part}: left by an interrupted run")
            shutil.rmtree(part)
        except BlockingIOError:
            continue
        finally:
            os.close(fd)


def write_small_files(part: Path, files: Mapping[str, str], host: str) -> BackupSet:
    """Write what came in the answer of `snapshot_files`, each checked by the manifest in it.

    Raises Damaged where the manifest, a name or a hash does not fit.
    """
    try:
        found = {path: base64.b64decode(text, validate=True) for path, text in files.items()}
    except (binascii.Error, ValueError, TypeError):
        raise Damaged(f"{host}: a file of the set arrived damaged") from None
    manifest = parse_manifest(found.get(MANIFEST, b""), f"{host}: {MANIFEST}")
    rows = {file.path: file for file in manifest.files if file.what not in LARGE}
    if set(found) != {*rows, MANIFEST, "SHA256SUMS"}:
        raise Damaged(f"{host}: other files came than the manifest names")
    for path, data in found.items():
        if path in rows:
            _require_same(host, rows[path], data)
        _write(part, path, data)
    return manifest


def _require_same(host: str, row: SetFile, data: bytes) -> None:
    if hashlib.sha256(data).hexdigest() != row.sha256:
        raise Damaged(f"{host}: {row.path} is not the file that the manifest names")


def _write(part: Path, path: str, data: bytes) -> None:
    target = part / path
    _make_parents(part, target.parent)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(target, flags, 0o600), "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _make_parents(part: Path, folder: Path) -> None:
    """Directories below `part`, 0700 whatever the umask."""
    missing = []
    while folder != part and not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(mode=0o700)
        each.chmod(0o700)


def large_pieces(part: Path, directory: str, found: BackupSet) -> list[Piece]:
    """What is fetched as raw bytes. directory: of the set on the host."""
    pieces = []
    for file in found.files:
        if file.what in LARGE:
            target = part / file.path
            _make_parents(part, target.parent)
            pieces.append(Piece(f"{directory}/{file.path}", target, file.size, file.sha256))
    return pieces
