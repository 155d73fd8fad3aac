"""Kills a process before one of the lines that change a host."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

EFFECTS = {
    "makedirs", "write_atomic", "rename_new", "move_new", "_copy_over", "copy_file", "sync_dir",
    "append_synced", "discard", "copy_tree", "_copy_file", "_copy_directory_attributes",
    "rename_noreplace", "act", "undo", "park", "discard_work", "_run_step", "_undo_steps", "run",
    "_replace", "hold", "release", "place", "put_back", "_copy_aside",
}  # fmt: skip
"""Functions in which a line may lie between two changes of the host."""


class Killer:
    """Counts the lines run in EFFECTS and kills the process before one of them."""

    def __init__(self, at: int = 0) -> None:
        self.lines, self._at = 0, at

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code.co_name not in EFFECTS:
            return None
        return self._line

    def _line(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line":
            self.lines += 1
            if self.lines == self._at:
                os.kill(os.getpid(), signal.SIGKILL)
        return self._line


def count_lines(do: Any, *args: Any) -> int:
    """Do it; before how many lines it could have died."""
    counter = Killer()
    sys.settrace(counter)
    try:
        do(*args)
    finally:
        sys.settrace(None)
    return counter.lines


def killed(at: int, do: Any, *args: Any) -> bool:
    """Run `do` in a child that dies before its `at`th line; True if it did die of that."""
    child = os.fork()
    if child == 0:
        try:
            sys.settrace(Killer(at))
            do(*args)
        finally:
            sys.settrace(None)
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def chosen(lines: int, points: int) -> range:
    """The lines to die before: about `points`, more in CI, and all where EVERY_LINE is set."""
    points *= 3 if os.environ.get("CI") else 1
    return range(1, lines + 1, 1 if os.environ.get("EVERY_LINE") else max(1, lines // points))


def fresh(template: Path, root: Path) -> None:
    """The tree of `template` at `root`, as if nothing had happened there."""
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(template, root, symlinks=True)
