"""Sets on a host: staged until they are safe elsewhere, or kept there."""

from __future__ import annotations

from agent.errors import Refused
from agent.host import STATE_DIR, Host
from agent.snapshot.verify import Say

STAGING = f"{STATE_DIR}/work/snapshot"
BACKUPS = f"{STATE_DIR}/backup"
_STALE_SECONDS = 6 * 3600.0


def discard_set(host: Host, name: str) -> None:
    """Take a staged set away, once it is safe elsewhere."""
    host.discard(f"{STAGING}/{checked_name(name)}")


def keep_set(host: Host, name: str) -> str:
    """Move a staged set to where sets are kept on this host; its path there."""
    host.makedirs(BACKUPS)
    target = f"{BACKUPS}/{checked_name(name)}"
    host.rename_new(f"{STAGING}/{name}", target)
    return target


def staged_path(host: Host, name: str) -> str:
    """The directory of a staged set. Raises Refused where there is none."""
    path = f"{STAGING}/{checked_name(name)}"
    if not host.is_dir(path):
        raise Refused(f"{host.hostname()}: no staged backup set {name}", next="fab snapshot")
    return path


def checked_name(name: str) -> str:
    """The name, if it may be one of a set. Raises Refused."""
    if not name or "/" in name or name.startswith("."):
        raise Refused(f"{name!r} is not the name of a backup set")
    return name


def discard_stale(host: Host, say: Say) -> None:
    """Take away what interrupted runs left some hours ago."""
    for name in host.listdir(STAGING):
        path = f"{STAGING}/{name}"
        if host.now() - host.stat(path).st_mtime > _STALE_SECONDS:
            say(f"taking away {path}: left by an interrupted run")
            host.discard(path)
