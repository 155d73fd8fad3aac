"""The carried runtime as the coordinator finds it: one file for a machine, made beforehand.

`make runtime` (images/runtime.py) makes it; nothing is built or downloaded while a rescue runs.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from coordinator.agent_file import PROJECT

RUNTIME_DIR = "ETCD_RESCUE_RUNTIME_DIR"
"""The variable that names another directory to look for runtimes in."""

SUMS = "SHA256SUMS"
DIRECTORIES = ("bin", "lib", "lib/python3.11", "lib/python3.11/lib-dynload")
"""Every directory of a runtime's tree, below its top."""

LOADERS = {"x86_64": "lib/ld-linux-x86-64.so.2", "aarch64": "lib/ld-linux-aarch64.so.1"}
"""Machine, as `uname -m` says it → the tree's own program loader."""


@dataclass(frozen=True)
class RuntimeFile:
    """A runtime: a .tar.xz, and what the tree in it must be.

    machine: as `uname -m` says it. tree_id: sha256 of the tree's SHA256SUMS, which names it on
    hosts. sha256, size: of the archive. entries: how many names the tree's directories hold.
    busybox_sha256, busybox_size: of bin/busybox, the one program that a host must be able to run
    before it can unpack the rest.
    """

    machine: str
    path: Path
    sha256: str
    size: int
    tree_id: str
    entries: int
    busybox_sha256: str
    busybox_size: int

    @property
    def busybox(self) -> Path:
        """bin/busybox of the tree, beside the archive."""
        return self.path.with_name(f"{stem(self.machine)}-busybox")


def stem(machine: str) -> str:
    """How the files of a machine's runtime begin."""
    return f"etcd-rescue-runtime-{machine}"


def directory() -> Path:
    """Where runtimes lie: as the environment says, else `dist/` of the project."""
    return Path(os.environ.get(RUNTIME_DIR) or PROJECT / "dist")


def find_runtime(machine: str, where: Path | None = None) -> RuntimeFile | None:
    """The runtime for a machine; None where there is none, or it is no more what was built."""
    path = (where or directory()) / f"{stem(machine)}.tar.xz"
    try:
        told = json.loads(path.with_name(f"{stem(machine)}.json").read_text())
        found = RuntimeFile(path=path, **{key: told[key] for key in _FIELDS})
        is_whole = path.stat().st_size == found.size
        is_whole &= found.busybox.stat().st_size == found.busybox_size
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if is_whole and found.machine == machine else None


def find_runtimes(where: Path | None = None) -> list[RuntimeFile]:
    """The runtimes that there are."""
    return [found for machine in LOADERS if (found := find_runtime(machine, where))]


_FIELDS = tuple(name for name in RuntimeFile.__dataclass_fields__ if name != "path")


def describe(machine: str, archive: Path, tree: Path) -> RuntimeFile:
    """What is to be known about an archive and the tree that it was made of."""
    data, busybox = archive.read_bytes(), (tree / "bin/busybox").read_bytes()
    return RuntimeFile(
        machine=machine,
        path=archive,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        tree_id=hashlib.sha256((tree / SUMS).read_bytes()).hexdigest(),
        entries=sum(1 for _ in tree.rglob("*")),
        busybox_sha256=hashlib.sha256(busybox).hexdigest(),
        busybox_size=len(busybox),
    )


def to_json(runtime: RuntimeFile, **more: str) -> str:
    """The text that find_runtime reads, and `more` beside it."""
    told = {key: value for key, value in asdict(runtime).items() if key != "path"}
    return json.dumps({**told, **more}, indent=1) + "\n"
