"""Builds the runtime that hosts without a usable Python get: `make runtime`.

One file for a machine, dist/etcd-rescue-runtime-MACHINE.tar.xz, out of the Debian packages that
runtime.lock names to the bit; beside it what delivery must know of it, and its tree. What was built
is kept under its recipe's hash: a second call costs milliseconds.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import lzma
import os
import platform
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.errors import CommandFailed, RescueError
from coordinator.agent_file import PROJECT
from coordinator.runtime_file import LOADERS, RuntimeFile, describe, find_runtime, stem, to_json
from images import runtime_packages as packages
from images import runtime_tree as trees

OUTPUT = PROJECT / "dist"
_PRESET = 6
"""Of xz. 9 costs twice the time and eight times a host's memory, and saves nothing at this size."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Built:
    """A runtime that was built: the file, and its tree as a directory (read it, never change it).

    loader, python: paths inside the tree. `[tree/loader, "--inhibit-cache", "--library-path",
    tree/lib, tree/python, …]` starts it without a shell; tree/bin/python3 does it with one.
    """

    file: RuntimeFile
    tree: Path
    loader: str
    python: str = "bin/python3.11"

    @property
    def archive(self) -> Path:
        """The .tar.xz."""
        return self.file.path

    def argv(self, home: str = "") -> list[str]:
        """What starts its interpreter where the tree lies at `home` (default: here)."""
        top = home or str(self.tree)
        return [
            f"{top}/{self.loader}", "--inhibit-cache", "--library-path", f"{top}/lib",
            f"{top}/{self.python}",
        ]  # fmt: skip


def build(
    machine: str = "",
    output: Path = OUTPUT,
    *,
    force: bool = False,
    newest: bool = False,
    snapshot: str = "",
    say: Say = lambda _: None,
) -> Built:
    """The runtime for a machine (`uname -m`; default: like this one), built where it is stale.

    newest: of the mirror's packages and not the locked ones. snapshot: see runtime_packages.fetch.
    The same packages give the same tree, to the bit. Needs a Debian with apt and its network, and
    root for neither. Raises UsageError, Refused, CommandFailed.
    """
    machine = machine or platform.machine()
    output.mkdir(parents=True, exist_ok=True)
    with (output / f".{stem(machine)}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        recipe = _recipe_hash(machine, newest)
        if not force and (known := _known(machine, output, recipe)):
            return known
        with tempfile.TemporaryDirectory(dir=output, prefix=".build-") as name:
            return _build(machine, output, _Work(Path(name), newest, snapshot, say), recipe)


def build_for_tests(machine: str = "", output: Path = OUTPUT, say: Say = lambda _: None) -> Built:
    """The locked runtime; of the mirror's newest packages where it has the locked ones no more."""
    machine = machine or platform.machine()
    for newest in (False, True):
        if known := _known(machine, output, _recipe_hash(machine, newest)):
            return known
    try:
        return build(machine, output, say=say)
    except packages.Superseded as error:
        say(str(error))
        return build(machine, output, newest=True, say=say)


def built(machine: str = "", output: Path = OUTPUT) -> Built | None:
    """The runtime that was built last, whatever of; None where there is none."""
    machine = machine or platform.machine()
    found, tree = find_runtime(machine, output), output / stem(machine)
    return Built(found, tree, LOADERS[machine]) if found and tree.is_dir() else None


def _known(machine: str, output: Path, recipe: str) -> Built | None:
    found = built(machine, output)
    if found is None:
        return None
    memory = json.loads((output / f"{stem(machine)}.json").read_text())
    return found if memory.get("recipe") == recipe else None


def _recipe_hash(machine: str, newest: bool) -> str:
    """Of all that decides what comes out."""
    state = hashlib.sha256(f"{machine} {newest} {_PRESET}\n".encode())
    here = Path(__file__).parent
    for name in ("runtime.py", "runtime_tree.py", "runtime_packages.py", "runtime.lock"):
        state.update((here / name).read_bytes())
    return state.hexdigest()


@dataclass(frozen=True)
class _Work:
    """One build: what of, and the directory that it happens in."""

    folder: Path
    newest: bool
    snapshot: str
    say: Say

    def packages(self, machine: str) -> Path:
        """The packages for a machine, downloaded once."""
        debs = self.folder / f"debs-{machine}"
        if not debs.is_dir():
            debs.mkdir()
            self.say(f"getting the runtime's packages for {machine}")
            lock = None if self.newest else packages.read_lock()
            packages.fetch(machine, debs, lock, self.snapshot)
        return debs

    def unpacked(self, machine: str) -> Path:
        """The packages for a machine, unpacked into one tree."""
        unpacked = self.folder / f"unpacked-{machine}"
        if not unpacked.is_dir():
            unpacked.mkdir()
            packages.unpack(self.packages(machine), unpacked)
        return unpacked


def _make_tree(machine: str, work: _Work, tree: Path) -> None:
    """The tree for a machine.

    The standard library is compiled by the interpreter of this machine's packages, which are of
    the same version: compiled modules are the same everywhere.
    """
    here = platform.machine()
    if here not in LOADERS:
        raise CommandFailed(f"a runtime can be built on {', '.join(LOADERS)}, not on {here}")
    unpacked = work.unpacked(machine)
    trees.lay_out(unpacked, tree, machine)
    stdlib = unpacked / "usr/lib/python3.11"
    trees.compile_modules(stdlib, _compiler(work.unpacked(here)))
    trees.zip_modules(stdlib, tree / "lib/python311.zip")
    trees.write_papers(unpacked, tree, packages.described(work.packages(machine)))
    trees.check_machine(tree, machine)
    trees.write_sums(tree)


def _build(machine: str, output: Path, work: _Work, recipe: str) -> Built:
    tree, archive = work.folder / "tree", output / f"{stem(machine)}.tar.xz"
    _make_tree(machine, work, tree)
    work.say(f"packing the runtime for {machine}")
    pack(tree, work.folder / archive.name)
    memory, home = output / f"{stem(machine)}.json", output / stem(machine)
    memory.unlink(missing_ok=True)  # what is half replaced is nobody's
    (work.folder / archive.name).replace(archive)
    file = describe(machine, archive, tree)
    shutil.copyfile(tree / "bin/busybox", file.busybox)
    shutil.rmtree(home, ignore_errors=True)
    tree.rename(home)
    (work.folder / "json").write_text(to_json(file, recipe=recipe))
    (work.folder / "json").replace(memory)
    return Built(file, home, LOADERS[machine])


def _compiler(unpacked: Path) -> list[str]:
    """The interpreter of unpacked packages for this machine, where Debian has its parts."""
    here = platform.machine()
    folders = [str(path) for path in trees.library_folders(unpacked, here)]
    loader = trees.find(Path(LOADERS[here]).name, unpacked, here)
    python = unpacked / "usr/bin/python3.11"
    return [str(loader), "--inhibit-cache", "--library-path", ":".join(folders), str(python)]


def pack(tree: Path, archive: Path) -> None:
    """The tree as .tar.xz: sorted, without owners and times, so that equal trees are equal bytes.

    Equal to the bit among builds with the same liblzma; the tree is so everywhere.
    """
    filters = [{"id": lzma.FILTER_LZMA2, "preset": _PRESET}]
    with (
        lzma.open(archive, "wb", check=lzma.CHECK_CRC32, filters=filters) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for path in sorted(tree.rglob("*")):
            tar.add(path, str(path.relative_to(tree)), recursive=False, filter=_nobodys)


def _nobodys(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = "root"
    info.mode = 0o755 if info.mode & 0o100 else 0o644
    return info


def main(argv: list[str] | None = None) -> int:
    """`python -m images.runtime`."""
    parser = argparse.ArgumentParser(prog="python -m images.runtime", description=__doc__)
    parser.add_argument("machines", nargs="*", metavar="MACHINE", help="x86_64, aarch64; or all")
    parser.add_argument("--force", action="store_true", help="build even what is there")
    parser.add_argument("--newest", action="store_true", help="of the mirror's packages of today")
    parser.add_argument("--snapshot", default="", metavar="TIME", help="of snapshot.debian.org's")
    parser.add_argument("--lock", action="store_true", help="write runtime.lock anew, and end")
    asked = parser.parse_args(argv)
    machines = asked.machines or [platform.machine()]
    machines = list(packages.ARCHITECTURES) if machines == ["all"] else machines
    say = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    try:
        if asked.lock:
            _lock(asked.snapshot)
            return 0
        for machine in machines:
            made = build(
                machine, force=asked.force, newest=asked.newest, snapshot=asked.snapshot, say=say
            )
            file = made.file
            print(f"{os.path.relpath(file.path)} {file.size} bytes sha256 {file.sha256}")
            print(f"  tree {file.tree_id}")
    except RescueError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _lock(snapshot: str) -> None:
    found = []
    for machine in packages.ARCHITECTURES:
        with tempfile.TemporaryDirectory(prefix="etcd-rescue-lock.") as name:
            packages.fetch(machine, Path(name), None, snapshot)
            architecture = packages.ARCHITECTURES[machine]
            found += [p for p in packages.described(Path(name)) if p.architecture == architecture]
    packages.write_lock(found)


if __name__ == "__main__":
    sys.exit(main())
