"""Control groups: one per host in every hierarchy, so that the hosts' systemds do not meet."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TextIO

from tests.lab.paths import CACHE_DIR, CGROUP_PREFIX, CGROUP_ROOT

_CLAIMS = CACHE_DIR / ".claims"


def _hierarchies() -> list[Path]:
    if (CGROUP_ROOT / "cgroup.procs").exists():
        return [CGROUP_ROOT]
    return [
        p for p in CGROUP_ROOT.iterdir() if not p.is_symlink() and (p / "cgroup.procs").exists()
    ]


def _inherit_cpuset(group: Path) -> None:
    """A new cpuset of version 1 is empty, and nothing can enter it before it is filled."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        file = group / name
        if file.exists() and not file.read_text().strip():
            file.write_text((group.parent / name).read_text())


def create(name: str) -> list[Path]:
    """Make the groups of this name (like `lab/host`) in every hierarchy."""
    made = []
    for hierarchy in _hierarchies():
        group = hierarchy
        for part in name.split("/"):
            group /= part
            group.mkdir(exist_ok=True)
            _inherit_cpuset(group)
        made.append(group)
    return made


def enter(groups: list[Path]) -> None:
    """Move the calling process into these groups."""
    for group in groups:
        (group / "cgroup.procs").write_text("0")


def leave() -> None:
    """Move the calling process to the top of every hierarchy."""
    enter(_hierarchies())


def remove_tree(top: Path) -> bool:
    """Remove a group and those below it; False where a process is still in one of them."""
    gone = True
    for folder, _, _ in os.walk(top, topdown=False):
        try:
            Path(folder).rmdir()
        except OSError:
            gone = False
    return gone


def remove(name: str) -> bool:
    """Remove the groups of this name from every hierarchy; False where one is still in use."""
    gone = [remove_tree(hierarchy / name) for hierarchy in _hierarchies()]
    return all(gone)


def claim(name: str) -> TextIO:
    """Keep a name for a lab: as long as the file is open, nobody takes its groups for leftovers.

    A lock, and not a process number, because labs may live in each other's pid namespaces.
    """
    _CLAIMS.mkdir(parents=True, exist_ok=True)
    file = (_CLAIMS / name).open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def _is_claimed(name: str) -> bool:
    try:
        with (_CLAIMS / name).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def remove_leftovers() -> None:
    """Remove what labs that were killed have left behind."""
    for hierarchy in _hierarchies():
        for group in hierarchy.glob(f"{CGROUP_PREFIX}*"):
            if not _is_claimed(group.name):
                remove_tree(group)
    for file in _CLAIMS.glob(f"{CGROUP_PREFIX}*"):
        if not _is_claimed(file.name):
            file.unlink(missing_ok=True)
