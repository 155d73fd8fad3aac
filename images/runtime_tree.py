"""The runtime's tree, laid out of unpacked packages: an interpreter that needs nothing of a host.

    SHA256SUMS                 of every other file; its own sha256 names the tree
    PACKAGES COPYRIGHT         what it is made of, and under which terms
    bin/python3                starts the interpreter through its own loader
    bin/python3.11 bin/busybox
    lib/ld-linux-*.so.* lib/*.so.*
    lib/python311.zip          the standard library, compiled
    lib/python3.11/os.py       by which the interpreter finds its home
    lib/python3.11/lib-dynload/*.so

Few files and no links, so that checking it all is one run of sha256sum, and `entries` shows
that there is nothing else in it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from agent.errors import CommandFailed, Refused
from coordinator.runtime_file import DIRECTORIES, LOADERS, SUMS
from images.runtime_packages import Package

TRIPLETS = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu"}

LIBRARIES = (
    "libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1",
    "libgcc_s.so.1", "libexpat.so.1", "libz.so.1", "libssl.so.3", "libcrypto.so.3", "libffi.so.8",
    "libbz2.so.1.0", "liblzma.so.5", "libuuid.so.1",
)  # fmt: skip

_NO_MODULES = {
    "test", "idlelib", "tkinter", "turtle", "turtledemo", "pydoc_data", "lib2to3", "distutils",
    "ensurepip", "venv", "curses", "dbm", "sqlite3", "antigravity", "this", "LICENSE",
    "sitecustomize",
}  # fmt: skip
"""Of no use here, or without the library they need. sitecustomize: Debian's own, for apport."""

_NO_EXTENSIONS = (
    "_test", "_xxtest", "xxlimited", "_ctypes_test", "_curses", "_crypt", "_dbm", "_sqlite3",
    "nis", "readline", "ossaudiodev", "_codecs_",
)  # fmt: skip
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)

_LAUNCHER = """\
#!/bin/sh
# Starts the interpreter with its own loader and libraries; nothing of the host's is used.
case $0 in */*) home=${{0%/*}}/.. ;; *) home=.. ;; esac
export OPENSSL_CONF=/dev/null
exec "$home/{loader}" --inhibit-cache --library-path "$home/lib" "$home/bin/python3.11" "$@"
"""

_COMPILE = """
import py_compile, sys
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
for line in sys.stdin:
    source, name = line.rstrip("\\n").split("\\t")
    py_compile.compile(source, source + "c", name, doraise=True, invalidation_mode=mode)
"""


def lay_out(unpacked: Path, tree: Path, machine: str) -> None:
    """Put everything but the standard library's zip and SHA256SUMS into `tree`."""
    for folder in DIRECTORIES:
        (tree / folder).mkdir(parents=True, exist_ok=True)
    loader = Path(LOADERS[machine])
    _copy(find(loader.name, unpacked, machine), tree / loader, 0o755)
    for name in LIBRARIES:
        _copy(find(name, unpacked, machine), tree / "lib" / name)
    _copy(unpacked / "usr/bin/python3.11", tree / "bin/python3.11", 0o755)
    _copy(unpacked / "bin/busybox", tree / "bin/busybox", 0o755)
    stdlib = unpacked / "usr/lib/python3.11"
    _copy(stdlib / "os.py", tree / "lib/python3.11/os.py")
    for path in sorted((stdlib / "lib-dynload").glob("*.so")):
        if not path.name.startswith(_NO_EXTENSIONS):
            _copy(path, tree / "lib/python3.11/lib-dynload" / path.name)
    (tree / "bin/python3").write_text(_LAUNCHER.format(loader=loader))
    (tree / "bin/python3").chmod(0o755)


def library_folders(unpacked: Path, machine: str) -> list[Path]:
    """Where Debian's packages have their libraries."""
    triplet = TRIPLETS[machine]
    return [unpacked / place for place in ("lib", f"lib/{triplet}", f"usr/lib/{triplet}")]


def find(name: str, unpacked: Path, machine: str) -> Path:
    """A library's file. Raises Refused where no package has it."""
    for directory in library_folders(unpacked, machine):
        if (directory / name).exists():
            return (directory / name).resolve()
    raise Refused(f"none of the packages has {name}", "the runtime would not start without it")


def write_papers(unpacked: Path, tree: Path, packages: Iterable[Package]) -> None:
    """PACKAGES, and COPYRIGHT with the terms of each package in it."""
    packages = list(packages)
    rows = [f"{p.architecture} {p.name} {p.version} {p.sha256}\n" for p in packages]
    (tree / "PACKAGES").write_text("".join(rows))
    texts = []
    for package in packages:
        path = unpacked / "usr/share/doc" / package.name / "copyright"
        if path.is_file():
            texts.append(f"==== {package.name} {package.version}\n\n{path.read_text()}\n")
    (tree / "COPYRIGHT").write_text("".join(texts))


# ---- the standard library ------------------------------------------------------------------------


def modules(stdlib: Path) -> list[Path]:
    """The modules that are carried, relative to the standard library's directory."""
    found = []
    for path in sorted(stdlib.rglob("*.py")):
        relative = path.relative_to(stdlib)
        top = relative.parts[0].removesuffix(".py")
        is_test = {"test", "tests", "idle_test"} & set(relative.parts)
        if top not in _NO_MODULES and not is_test and top != "lib-dynload":
            found.append(relative)
    return found


def compile_modules(stdlib: Path, python: list[str]) -> None:
    """Make x.pyc beside every x.py, with an interpreter of that very version.

    The same bytes wherever and whenever: no time is in them, and the place is said to be <runtime>.
    Raises CommandFailed.
    """
    rows = [f"{stdlib / m}\t<runtime>/{m}\n" for m in modules(stdlib)]
    done = subprocess.run(
        [*python, "-s", "-S", "-c", _COMPILE], input="".join(rows), capture_output=True,
        text=True, check=False, env={"PYTHONHASHSEED": "0"},
    )  # fmt: skip
    if done.returncode != 0:
        raise CommandFailed("the standard library cannot be compiled", done.stderr[-1000:])


def zip_modules(stdlib: Path, target: Path) -> None:
    """The compiled modules as one zip; equal content gives equal bytes."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for relative in modules(stdlib):
            info = zipfile.ZipInfo(f"{relative}c", _ZIP_TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o100644 << 16
            archive.writestr(info, (stdlib / f"{relative}c").read_bytes())


# ---- what kind of machine it is for --------------------------------------------------------------

_MACHINES = {"x86_64": 62, "aarch64": 183}
"""EM_X86_64 and EM_AARCH64 of elf.h: e_machine, two bytes at offset 18 of every ELF file."""


def check_machine(tree: Path, machine: str) -> None:
    """Refuse a tree with any program or library for another machine than this one."""
    for relative in files(tree):
        with (tree / relative).open("rb") as file:
            head = file.read(20)
        if head[:4] == b"\x7fELF" and int.from_bytes(head[18:20], "little") != _MACHINES[machine]:
            raise Refused(f"{relative} of the runtime for {machine} is for another machine")


# ---- sums ----------------------------------------------------------------------------------------


def files(tree: Path) -> Iterator[Path]:
    """The tree's files, relative, in one order."""
    for path in sorted(tree.rglob("*")):
        if not path.is_dir():
            yield path.relative_to(tree)


def write_sums(tree: Path) -> None:
    """SHA256SUMS, as `sha256sum -c` reads it; and every mode and time one of a few."""
    rows = []
    for relative in files(tree):
        digest = hashlib.sha256((tree / relative).read_bytes()).hexdigest()
        rows.append(f"{digest}  {relative}\n")
    (tree / SUMS).write_text("".join(rows))
    for path in [tree, *tree.rglob("*")]:
        is_program = path.is_dir() or path.parent.name == "bin" or path.name.startswith("ld-")
        path.chmod(0o755 if is_program else 0o644)
        os.utime(path, (0, 0))


def _copy(source: Path, target: Path, mode: int = 0o644) -> None:
    shutil.copyfile(source, target)
    target.chmod(mode)
