"""rescue-agent scheduled-snapshot: what the timer's service runs, and anybody may run by hand."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from agent.host import Host
from agent.model.schedule import Limits, Schedule, check_schedule

_OPTIONS = (
    ("keep", Limits.keep, "at most so many are kept"),
    ("keep-days", Limits.keep_days, "none older than so many days; 0: of any age"),
    ("keep-bytes", Limits.keep_bytes, "all of them at most so many bytes; 0: any"),
    ("min-free", Limits.min_free, "so many bytes stay free on their file system"),
    ("patience", 0, "wait so many seconds for an etcd that does not answer"),
)


def add_scheduled(verbs: Any, say: Callable[[str], None]) -> None:
    """Add the verb to the parser's sub-parsers."""
    verb = verbs.add_parser(
        "scheduled-snapshot", help="take a verified set and keep the newest ones, as the timer does"
    )
    verb.set_defaults(run=lambda args, host: _run(args, host, say))
    for name, default, words in _OPTIONS:
        verb.add_argument(f"--{name}", type=int, default=default, metavar="N", help=words)
    verb.add_argument("--metrics", default="", metavar="DIR", help="write metrics there")


def _run(args: argparse.Namespace, host: Host, say: Callable[[str], None]) -> None:
    from agent.snapshot.scheduled import take_scheduled

    limits = Limits(args.keep, args.keep_days, args.keep_bytes, args.min_free)
    check_schedule(Schedule(patience=args.patience, metrics=args.metrics, limits=limits))
    taken = take_scheduled(host, limits, args.patience, args.metrics, say)
    snapshot = taken.found.snapshot
    if snapshot is not None:
        size = sum(file.size for file in taken.found.files)
        print(
            f"{taken.directory}: revision {snapshot.revision}, {snapshot.keys} keys, {size} bytes, "
            f"verified; {taken.kept} kept, {len(taken.expired)} taken away"
        )
