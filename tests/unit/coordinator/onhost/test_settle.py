"""A runtime in its place, and what older ones leave."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from coordinator.onhost.settle import settle


def tiny(directory: Path) -> tuple[Path, str]:
    """A tree that is_whole takes for whole, and its name."""
    new = directory / "x.1.tmp" / "tree"
    new.mkdir(parents=True)
    (new / "a").write_text("a")
    sums = f"{hashlib.sha256(b'a').hexdigest()}  a\n"
    (new / "SHA256SUMS").write_text(sums)
    return new, hashlib.sha256(sums.encode()).hexdigest()


def test_a_whole_one_that_is_there_already_stays(tmp_path: Path) -> None:
    new, name = tiny(tmp_path)
    shutil.copytree(new, tmp_path / name)
    before = (tmp_path / name).stat().st_ino
    settle(str(new), str(tmp_path / name))
    assert (tmp_path / name).stat().st_ino == before
    assert new.exists()


def test_what_another_version_left_goes_once_it_is_old_and_idle(tmp_path: Path) -> None:
    new, name = tiny(tmp_path)
    idle, young, used = (tmp_path / (char * 64) for char in "abc")
    for folder in (idle, young, used):
        folder.mkdir()
    shutil.copy("/bin/sleep", used / "sleep")
    long_ago = time.time() - 3 * 24 * 3600
    for folder in (idle, used):
        os.utime(folder, (long_ago, long_ago))
    with subprocess.Popen([str(used / "sleep"), "60"]) as process:
        settle(str(new), str(tmp_path / name))
        process.send_signal(signal.SIGKILL)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {name, young.name, used.name, "lock", "x.1.tmp"}
