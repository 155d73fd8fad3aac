"""Several labs at once, each in an enclosure of its own, with rows of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence

from tests.faults.count import Clock, Keys
from tests.lab.paths import REPO_DIR

PART = "FAULTS_PART"
"""Says to a process that it runs a part of the rows, and that another one tells of all."""

_ROW_SECONDS = 3600.0


def divide(rows: Sequence[str], seconds: Mapping[str, float], jobs: int) -> list[list[str]]:
    """Rows for each job, in their order, such that all jobs end at about the same time."""
    parts: list[list[str]] = [[] for _ in range(min(jobs, len(rows)))]
    for row in sorted(rows, key=lambda row: -seconds[row]):
        min(parts, key=lambda part: sum(seconds[r] for r in part)).append(row)
    return [sorted(part, key=rows.index) for part in parts]


def seconds_of(rows: Sequence[str], keys: Mapping[str, Keys], clock: Clock) -> dict[str, float]:
    """How long all trials of each row take; an hour for a row of which nothing is known."""
    found = dict.fromkeys(rows, _ROW_SECONDS)
    for row in keys.keys() & found.keys():
        found[row] = sum(clock.seconds(row, kind) * len(k) for kind, k in keys[row].items())
    return found


def run_jobs(task: str, parts: Sequence[Sequence[str]], env: Mapping[str, str]) -> bool:
    """Run a task for each part at once; True if all were good. An interrupt ends all of them."""
    python = [sys.executable, "-m"]
    argv = [*python, "tests.lab", "enclose", "--", *python, "tests.faults", task]
    running = [
        subprocess.Popen(argv, cwd=REPO_DIR, env={**env, "RECIPE": ",".join(part), PART: "1"})
        for part in parts
    ]
    try:
        codes = [process.wait() for process in running]
        return not any(codes)
    finally:
        for process in running:
            process.terminate()
