"""The runtime's parts: equal content gives equal bytes, and what is not locked is not taken."""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import Refused, UsageError
from images import runtime, runtime_packages, runtime_tree
from images.runtime_packages import ARCHITECTURES, PACKAGES, Package, read_lock, write_lock


def make_tree(directory: Path) -> Path:
    """A few files as a tree, with whatever times and modes the moment gives."""
    for name, text in {"bin/run": "#!/bin/sh\n", "lib/a.so.1": "x" * 5000, "PACKAGES": ""}.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory


def test_equal_trees_are_equal_archives(tmp_path: Path) -> None:
    first, second = make_tree(tmp_path / "a"), make_tree(tmp_path / "b")
    os.utime(second / "PACKAGES", (1, 1))
    (second / "lib/a.so.1").chmod(0o600)
    for tree in (first, second):
        runtime_tree.write_sums(tree)
        runtime.pack(tree, tmp_path / f"{tree.name}.tar.xz")
    assert (tmp_path / "a.tar.xz").read_bytes() == (tmp_path / "b.tar.xz").read_bytes()
    with tarfile.open(tmp_path / "a.tar.xz") as tar:
        members = {m.name: (m.mode, m.uid, m.mtime) for m in tar}
    assert members["bin/run"] == (0o755, 0, 0)
    assert members["lib/a.so.1"] == (0o644, 0, 0)
    assert list(members) == sorted(members)


def test_the_sums_are_those_that_sha256sum_checks(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "a")
    runtime_tree.write_sums(tree)
    lines = (tree / "SHA256SUMS").read_text().splitlines()
    assert [line[66:] for line in lines] == ["PACKAGES", "bin/run", "lib/a.so.1"]
    assert all(line[64:66] == "  " for line in lines)


def test_the_same_library_is_compiled_to_the_same_bytes_anywhere(tmp_path: Path) -> None:
    zips = []
    for number in (1, 2):
        stdlib = tmp_path / str(number) / "lib"
        stdlib.mkdir(parents=True)
        for name in ("json", "dataclasses.py", "test", "turtle.py", "stat.py"):
            source = Path(os.__file__).parent / name
            if source.is_dir():
                ignore = shutil.ignore_patterns("*.pyc", "[a-h]*")
                shutil.copytree(source, stdlib / name, ignore=ignore)
            elif source.is_file():
                shutil.copyfile(source, stdlib / name)
                os.utime(stdlib / name, (number, number))
        runtime_tree.compile_modules(stdlib, [sys.executable])
        runtime_tree.zip_modules(stdlib, tmp_path / f"{number}.zip")
        zips.append((tmp_path / f"{number}.zip").read_bytes())
    assert zips[0] == zips[1]
    assert b"turtle" not in zips[0]
    assert b"test/" not in zips[0]
    assert str(tmp_path).encode() not in zips[0]


names = st.from_regex(r"[a-z][a-z0-9+.-]{1,12}", fullmatch=True)
packages = st.builds(
    Package, st.sampled_from(sorted(ARCHITECTURES.values())), names, names,
    st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
)  # fmt: skip


@given(st.lists(packages, unique=True))
def test_a_lock_file_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, found: list[Package]
) -> None:
    path = tmp_path_factory.mktemp("lock") / "runtime.lock"
    write_lock(found, path)
    assert read_lock(path) == sorted(found)


def test_a_lock_file_of_another_form_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runtime.lock"
    path.write_text("# a comment\namd64 libc6 2.36\n")
    with pytest.raises(UsageError, match=r"runtime\.lock:2"):
        read_lock(path)


def test_the_lock_file_names_every_package_for_every_machine() -> None:
    locked = {(p.architecture, p.name) for p in read_lock()}
    assert locked == {(a, name) for a in ARCHITECTURES.values() for name in PACKAGES}


@pytest.mark.parametrize(("machine", "number"), [("x86_64", 62), ("aarch64", 183)])
def test_a_program_for_another_machine_is_refused(
    tmp_path: Path, machine: str, number: int
) -> None:
    tree = make_tree(tmp_path / "a")
    header = b"\x7fELF\x02\x01\x01".ljust(18, b"\0")
    (tree / "lib/b.so").write_bytes(header + number.to_bytes(2, "little"))
    runtime_tree.check_machine(tree, machine)
    (tree / "lib/b.so").write_bytes(header + (243).to_bytes(2, "little"))
    with pytest.raises(Refused, match=r"lib/b\.so .* another machine"):
        runtime_tree.check_machine(tree, machine)


def test_no_runtime_is_made_for_a_machine_without_packages(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no runtime for vax"):
        runtime_packages.fetch("vax", tmp_path, None)
