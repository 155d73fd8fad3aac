"""From log lines to known causes, the most telling first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Optional

from agent.model.facts import Cause
from agent.survey.cause_table import ROWS, Row
from agent.survey.loglines import LogLine, in_order

_SERVES = "ready to serve client requests"
_SEARCHED = 2000
_SHOWN = 400


def find_causes(lines: Sequence[LogLine]) -> tuple[Cause, ...]:
    """Known causes in these lines, one per key with its newest line as evidence.

    What stops etcd comes first, then what harms it, then hints; the newer first within each. What
    lies before the last successful start ("ready to serve client requests") is history and left
    out. The first row of the table that fits a line is its meaning.
    """
    found: dict[str, tuple[Row, LogLine, int]] = {}
    meanings: dict[str, Optional[Row]] = {}
    for place, line in enumerate(_since_last_start(in_order(lines))):
        if line.message not in meanings:
            meanings[line.message] = _meaning(line.message)
        row = meanings[line.message]
        if row is not None:
            found[row.key] = (row, line, place)
    ranked = sorted(found.values(), key=lambda f: (f[0].rank, f[1].time, f[2]), reverse=True)
    return tuple(_cause(row, line) for row, line, _ in ranked)


def _since_last_start(lines: Sequence[LogLine]) -> Iterable[LogLine]:
    started = [place for place, line in enumerate(lines) if _SERVES in line.message]
    return lines[started[-1] :] if started else lines


def _meaning(message: str) -> Optional[Row]:
    text = message[:_SEARCHED]
    return next((row for row in ROWS if row.pattern.search(text)), None)


def _cause(row: Row, line: LogLine) -> Cause:
    message = line.message
    evidence = message if len(message) <= _SHOWN else message[: _SHOWN - 1] + "…"
    return Cause(row.key, row.kind, row.summary, row.remedy, evidence, row.source, line.time)
