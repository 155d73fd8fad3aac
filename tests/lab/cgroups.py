"""Control groups: one per host in every hierarchy, so that the hosts' systemds do not meet."""

from __future__ import annotations

import os
from pathlib import Path

from tests.lab.paths import CGROUP_PREFIX, CGROUP_ROOT


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


def remove_leftovers() -> None:
    """Remove what labs that were killed have left behind; groups in use stay."""
    for hierarchy in _hierarchies():
        for group in hierarchy.glob(f"{CGROUP_PREFIX}*"):
            remove_tree(group)
