"""Measure everything, write latest.json, and end with 1 where a target is missed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench import again, delivery, fanout, memory, quorum, restore, snapshots
from bench.figures import Figure, table, write_json
from coordinator.agent_file import build_agent
from tests.lab.kubelet.timing import MEASURED
from tests.lab.lab import Lab

LATEST = Path(__file__).parent / "latest.json"


def _rescues() -> tuple[list[Figure], str]:
    with Lab.start(hosts=3, kubelet=MEASURED) as lab:
        figures, parts = quorum.measure(lab)
        lab.reset()
        return figures + delivery.measure(lab), parts


def _again() -> tuple[list[Figure], str]:
    with Lab.start(hosts=3) as lab:
        return again.measure(lab), ""


def _fanout() -> tuple[list[Figure], str]:
    with Lab.start(hosts=fanout.HOSTS) as lab:
        return fanout.measure(lab), ""


def _memory() -> tuple[list[Figure], str]:
    with Lab.start(hosts=1, quota=memory.QUOTA) as lab:
        return memory.measure(lab), ""


def _snapshots() -> tuple[list[Figure], str]:
    with Lab.start(hosts=1, quota=snapshots.QUOTA) as lab:
        return snapshots.measure(lab), ""


def _restore() -> tuple[list[Figure], str]:
    with Lab.start(hosts=1, quota=restore.QUOTA) as lab:
        figures = restore.measure_one(lab)
    return figures + restore.measure_all(), ""


PARTS: dict[str, Callable[[], tuple[list[Figure], str]]] = {
    "rescues": _rescues,
    "again": _again,
    "fanout": _fanout,
    "memory": _memory,
    "snapshots": _snapshots,
    "restore": _restore,
}


def main(words: list[str]) -> int:
    """Measure the named parts, or all, and write their figures into latest.json."""
    build_agent()
    began = time.monotonic()
    figures: list[Figure] = []
    notes = []
    for name in words or list(PARTS):
        print(f"measuring: {name}", flush=True)
        found, note = PARTS[name]()
        print(table(found), flush=True)
        figures += found
        notes += [note] if note else []
    print("\n".join(["", *notes, "", table(figures)]))
    print(f"\n{len(figures)} figures in {time.monotonic() - began:.0f} s")
    write_json(figures, LATEST)
    return 0 if all(figure.is_met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
