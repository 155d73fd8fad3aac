"""Runs the lab's test files several at a time, each in an enclosure of its own.

A lab waits more than it computes: two on two cores end in little more than half the time. What a
file prints is shown whole when it ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

_HERE = Path(__file__).parent
_NOTHING_COLLECTED = 5


class _Running:
    """pytest on one file."""

    def __init__(self, path: Path, options: Sequence[str]) -> None:
        self.path, self.started = path, time.monotonic()
        self.output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by show)
        command = [sys.executable, "-m", "pytest", "-q", "--durations=3", str(path), *options]
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


def run_all(jobs: int, options: Sequence[str]) -> int:
    """Run every test file with these options of pytest; 0 only where all of them passed."""
    waiting = sorted(_HERE.rglob("test_*.py"), key=lambda path: path.stat().st_size)
    running: list[_Running] = []
    failed: list[str] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_Running(waiting.pop(), options))  # the longest first
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
