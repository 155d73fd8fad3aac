"""Requests, and the console's verb, about backups of a master: take one, look at a file, let go."""

from __future__ import annotations

import argparse
import base64
import json
import stat
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Optional

from agent.errors import Refused, UsageError
from agent.host import STATE_DIR, Host
from agent.model.codec import to_plain
from agent.model.facts import EtcdConfig

if TYPE_CHECKING:
    from agent.snapshot.master.pack import Recipient

BACKUPS = "/backup"
WORK = f"{STATE_DIR}/work/master"
Say = Callable[[str], None]
Args = dict[str, Any]
_MAX_SHOWN = 1024 * 1024


def take_master_backup(host: Host, args: Args, say: Say) -> Any:
    """Take a master's backup: {"archive", "bring": bools, "encrypt": recipient or null}.

    Gives {"directory": on this host or "", "archive": one of ours to be fetched, or on this host,
    or "", "size", "sha256": of the archive, "backup": MasterBackup}. archive: one file in /backup
    in place of a directory; bring: one file to be fetched and then let go.
    """
    from agent.snapshot.master.pack import recipient_from

    to = recipient_from(args["encrypt"]) if args.get("encrypt") else None
    archive, bring = args.get("archive") is True, args.get("bring") is True
    if to and not (archive or bring):
        raise UsageError("only an archive is encrypted", next="--archive, or --to DIR")
    return _take(host, archive, bring, to, say)


def _take(host: Host, archive: bool, bring: bool, to: Optional[Recipient], say: Say) -> Any:
    from agent.snapshot.master.pack import digest_of, encrypt, pack
    from agent.snapshot.master.take import new_name, take_master

    folder = f"{BACKUPS}/{host.hostname()}"
    work = f"{WORK}/{int(host.now() * 1000)}"
    name = _archive_name(host) if archive else new_name(host, folder)
    if archive:
        folder = f"{work}/tree"
    found = take_master(host, folder, name, _etcdctl, say)
    answer = {"directory": f"{folder}/{name}", "archive": "", "size": 0, "sha256": ""}
    if archive or bring:
        host.makedirs(work)
        path = pack(host, f"{folder}/{name}", found, f"{work}/out")
        if to is not None:
            say(f"encrypting with {to.tool}")
            path = encrypt(host, path, to)
        if archive:
            answer["directory"] = ""
        if archive and not bring:
            path = _keep(host, path)
        size, digest = digest_of(host, path)
        answer.update(archive=path, size=size, sha256=digest)
        if archive and not bring:
            host.discard(work)
    short = replace(found, files=())  # its rows may be thousands, and the answer is for a person
    return {**answer, "backup": to_plain(short), "files": len(found.files)}


def _archive_name(host: Host) -> str:
    """DATE or DATE-2, … for which /backup has no archive of this host."""
    from agent.snapshot.master.take import new_name

    names = {n.partition(".")[0] for n in host.listdir(BACKUPS)}
    day = new_name(host, "/nowhere-at-all")
    prefix = f"{host.hostname()}-"
    tries = (day, *(f"{day}-{i}" for i in range(2, 1000)))
    return next(n for n in tries if f"{prefix}{n}".partition(".")[0] not in names)


def _keep(host: Host, path: str) -> str:
    """Put an archive into /backup under its name, 0600, never over another."""
    host.makedirs(BACKUPS)
    name = path.rpartition("/")[2]
    temp, target = f"{BACKUPS}/.{name}.part-{int(host.now())}", f"{BACKUPS}/{name}"
    host.copy_file(path, temp)
    host.rename_new(temp, target)
    return target


def _etcdctl(host: Host, config: EtcdConfig) -> str:
    from agent.actions.base import Context
    from agent.entry.etcdctl import find_etcdctl
    from agent.platforms import detect

    ctx = Context(host, detect(host), "etcdctl", "etcdctl", lambda _text: None)
    return find_etcdctl(ctx, config)[0]


def let_go_master_archive(host: Host, args: Args, say: Say) -> Any:
    """Take away an archive that was fetched: {"path"} → null."""
    path = args.get("path")
    if not isinstance(path, str) or not path.startswith(f"{WORK}/") or ".." in path:
        raise Refused(f"{path!r} is no archive of ours", "nothing else is taken away")
    host.discard("/".join(path.split("/")[: WORK.count("/") + 2]))


def look_at_master_file(host: Host, args: Args, say: Say) -> Any:
    """What is at a path now: {"path"} → {"kind", "sha256", "mode", "uid", "gid", "data"}.

    data: base64 of a file of at most 1 MiB, else "". Only paths that backups of masters have.
    """
    from agent.platforms.openshift311 import BACKED_UP
    from agent.snapshot.master.sources import kind_of

    path = args.get("path")
    inside = isinstance(path, str) and any(path == r or path.startswith(f"{r}/") for r in BACKED_UP)
    if not isinstance(path, str) or not inside or ".." in path.split("/"):
        raise Refused(f"{path!r} is in no backup of a master", "no other file is looked at")
    kind = kind_of(host, path)
    answer = {"kind": kind, "sha256": "", "mode": 0, "uid": 0, "gid": 0, "data": ""}
    if kind != "file":
        return answer
    info = host.stat(path)
    data = host.read_bytes(path, 64 * _MAX_SHOWN)
    answer.update(
        sha256=sha256(data).hexdigest(), mode=stat.S_IMODE(info.st_mode), uid=info.st_uid,
        gid=info.st_gid,
        data=base64.b64encode(data).decode() if len(data) <= _MAX_SHOWN else "",
    )  # fmt: skip
    return answer


MASTER_REQUESTS = {
    f.__name__: f for f in (take_master_backup, let_go_master_archive, look_at_master_file)
}


# ---- at a console --------------------------------------------------------------------------------


def add_verbs(verbs: Any, say: Say) -> None:
    """Add `backup-master` to the console's verbs."""
    verb = verbs.add_parser("backup-master", help="OpenShift 3.11: back this master up to /backup")
    verb.add_argument("--archive", action="store_true", help="one .tar.gz in place of a directory")
    verb.add_argument("--age-recipient", default="", help="encrypt it for this public key of age")
    verb.set_defaults(run=lambda args, host: _backup(args, host, say))


def _backup(args: argparse.Namespace, host: Host, say: Say) -> None:
    to = {"tool": "age", "key": args.age_recipient} if args.age_recipient else None
    asked = {"archive": args.archive or bool(to), "encrypt": to}
    print(json.dumps(take_master_backup(host, asked, say), indent=2))
