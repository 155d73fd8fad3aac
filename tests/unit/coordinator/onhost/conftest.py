"""This machine as a host without any Python, and the real runtime for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from coordinator.onhost import code as onhost
from coordinator.runtime_file import RUNTIME_DIR, RuntimeFile

TOOLS = ("sha256sum", "head", "ls", "id", "uname", "mkdir", "rm", "chmod", "sh", "sleep", "env")


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, carried: RuntimeFile) -> Path:
    """This machine as a host without any Python: returns the directory of all its programs."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(shutil.which(name) or "")
    monkeypatch.setattr(onhost, "SEARCH_PATH", str(tools))
    monkeypatch.setenv(RUNTIME_DIR, str(carried.path.parent))
    return tools


def runtimes(state: Path) -> list[str]:
    """What lies in a host's directory of runtimes."""
    return sorted(path.name for path in (state / "runtime").iterdir() if path.name != "lock")
