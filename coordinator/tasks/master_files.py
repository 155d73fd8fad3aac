"""Masters of OpenShift 3.11: back them up, prove a backup, put chosen files of one back."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import CommandFailed, Refused, RescueError, UsageError, plain
from agent.model.codec import from_plain
from agent.snapshot.master.model import MasterBackup
from coordinator.channel import fan_out
from coordinator.tasks.common import Looked
from coordinator.transfer import Piece, fetch, upload

_SILENCE = 900.0
_ANSWER = 60.0


@dataclass(frozen=True)
class Wish:
    """archive: one file in /backup in place of a directory. to: a directory here, for an archive.

    encrypt_to: a public key of age (age1…, ssh-…), or the path of an armoured OpenPGP public key.
    """

    archive: bool = False
    to: str = ""
    encrypt_to: str = ""


@dataclass(frozen=True)
class Done:
    """directory, archive: on the host; path: here; files: how many rows the backup has."""

    host: str
    directory: str
    archive: str
    size: int
    sha256: str
    path: str
    files: int
    seconds: float
    backup: MasterBackup


def backup(looked: Looked, hosts: Sequence[str], wish: Wish) -> list[Done]:
    """Back masters up, all at once. Raises the first host's error, after the others have ended."""
    recipient = _recipient(wish.encrypt_to)

    def one(host: str) -> Done:
        return _one(looked, host, wish, recipient)

    answers = fan_out(hosts, one)
    failed = {h: a for h, a in answers.items() if isinstance(a, RescueError)}
    for host, error in list(failed.items())[1:]:
        looked.progress.say(f"{host}: {error.seen}")
    if failed:
        raise next(iter(failed.values()))
    return [a for h in hosts if isinstance(a := answers[h], Done)]


def _one(looked: Looked, host: str, wish: Wish, recipient: dict[str, str] | None) -> Done:
    began = time.monotonic()
    fleet, say = looked.fleet, looked.progress.say
    asked: dict[str, Any] = {"archive": wish.archive, "bring": bool(wish.to), "encrypt": None}
    if recipient is not None:
        sent = _send_tool(looked, host, recipient["tool"])
        asked["encrypt"] = {**recipient, "program": sent}
    answer = fleet.call(
        host, "take_master_backup", asked, _SILENCE, lambda text: say(f"{host}: {text}")
    )
    found: MasterBackup = from_plain(MasterBackup, answer["backup"], f"backup of {host}")
    path = ""
    if wish.to:
        try:
            path = _bring(looked, host, answer, Path(wish.to).expanduser().absolute())
        finally:
            fleet.call(host, "let_go_master_archive", {"path": answer["archive"]}, _ANSWER)
    return Done(
        host, answer["directory"], "" if wish.to else answer["archive"], int(answer["size"]),
        str(answer["sha256"]), path, int(answer["files"]), round(time.monotonic() - began, 2),
        found,
    )  # fmt: skip


def _bring(looked: Looked, host: str, answer: dict[str, Any], folder: Path) -> str:
    """Fetch the archive, 0600, with its hash beside it; never over another file."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = Path(answer["archive"]).name
    target = folder / name
    if target.exists():
        raise Refused(f"{target} exists", "nothing is ever overwritten", "another --to DIR")
    size, digest = int(answer["size"]), str(answer["sha256"])
    fetch(looked.fleet.way(host), [Piece(answer["archive"], target, size, digest)],
          looked.progress.say)  # fmt: skip
    target.chmod(0o600)
    sums = folder / f"{name}.sha256"
    sums.write_text(f"{digest}  {name}\n")
    sums.chmod(0o600)
    return str(target)


def _recipient(given: str) -> dict[str, str] | None:
    """The recipient of an archive, as agents take it. Raises UsageError for what is no key."""
    if not given:
        return None
    if given.startswith(("age1", "ssh-")):
        return {"tool": "age", "key": given}
    path = Path(given).expanduser()
    if not path.is_file():
        raise UsageError(
            f"--encrypt-to {given[:40]!r} is neither a public key of age nor a file",
            "age1… or ssh-… is one; a file holds an armoured OpenPGP public key, or one of age",
        )
    text = path.read_text(errors="replace")
    if "BEGIN PGP PUBLIC KEY BLOCK" in text:
        return {"tool": "gpg", "key": text}
    lines = [x.strip() for x in text.splitlines() if x.strip() and not x.startswith("#")]
    if len(lines) == 1 and lines[0].startswith(("age1", "ssh-")):
        return {"tool": "age", "key": lines[0]}
    raise UsageError(f"{path} holds no public key of age or OpenPGP")


def _send_tool(looked: Looked, host: str, tool: str) -> str:
    """The `age` of this machine, sent to a host that may have none; empty where there is none here.

    gpg is not sent: it needs libraries that the host would have to have.
    """
    program = shutil.which(tool)
    if tool != "age" or program is None:
        return ""
    try:
        return upload(looked.fleet.way(host), Path(program), looked.progress.say)
    except (OSError, CommandFailed) as error:
        looked.progress.say(f"{host}: {tool} was not sent along: {error}")
        return ""


def told(rows: Sequence[Done]) -> None:
    """Print what backups came to, and which host has what only one master has."""
    for done in rows:
        found = done.backup
        place = done.path or done.archive or done.directory
        print(plain(f"backup of {done.host}: {place}, {done.files} files, {done.seconds:.1f} s"))
        if done.sha256:
            print(f"  sha256 {done.sha256}, {done.size / 2**20:.1f} MiB")
        if found.snapshot is not None:
            facts = found.snapshot
            print(f"  etcd: {facts.keys} keys at revision {facts.revision}; API 2: {found.v2}")
        for path in found.missing:
            print(plain(f"  not on this host: {path}"))
        for problem in found.problems:
            print(plain(f"  note: {problem}"))
    holders = {done.host: done.backup.ca_files for done in rows if done.backup.ca_files}
    for host, paths in holders.items():
        print(plain(f"only on one master, and it is {host}: {', '.join(paths)}"))
    if rows and not holders:
        print(
            "none of these hosts has ca.serial.txt or the CA directories: back the one up that has"
        )
