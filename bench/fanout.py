"""A survey of seven hosts against a survey of one."""

from __future__ import annotations

import time
from collections.abc import Sequence

from bench.figures import Figure, interleaved, ratio
from coordinator.agent_file import build_agent
from coordinator.connection import Access
from coordinator.fleet import Fleet
from coordinator.hosts import HostSpec
from tests.lab.lab import Lab

HOSTS = 7
RUNS = 7


def measure(lab: Lab) -> list[Figure]:
    """Every host has the agent already; each survey connects anew, as each command does."""
    names = list(lab.hosts)
    _survey(names)
    many, one = interleaved(RUNS, lambda: _survey(names), lambda: _survey(names[:1]))
    return [
        ratio(
            "fanout_ratio", many, one,
            f"connect, start the agent and survey, {HOSTS} hosts ÷ 1 host; all {HOSTS} share this "
            "machine's processors",
            3.0,
        )
    ]  # fmt: skip


def _survey(names: Sequence[str]) -> float:
    fleet = Fleet([HostSpec(name) for name in names], build_agent(), Access(), complete=True)
    start = time.monotonic()
    found = fleet.observe()
    took = time.monotonic() - start
    fleet.close()
    failed = [o.error for o in found if o.survey is None]
    if failed:
        raise RuntimeError(f"not surveyed: {failed}")
    return took
