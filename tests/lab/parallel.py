"""Runs the lab's test files several at a time, each in an enclosure of its own.

A lab computes for most of its time: as many as there are cores keep them all at work. What a file
prints is shown whole when it ends.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from tests.lab import setup

HERE = Path(__file__).parent
_NOTHING_COLLECTED = 5
_PYTEST = (sys.executable, "-m", "pytest")
LONGEST = (
    "openshift4/test_rescue.py", "test_rescue_node.py", "test_faults.py", "test_rescue_quorum.py",
    "test_returning_hosts.py", "test_bad_input.py", "test_interrupted.py", "test_versions.py",
    "reach/test_debug_pod.py", "test_resources.py", "openshift4/test_machines.py",
)  # fmt: skip
"""These first, or the last one runs alone while the other cores have nothing left to do."""

_ENCLOSE = (sys.executable, "-m", "tests.lab", "enclose", "--")


@functools.cache
def _enclosed() -> tuple[str, ...]:
    """What puts pytest into an enclosure from the start; nothing where it has to do so itself."""
    if setup.obstacle() or not setup.is_ready():
        return ()
    setup.ensure_for_tests()
    return _ENCLOSE


class _Running:
    """pytest on one file."""

    def __init__(self, path: Path, options: Sequence[str]) -> None:
        self.path, self.started = path, time.monotonic()
        self.output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by show)
        command = [*_enclosed(), *_PYTEST, "-q", "--durations=3", str(path), *options]
        self.process = subprocess.Popen(
            command, stdout=self.output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )

    def show(self) -> None:
        """Print what it said."""
        self.output.seek(0)
        seconds = time.monotonic() - self.started
        print(f"==== {self.path.name} ({seconds:.0f} s)", flush=True)
        sys.stdout.buffer.write(self.output.read())
        sys.stdout.buffer.flush()
        self.output.close()


def _haste(path: Path) -> tuple[int, int]:
    """What files are sorted by: the longest in their order, then the rest by how much they say."""
    name = path.relative_to(HERE).as_posix()
    place = LONGEST.index(name) if name in LONGEST else len(LONGEST)
    return place, -path.stat().st_size


def in_order() -> list[Path]:
    """Every test file, in the order in which they are begun."""
    return sorted(HERE.rglob("test_*.py"), key=_haste)


def run_all(jobs: int, options: Sequence[str]) -> int:
    """Run every test file with these options of pytest; 0 only where all of them passed."""
    waiting = in_order()
    running: list[_Running] = []
    failed: list[str] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_Running(waiting.pop(0), options))
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            for ended in [one for one in running if one.process.poll() is not None]:
                running.remove(ended)
                ended.show()
                if ended.process.returncode not in (0, _NOTHING_COLLECTED):
                    failed.append(ended.path.name)
    finally:
        for one in running:
            one.process.terminate()
            one.process.wait()
    print(f"lab tests: {'failed: ' + ', '.join(failed) if failed else 'all files passed'}")
    return 1 if failed else 0
