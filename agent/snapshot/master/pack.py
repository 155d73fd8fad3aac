"""One archive of a master's backup, 0600, encrypted where the operator says for whom."""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass

from agent.actions.base import Context
from agent.actions.binary import copy_in
from agent.errors import CommandFailed, Refused, UsageError
from agent.host import STATE_DIR, Host
from agent.host.new_tree import NewTree
from agent.platforms import detect
from agent.snapshot.bulk import INCOMING
from agent.snapshot.master.model import MANIFEST, SUMS, MasterBackup, MasterFile

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Recipient:
    """For whom an archive is encrypted. tool: age or gpg.

    key: age's public key (age1…, ssh-ed25519 …), or an OpenPGP public key, armoured. program: an
    `age` that the operator sent along; empty: the host's own.
    """

    tool: str
    key: str
    program: str = ""


def recipient_from(told: object) -> Recipient:
    """{"tool", "key", "program"} of a request. Raises UsageError."""
    fields = told if isinstance(told, dict) else {}
    tool, key, program = (fields.get(n, "") for n in ("tool", "key", "program"))
    if tool not in ("age", "gpg") or not isinstance(key, str) or not isinstance(program, str):
        raise UsageError("a recipient is {tool: age or gpg, key, program}")
    if not key.strip() or (tool == "age" and "\n" in key.strip()):
        raise UsageError("the recipient's key is empty, or no key of one line")
    return Recipient(tool, key.strip(), program)


def pack(host: Host, directory: str, found: MasterBackup, target: str) -> str:
    """Write `target`/NAME.tar.gz of the backup in `directory`; its path. `target` must be new.

    Members are regular files and directories, with the owners and modes that the host has; links
    are in the manifest alone, as the archive's reader takes none.
    """
    name = f"{found.name}.tar.gz"
    extras = [
        MasterFile(n, "file", mtime=found.time, size=host.stat(f"{directory}/{n}").st_size)
        for n in (MANIFEST, SUMS)
    ]
    with (
        NewTree(host, target) as tree,
        tree.file(name) as out,
        tarfile.open(fileobj=out, mode="w:gz", format=tarfile.PAX_FORMAT) as tar,
    ):
        for row in (*extras, *found.files):
            if row.kind != "link":
                _add(host, tar, directory, found.name, row)
    return f"{target}/{name}"


def _add(host: Host, tar: tarfile.TarFile, directory: str, top: str, row: MasterFile) -> None:
    info = tarfile.TarInfo(f"{top}/{row.path}")
    info.mode, info.uid, info.gid, info.mtime = row.mode, row.uid, row.gid, int(row.mtime)
    if row.kind == "directory":
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
        return
    info.size = row.size
    with host.open(f"{directory}/{row.path}") as file:
        tar.addfile(info, file)


def encrypt(host: Host, path: str, to: Recipient) -> str:
    """Encrypt the archive for one recipient; the path of the new file, beside it.

    Raises Refused where the host has no such tool, CommandFailed where it does not take the key.
    """
    return _age(host, path, to) if to.tool == "age" else _gpg(host, path, to)


def _age(host: Host, path: str, to: Recipient) -> str:
    program = host.which("age") or (_sent(host, to.program) if to.program else "")
    if not program:
        raise _no_tool(host, "age")
    host.run([program, "--encrypt", "--recipient", to.key, "--output", f"{path}.age", path], 3600)
    return f"{path}.age"


def _sent(host: Host, path: str) -> str:
    """Put an `age` that came with the request where it can be run."""
    if not path.startswith(f"{INCOMING}/") or ".." in path:
        raise Refused(f"{path!r} was not sent along", "no other program is run")
    ctx = Context(host, detect(host), "backup", "age", lambda _text: None)
    target = f"{STATE_DIR}/bin/age/age"
    copy_in(ctx, path, target)
    return target


def _gpg(host: Host, path: str, to: Recipient) -> str:
    """In a keyring of its own: nothing of the host's is asked, and nothing is left in it."""
    program = host.which("gpg") or host.which("gpg2")
    if not program:
        raise _no_tool(host, "gpg")
    home = f"{path}.keys"
    host.makedirs(home)
    try:
        return _gpg_in(host, program, home, path, to.key)
    finally:
        host.discard(home)


def _gpg_in(host: Host, program: str, home: str, path: str, key: str) -> str:
    base = [program, "--batch", "--no-tty", "--homedir", home]
    words = ["--trust-model", "always", "--output", f"{path}.gpg"]
    if " 2.0." in host.run([program, "--version"]).stdout.partition("\n")[0]:
        host.run([*base, "--import"], timeout=60, input=key.encode())
        listed = host.run([*base, "--with-colons", "--fingerprint"], timeout=60).stdout
        prints = [row.split(":")[9] for row in listed.splitlines() if row.startswith("fpr:")]
        if not prints:
            raise CommandFailed("gpg found no public key in what was given as the recipient")
        words += ["--recipient", prints[0]]
    else:  # an import would start a daemon, which stays
        host.write_atomic(f"{home}/recipient.asc", key.encode())
        words += ["--no-autostart", "--recipient-file", host.real(f"{home}/recipient.asc")]
    host.run([*base, *words, "--encrypt", path], timeout=3600)
    return f"{path}.gpg"


def _no_tool(host: Host, tool: str) -> Refused:
    return Refused(
        f"{host.hostname()} has no `{tool}`, and none was sent along",
        "the archive holds private keys, and is encrypted before it leaves the host or not at all",
        f"install {tool} there; with age on this machine it is sent along by itself",
    )


def digest_of(host: Host, path: str) -> tuple[int, str]:
    """(bytes, sha256) of a file of ours."""
    digest, size = hashlib.sha256(), 0
    with host.open(path) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()
