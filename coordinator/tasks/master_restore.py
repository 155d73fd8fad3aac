"""A master's backup on this machine: proved, and chosen files of it put back, with a diff first."""

from __future__ import annotations

import base64
import difflib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import CommandFailed, Refused, RescueError, UsageError, plain
from agent.recipes.master_files import restore_master_files as plan_files
from agent.snapshot.master.model import MasterBackup, MasterFile
from agent.snapshot.master.verify import unpack_here, verify_here
from coordinator import report
from coordinator.console import Progress
from coordinator.tasks.common import Looked, Options, looking
from coordinator.tasks.doing import carry_out
from coordinator.tasks.open_plans import refuse_open_plans
from coordinator.transfer import upload

_SECRET = (".key", ".kubeconfig", "htpasswd", "session-secrets.yaml", ".pem", "keytab")
_ANSWER = 60.0
_MAX_DIFF = 400


@contextmanager
def opened(path: str, identity: str, progress: Progress) -> Iterator[tuple[str, MasterBackup]]:
    """(directory, manifest) of a backup that was proved: a directory, or an archive of one.

    identity: a file with the key of age that the archive was encrypted for; gpg asks its own
    keyring. What is unpacked lies in a directory of its own, 0700, and goes when the block ends.
    """
    place = Path(path).expanduser().absolute()
    if place.is_dir():
        yield str(place), verify_here(str(place), progress.say)
        return
    if not place.is_file():
        raise UsageError(f"{path} is neither a directory nor a file", next="fab backup-master")
    with tempfile.TemporaryDirectory(prefix="etcd-rescue.") as folder:
        archive = _decrypted(place, identity, Path(folder))
        directory = unpack_here(str(archive), f"{folder}/tree")
        yield directory, verify_here(directory, progress.say)


def _decrypted(path: Path, identity: str, folder: Path) -> Path:
    """The archive in the clear, in `folder`; the same file where it is not encrypted."""
    target = folder / path.stem
    if path.suffix == ".age":
        if not identity:
            raise UsageError(f"{path} is encrypted", "age needs the key", "--identity FILE")
        argv = ["age", "--decrypt", "--identity", str(Path(identity).expanduser()),
                "--output", str(target), str(path)]  # fmt: skip
    elif path.suffix in (".gpg", ".asc"):
        argv = ["gpg", "--batch", "--yes", "--output", str(target), "--decrypt", str(path)]
    else:
        return path
    try:
        done = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    except FileNotFoundError:
        raise UsageError(f"{argv[0]} is not on this machine", f"{path} is encrypted") from None
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise CommandFailed(
            f"{path} cannot be decrypted: {said[-1] if said else argv[0]}",
            "the key is another one, or the file was changed",
        )
    return target


def verify_backup(options: Options, file: str, identity: str) -> None:
    """Prove that a master's backup is whole."""
    progress = Progress()
    with opened(file, identity, progress) as (_directory, found):
        report.emit(found, options.output, _whole)


def _whole(found: MasterBackup) -> None:
    files = sum(row.kind == "file" for row in found.files)
    print(plain(f"backup of {found.host}, taken {found.created}: {files} files, all as they were"))
    if found.snapshot is not None:
        print(f"  etcd: {found.snapshot.keys} keys at revision {found.snapshot.revision}")
    for text in (*(f"not on that host: {p}" for p in found.missing), *found.problems):
        print(plain(f"  {text}"))


# ---- putting back --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Change:
    """A file that differs. now: what `look_at_master_file` says of the host's."""

    row: MasterFile
    now: dict[str, Any]


def restore_master_files(
    options: Options, file: str, host: str, paths: Sequence[str], identity: str, other: bool
) -> None:
    """Put chosen files of a backup back on the host that it was taken on.

    paths: files, or directories above them. other: the host is another machine than then.
    """
    progress = Progress()
    with opened(file, identity, progress) as (directory, found), looking(options, host) as looked:
        refuse_open_plans(looked)
        name = _target(looked, found, host or found.host, other)
        changes = _changes(looked, name, _chosen(found, paths))
        if not changes:
            looked.progress.say(f"nothing to do: {name} has these files as the backup has them")
            return
        for change in changes:
            _show(directory, change)
        _carry_out(looked, options, name, directory, changes)


def _target(looked: Looked, found: MasterBackup, host: str, other: bool) -> str:
    seen = next((o for o in looked.observations if o.host == host), None)
    if seen is None or seen.survey is None:
        raise looked.fleet.errors.get(host) or UsageError(
            f"no host {host!r} was surveyed", f"the backup is of {found.host}", "--host HOST"
        )
    if seen.survey.machine_id != found.machine_id and not other:
        raise Refused(
            f"{host} is another machine than the one that was backed up ({found.host})",
            "certificates and settings of a master are its own",
            "if it is that host, installed anew: --other-machine",
        )
    return host


def _chosen(found: MasterBackup, paths: Sequence[str]) -> list[MasterFile]:
    wanted = [path.strip("/") for path in paths]
    rows = [
        row
        for row in found.files
        if row.kind == "file"
        and row.path.startswith("etc/")
        and any(row.path == w or row.path.startswith(f"{w}/") for w in wanted)
    ]
    if not rows:
        raise UsageError(
            f"the backup has no file {', '.join(paths) or '(none named)'}",
            "files are named as on the host, or by a directory above them",
            "--path /etc/origin/master/master-config.yaml   (repeat for each)",
        )
    return rows


def _changes(looked: Looked, host: str, rows: Sequence[MasterFile]) -> list[_Change]:
    found = []
    for row in rows:
        asked = {"path": f"/{row.path}"}
        now = looked.fleet.call(host, "look_at_master_file", asked, _ANSWER)
        if now["kind"] not in ("", "file"):
            raise Refused(f"{host}: /{row.path} is a {now['kind']}", "nothing of it is replaced")
        same = (now["sha256"], now["mode"], now["uid"], now["gid"])
        if same != (row.sha256, row.mode, row.uid, row.gid):
            found.append(_Change(row, now))
    return found


def _show(directory: str, change: _Change) -> None:
    """Print what would change; of what may be a secret, only that it does."""
    row, now = change.row, change.now
    _tell(f"--- /{row.path} (now)\n+++ /{row.path} (backup)")
    if not now["sha256"]:
        _tell("  it is not there now")
    before = (now["mode"], now["uid"], now["gid"])
    if now["sha256"] and before != (row.mode, row.uid, row.gid):
        _tell(f"  mode and owner: {before[0]:o} {before[1]}:{before[2]} → "
              f"{row.mode:o} {row.uid}:{row.gid}")  # fmt: skip
    if now["sha256"] == row.sha256:
        return
    data = Path(directory, row.path).read_bytes()
    old = base64.b64decode(now["data"])
    if _is_secret(row.path, data) or _is_secret(row.path, old) or b"\0" in data + old:
        _tell("  the content differs (not shown: it may be a secret, or is no text)")
        return
    lines = list(
        difflib.unified_diff(
            old.decode(errors="replace").splitlines(), data.decode(errors="replace").splitlines(),
            lineterm="", n=2,
        )
    )[2:]  # fmt: skip
    for line in lines[:_MAX_DIFF]:
        _tell(line)
    if len(lines) > _MAX_DIFF:
        _tell(f"  … {len(lines) - _MAX_DIFF} more lines")


def _tell(text: str) -> None:
    """To stderr: stdout is for the result."""
    print(plain(text), file=sys.stderr)


def _is_secret(path: str, data: bytes) -> bool:
    words = (b"PRIVATE KEY", b"client-key-data", b"password", b"secret")
    return path.endswith(_SECRET) or any(word in data.lower() for word in map(bytes.lower, words))


def _carry_out(
    looked: Looked, options: Options, host: str, directory: str, changes: Sequence[_Change]
) -> None:
    sent: list[str] = []
    files = []
    for change in changes:
        row, source = change.row, "(sent when it is carried out)"
        if not options.dry_run:
            way = looked.fleet.way(host)
            source = upload(way, Path(directory, row.path), looked.progress.say, row.sha256)
            sent.append(source)
        files.append(
            {"path": f"/{row.path}", "source": source, "sha256": row.sha256,
             "was": change.now["sha256"], "mode": row.mode, "uid": row.uid, "gid": row.gid,
             "xattrs": dict(row.xattrs)}
        )  # fmt: skip
    try:
        carry_out(looked, plan_files(looked.cluster, host, files, time.time()), options)
    except (Refused, UsageError):
        _let_go(looked, host, sent)
        raise  # of anything else `fab resume` needs what was sent
    _let_go(looked, host, sent)


def _let_go(looked: Looked, host: str, sent: Sequence[str]) -> None:
    for path in dict.fromkeys(sent):
        try:
            looked.fleet.call(host, "discard_upload", {"path": path}, _ANSWER)
        except RescueError as error:
            looked.progress.say(f"{host}: {path} is still there: {error.seen}")
