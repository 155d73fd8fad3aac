"""The runtime as the coordinator finds it."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from coordinator import runtime_file
from coordinator.runtime_file import RuntimeFile, describe, find_runtime, to_json


def test_what_is_described_is_what_is_found(tmp_path: Path, carried: RuntimeFile) -> None:
    archive = tmp_path / carried.path.name
    shutil.copy(carried.path, archive)
    tree = carried.path.with_name(runtime_file.stem(carried.machine))
    made = describe(carried.machine, archive, tree)
    shutil.copy(tree / "bin/busybox", made.busybox)
    archive.with_name(f"{runtime_file.stem(carried.machine)}.json").write_text(to_json(made))
    assert find_runtime(carried.machine, tmp_path) == made
    assert dataclasses.replace(made, path=carried.path) == carried
