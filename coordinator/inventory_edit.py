"""The operator's Ansible inventory, changed as a plan's last act, with its own small journal.

Before the plan's first step the file's bytes and the new ones are written down under
$XDG_STATE_HOME/etcd-rescue/inventory/PLAN (0700), fsynced; after its last one the file is replaced,
and that written down. A run that was cut is finished by `fab resume`. What the file was is kept.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

from agent.errors import Damaged, Refused, UsageError
from coordinator.inventories.ansible import read_groups
from coordinator.inventories.edit_ini import named, without_host
from coordinator.inventories.groups import Groups

Say = Callable[[str], None]
PLANNED, DONE, DROPPED = "planned", "done", "dropped"


@dataclass(frozen=True)
class Edit:
    """What is to be done to an inventory. host: its name there; groups: that it leaves.

    before, after: sha256 of the file's bytes; lines: numbers of those that change. state: planned,
    done or dropped.
    """

    path: str
    host: str
    groups: tuple[str, ...]
    before: str
    after: str
    lines: tuple[int, ...]
    state: str = PLANNED


def state_folder() -> Path:
    """Where plans' edits are written down. Raises UsageError for a relative XDG_STATE_HOME."""
    home = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
    if not home.is_absolute():
        raise UsageError(f"XDG_STATE_HOME {str(home)!r} is not an absolute path")
    return home / "etcd-rescue" / "inventory"


def propose(
    path: Path, names: Collection[str], groups: Collection[str]
) -> tuple[Edit, bytes, bytes] | None:
    """(edit, bytes of now, bytes to be) of an ini inventory; None where nothing is to be done.

    names: by which the host is known. Raises UsageError for what cannot be read, Refused for an
    inventory in YAML and where the edit cannot be proved.
    """
    found = read_groups(path)
    known = [g for g in groups if g in found.groups]
    hosts = named(found, names, known)
    if not hosts:
        return None
    if len(hosts) > 1:
        raise Refused(
            f"{path}: {', '.join(hosts)} are all known as the host that leaves",
            "which lines are its own cannot be told",
            "take them out by hand, and leave --inventory away",
        )
    data = path.read_bytes()
    if path.suffix in (".yaml", ".yml", ".json") or _is_yaml(data, found):
        raise Refused(
            f"{path} is not in ini form",
            "only lines of an ini inventory are changed with certainty",
            f"take {hosts[0]} out of {', '.join(known)} by hand, and leave --inventory away",
        )
    text = data.decode()
    edited = without_host(text, str(path), hosts[0], known)
    after = edited.text.encode()
    if after == data:
        return None
    own = tuple(g for g in known if hosts[0] in found.groups[g].hosts)
    digest, new = sha256(data).hexdigest(), sha256(after).hexdigest()
    return Edit(str(path.resolve()), hosts[0], own, digest, new, edited.lines), data, after


def _is_yaml(data: bytes, found: Groups) -> bool:
    first = next((x for x in data.decode().splitlines() if x.strip() and x.strip()[0] != "#"), "")
    return not first.startswith("[") and first.rstrip().endswith(":") and bool(found.groups)


def write_down(plan: str, edit: Edit, before: bytes, after: bytes) -> None:
    """Keep an edit before the plan's first step; the file itself is not touched yet."""
    folder = state_folder() / plan
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(folder / "before", before)
    _write(folder / "after", after)
    _record(folder, edit)


def pending(plan: str) -> Edit | None:
    """The edit of a plan that is still to be done here. Raises Damaged for an unreadable record."""
    path = state_folder() / plan / "edit.json"
    if not path.exists():
        return None
    try:
        told = json.loads(path.read_text())
        edit = Edit(**{**told, "groups": tuple(told["groups"]), "lines": tuple(told["lines"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Damaged(f"{path}: {error}", "what was to be done to the inventory is not known",
                      "change it by hand") from None  # fmt: skip
    return edit if edit.state == PLANNED else None


def all_pending() -> list[str]:
    """IDs of plans that have an edit to be done here."""
    folder = state_folder()
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return [name for name in names if pending(name) is not None]


def carry_out(plan: str, say: Say) -> None:
    """Do what `write_down` kept of a plan, once; nothing where nothing is pending.

    Raises Refused where the file is neither as it was nor as it is to be.
    """
    edit = pending(plan)
    if edit is None:
        return
    folder, path = state_folder() / plan, Path(edit.path)
    now = sha256(path.read_bytes()).hexdigest() if path.exists() else "gone"
    if now not in (edit.before, edit.after):
        raise Refused(
            f"{path} was changed since the plan was made",
            "somebody's change is not thrown away; the hosts are done",
            f"take {edit.host} out of {', '.join(edit.groups)} by hand",
        )
    if now == edit.before:
        after = (folder / "after").read_bytes()
        if sha256(after).hexdigest() != edit.after:
            raise Damaged(f"{folder}/after is not what was written down", "", "edit it by hand")
        _replace(path, after)
    _record(folder, replace(edit, state=DONE))
    where = ", ".join(f"[{group}]" for group in edit.groups)
    say(f"{path}: {edit.host} is out of {where}; what it was: {folder}/before")


def drop(plan: str) -> None:
    """Forget what was not done yet: the plan was taken back."""
    edit = pending(plan)
    if edit is not None:
        _record(state_folder() / plan, replace(edit, state=DROPPED))


def _record(folder: Path, edit: Edit) -> None:
    _write(folder / "edit.json", json.dumps(asdict(edit), indent=1).encode())


def _write(path: Path, data: bytes) -> None:
    """Write a file of ours, 0600, whole or not at all, durable."""
    temp = path.with_name(f".{path.name}.new")
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        os.fsync(file.fileno())
    temp.rename(path)
    _sync(path.parent)


def _replace(path: Path, data: bytes) -> None:
    """Replace a file of the operator's: its owner, mode and link stay."""
    info = path.stat()
    temp = path.with_name(f".{path.name}.rescue")
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        if (info.st_uid, info.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(file.fileno(), info.st_uid, info.st_gid)
        os.fchmod(file.fileno(), info.st_mode & 0o7777)
        os.fsync(file.fileno())
    temp.rename(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
