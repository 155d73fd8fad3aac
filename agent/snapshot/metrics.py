"""Metrics of scheduled snapshots, for the textfile collector of Prometheus' node_exporter.

Text format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats). The collector reads *.prom
of its directory at any moment: the file is replaced by one rename, and is open to all, as the
collector is not root.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from agent.errors import Refused
from agent.host import Host
from agent.host.own_files import remove_file
from agent.snapshot.retention import Kept, newest_first

FILE = "etcd_rescue_snapshot.prom"
RESULTS = ("ok", "refused", "locked", "damaged", "unreachable", "failed")
_PREFIX = "etcd_rescue_snapshot"


@dataclass(frozen=True)
class RunFacts:
    """One run. result: one of RESULTS. time: of its end, seconds since the epoch.

    revision, keys: of the set it took, None where it took none. expired: sets it took away.
    unknown: things that lie among the sets and are none.
    """

    result: str
    time: float
    seconds: float
    free: int
    expired: int = 0
    unknown: int = 0
    revision: Optional[int] = None
    keys: Optional[int] = None


def metrics_text(run: RunFacts, sets: Sequence[Kept]) -> str:
    """The file's text. `sets`: those that are kept now."""
    ordered = newest_first(sets)
    gauges: list[tuple[str, str, Optional[float]]] = [
        ("last_run_timestamp_seconds", "When the last run ended.", run.time),
        ("last_run_duration_seconds", "How long the last run took.", run.seconds),
        ("last_success_timestamp_seconds", "When the newest verified snapshot was taken.",
         ordered[0].time if ordered else None),
        ("last_success_size_bytes", "Size of the newest verified snapshot, with its set.",
         ordered[0].size if ordered else None),
        ("last_success_quorum", "1 if its member had a quorum when it was taken.",
         float(ordered[0].quorum) if ordered else None),
        ("revision", "Revision of the snapshot that the last run took.", run.revision),
        ("keys", "Keys in the snapshot that the last run took.", run.keys),
        ("kept", "Verified snapshots kept on this host.", len(ordered)),
        ("kept_bytes", "Bytes of all of them.", sum(s.size for s in ordered)),
        ("oldest_timestamp_seconds", "When the oldest of them was taken.",
         ordered[-1].time if ordered else None),
        ("expired", "Snapshots that the last run took away.", run.expired),
        ("unknown", "Things that lie among the snapshots and are none.", run.unknown),
        ("free_bytes", "Bytes free where the snapshots lie.", run.free),
    ]  # fmt: skip
    lines = [text for row in gauges if row[2] is not None for text in _gauge(*row)]
    name = f"{_PREFIX}_last_run_result"
    lines += [f"# HELP {name} 1 for how the last run ended.", f"# TYPE {name} gauge"]
    lines += [f'{name}{{result="{r}"}} {int(r == run.result)}' for r in RESULTS]
    return "\n".join(lines) + "\n"


def _gauge(name: str, words: str, value: Optional[float]) -> list[str]:
    full = f"{_PREFIX}_{name}"
    return [f"# HELP {full} {words}", f"# TYPE {full} gauge", f"{full} {value!r}"]


def write_metrics(host: Host, directory: str, text: str) -> None:
    """Replace the file in the collector's directory. Raises Refused where there is none."""
    if not host.is_dir(directory):
        raise Refused(
            f"{directory}: no such directory",
            "the collector's directory is its own to make: a wrong name would be read by nobody",
            f"mkdir {directory}; or: fab install-timer --metrics OTHER",
        )
    path = f"{directory}/{FILE}"
    if host.is_link(path):
        raise Refused(f"{path} is a link", "what it leads to is not ours to replace")
    host.write_atomic(path, text.encode(), mode=0o644)


def remove_metrics(host: Host, directory: str) -> bool:
    """Take the file away, so that nobody alerts on a timer that is gone; whether there was one."""
    path = f"{directory}/{FILE}"
    return not host.is_link(path) and remove_file(host, path)
