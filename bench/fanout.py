"""A survey of seven hosts against a survey of one: the whole command, and its inner part."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.commands import timed_fab
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
    _observe(names)
    many, one, inner_many, inner_one = interleaved(
        RUNS,
        lambda: _command(names),
        lambda: _command(names[:1]),
        lambda: _observe(names),
        lambda: _observe(names[:1]),
    )
    shared = f"the {HOSTS} hosts share this machine's processors, which real ones do not"
    return [
        ratio(
            "fanout_ratio", many, one,
            f"the whole command fab survey, {HOSTS} hosts ÷ 1 host; {shared}",
            3.0,
        ),
        ratio(
            "fanout_inner_ratio", inner_many, inner_one,
            "as fanout_ratio, without the start of fab: connect, start the agent, survey",
            None,
        ),
    ]  # fmt: skip


def _command(names: Sequence[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        inventory = Path(folder) / "cluster.yaml"
        inventory.write_text("hosts:\n" + "".join(f"  - {name}\n" for name in names))
        words = ["survey", "--cluster", str(inventory), "--output", "json"]
        build_agent()
        took, told = timed_fab(words)
    if f"surveyed {len(names)} of {len(names)} hosts" not in told:
        raise RuntimeError(f"not all were surveyed: {told}")
    return took


def _observe(names: Sequence[str]) -> float:
    fleet = Fleet([HostSpec(name) for name in names], build_agent(), Access(), complete=True)
    start = time.monotonic()
    found = fleet.observe()
    took = time.monotonic() - start
    fleet.close()
    failed = [o.error for o in found if o.survey is None]
    if failed:
        raise RuntimeError(f"not surveyed: {failed}")
    return took
