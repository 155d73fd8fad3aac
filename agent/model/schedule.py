"""A schedule of snapshots: when one is taken on a host, and which of them are kept."""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.errors import UsageError

_CALENDAR = re.compile(r"[A-Za-z0-9*][A-Za-z0-9*/:.,~_+ -]{0,99}")
_DIRECTORY = re.compile(r"(/[A-Za-z0-9_@+][A-Za-z0-9_.@+-]*)+")
_MOST = 1 << 50


@dataclass(frozen=True)
class Limits:
    """Which scheduled snapshots are kept; 0 is no limit of that kind.

    keep: at most so many. keep_days: none older. keep_bytes: all of them together. min_free: bytes
    that stay free on their file system after one was taken. The newest is kept whatever these say.
    """

    keep: int = 7
    keep_days: int = 0
    keep_bytes: int = 0
    min_free: int = 1 << 30


@dataclass(frozen=True)
class Schedule:
    """calendar: as systemd.time(7) says it. delay: at most so many seconds later, at random.

    patience: seconds for which a member is waited for that does not answer, as right after a boot.
    metrics: directory of Prometheus' textfile collector; empty: no metrics are written.
    """

    calendar: str = "daily"
    delay: int = 900
    patience: int = 600
    metrics: str = ""
    limits: Limits = Limits()


def check_schedule(schedule: Schedule) -> None:
    """Raise UsageError for what cannot stand in a unit file, or makes no sense."""
    if not _CALENDAR.fullmatch(schedule.calendar):
        raise UsageError(
            f"schedule {schedule.calendar!r} is no calendar of systemd",
            "as in: daily, hourly, *-*-* 00/6:00:00",
            "systemd-analyze calendar 'YOURS'   (says when it would elapse)",
        )
    if schedule.metrics and not _is_directory(schedule.metrics):
        raise UsageError(
            f"metrics directory {schedule.metrics!r} is not an absolute path of plain characters",
            next="the directory that node_exporter has in --collector.textfile.directory",
        )
    check_limits(schedule.limits)
    for name, value, most in (
        ("random delay", schedule.delay, 86400),
        ("patience", schedule.patience, 86400),
    ):
        if not 0 <= value <= most:
            raise UsageError(f"{name} {value} s is not between 0 and {most}")


def _is_directory(path: str) -> bool:
    """Below a directory of the root at least, so that no file of ours lands in / itself."""
    return len(path) <= 200 and _DIRECTORY.fullmatch(path) is not None


def check_limits(limits: Limits) -> None:
    """Raise UsageError for limits that nothing could keep."""
    for name, value, least in (
        ("keep", limits.keep, 1), ("keep days", limits.keep_days, 0),
        ("keep bytes", limits.keep_bytes, 0), ("free bytes", limits.min_free, 0),
    ):  # fmt: skip
        if not least <= value <= _MOST:
            raise UsageError(f"{name} {value} is not between {least} and {_MOST}")


def command_words(schedule: Schedule) -> tuple[str, ...]:
    """The words after `rescue-agent` that take one snapshot by this schedule."""
    limits = schedule.limits
    words = [
        "scheduled-snapshot", f"--keep={limits.keep}", f"--keep-days={limits.keep_days}",
        f"--keep-bytes={limits.keep_bytes}", f"--min-free={limits.min_free}",
        f"--patience={schedule.patience}",
    ]  # fmt: skip
    return (*words, f"--metrics={schedule.metrics}") if schedule.metrics else tuple(words)


@dataclass(frozen=True)
class TimerStatus:
    """The snapshot timer of one host.

    units: absent, ours, edited or foreign: the first of these from the right that one of them is.
    current: they are what the schedule asked about would put there. next, last: of systemd, as it
    writes times; empty for none. last_result: "success", or systemd's word for what it was.
    directory: where the sets lie; newest: name of the last one; taken: when, seconds since the
    epoch.
    """

    host: str
    units: str
    current: bool = False
    active: bool = False
    running: bool = False
    next: str = ""
    last: str = ""
    last_result: str = ""
    directory: str = ""
    kept: int = 0
    bytes: int = 0
    newest: str = ""
    taken: float = 0.0
    unknown: tuple[str, ...] = ()
    problem: str = ""
