"""A rescue that is done, asked for once more: it looks, finds nothing to do, and says so."""

from __future__ import annotations

from bench.commands import timed_fab
from bench.figures import RUNS, Figure
from tests.lab.faults import crash_loop, rescue
from tests.lab.lab import Lab
from tests.lab.operator import OK

HOST = "master-1"


def measure(lab: Lab) -> list[Figure]:
    """One member is rescued in earnest; the same command then runs again and again."""
    crash_loop(lab.hosts[HOST])
    rescue(HOST).expect(OK)
    runs = tuple(_again() for _ in range(RUNS))
    note = f"fab rescue-node {HOST} on three hosts, after a rescue that is complete"
    return [Figure("second_run_seconds", "s", runs, note, 2.0)]


def _again() -> float:
    words = ["-H", "master-0", "rescue-node", HOST, "--yes"]
    took, told = timed_fab(words)
    if "nothing to do" not in told:
        raise RuntimeError(told)
    return took
