"""A broken cluster, kept as the disks of its hosts, so that each trial begins with a boot."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab import network
from tests.lab import syscalls as sys_
from tests.lab.commands import run
from tests.lab.host import Host
from tests.lab.lab import Lab


def _parts(host: Host) -> list[str]:
    return ["upper", "containerd", *(f"store-{n}" for n in range(len(host.disk.more_stores)))]


@dataclass
class Checkpoint:
    """The disks of a lab without volumes, and which of its hosts had power."""

    lab: Lab
    up: list[str] = field(default_factory=list)

    @classmethod
    def take(cls, lab: Lab) -> Checkpoint:
        """Cut the power of all hosts and keep their disks as they are then."""
        found = cls(lab, [host.name for host in lab.machines if host.is_up])
        _each(lab, found._keep)
        return found

    def _keep(self, host: Host) -> None:
        host.power_cut()
        _unmount(host)
        for part in _parts(host):
            kept = host.disk.top / f"kept-{part}"
            shutil.rmtree(kept, ignore_errors=True)
            (host.disk.top / part).rename(kept)

    def restore(self) -> None:
        """Bring the disks back, and boot the hosts that had power."""
        _each(self.lab, self._bring_back)

    def _bring_back(self, host: Host) -> None:
        host.power_cut()
        network.heal(host.name)
        top = host.disk.top
        _unmount(host)
        for part in (*_parts(host), "work"):
            shutil.rmtree(top / part, ignore_errors=True)
        (top / "work").mkdir()
        for part in _parts(host):
            run(["cp", "-a", "--sparse=always", top / f"kept-{part}", top / part])
        _mount(host, top)
        if host.name in self.up:
            host.boot(wait=False)


def _unmount(host: Host) -> None:
    if os.path.ismount(host.disk.root):
        sys_.umount(str(host.disk.root))


def _mount(host: Host, top: Path) -> None:
    overlay = f"lowerdir={host.disk.base},upperdir={top / 'upper'},workdir={top / 'work'}"
    sys_.mount("overlay", str(host.disk.root), "overlay", 0, overlay)


def _each(lab: Lab, act: object) -> None:
    assert callable(act)
    with ThreadPoolExecutor(len(lab.machines)) as pool:
        list(pool.map(act, lab.machines))
