"""The runtime as the coordinator finds it."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path

from coordinator import runtime_file
from coordinator.onhost.code import MODULES
from coordinator.runtime_file import RuntimeFile, describe, find_runtime, to_json


def test_every_part_of_its_library_loads_alone(carried: RuntimeFile) -> None:
    """With nothing of this machine's: its own loader, and an environment that is empty."""
    tree = carried.path.with_name(runtime_file.stem(carried.machine))
    extensions = [p.name.split(".")[0] for p in (tree / "lib/python3.11/lib-dynload").iterdir()]
    modules = [*extensions, *MODULES, "asyncio", "lzma", "bz2", "sqlite3", "xml.parsers.expat"]
    code = f"""
import importlib, threading, sys
failed = []
for name in {modules!r}:
    try:
        importlib.import_module(name)
    except ImportError as error:
        failed.append(name)
threading.Thread(target=sys.exit).start()
print(failed, sys.prefix)
"""
    done = subprocess.run(
        [str(tree / "bin/python3"), "-E", "-s", "-S", "-c", code],
        env={"PATH": "/nowhere"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"['sqlite3'] {tree}\n"  # which is left out
    assert done.stderr == ""


def test_what_is_described_is_what_is_found(tmp_path: Path, carried: RuntimeFile) -> None:
    archive = tmp_path / carried.path.name
    shutil.copy(carried.path, archive)
    tree = carried.path.with_name(runtime_file.stem(carried.machine))
    made = describe(carried.machine, archive, tree)
    shutil.copy(tree / "bin/busybox", made.busybox)
    archive.with_name(f"{runtime_file.stem(carried.machine)}.json").write_text(to_json(made))
    assert find_runtime(carried.machine, tmp_path) == made
    assert dataclasses.replace(made, path=carried.path) == carried
