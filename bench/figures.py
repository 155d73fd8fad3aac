"""Figures: what was measured, run by run, and what it must not be more than."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

RUNS = 5
"""Runs of each side; an odd number, so that the median is one of them."""


@dataclass(frozen=True)
class Figure:
    """One key of latest.json. most, least: the target; without both the figure is only reported."""

    key: str
    unit: str
    runs: tuple[float, ...]
    note: str
    most: float | None = None
    least: float | None = None

    @property
    def value(self) -> float:
        """The median of the runs."""
        return statistics.median(self.runs)

    @property
    def is_met(self) -> bool:
        """True unless there is a target and the value is beyond it."""
        too_much = self.most is not None and self.value > self.most
        return not too_much and (self.least is None or self.value >= self.least)

    @property
    def target(self) -> str:
        """The target in words, empty for none."""
        bounds = [f"<= {self.most:g}"] if self.most is not None else []
        return " ".join(bounds + ([f">= {self.least:g}"] if self.least is not None else []))


def ratio(
    key: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    note: str,
    most: float | None,
    least: float | None = None,
) -> Figure:
    """Ours ÷ theirs, run by run: neighbours in time share what else the machine is doing."""
    pairs = tuple(mine / other for mine, other in zip(ours, theirs, strict=True))
    medians = f"{seconds(ours)} against {seconds(theirs)}"
    return Figure(key, "ratio", pairs, f"{note}; medians {medians}", most, least)


def seconds(values: Sequence[float]) -> str:
    """Their median, as text."""
    return f"{statistics.median(values):.2f} s"


def interleaved(runs: int, *sides: Callable[[], float]) -> list[list[float]]:
    """Run the sides in turn, `runs` times over; one list of results per side."""
    rows = [[side() for side in sides] for _ in range(runs)]
    return [list(column) for column in zip(*rows, strict=True)]


def write_json(figures: Sequence[Figure], path: Path) -> None:
    """Write key → value, unit, runs and note; figures of parts not measured now stay as they are.

    Each figure is a ratio within one run, so that parts measured apart go together.
    """
    plain = json.loads(path.read_text()) if path.exists() else {}
    plain |= {
        f.key: {
            "value": _rounded(f.value),
            "unit": f.unit,
            "runs": [_rounded(run) for run in f.runs],
            "note": f.note,
        }
        for f in figures
    }
    path.write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n")


def table(figures: Sequence[Figure]) -> str:
    """The figures with their targets, one line each."""
    lines = [f"{'figure':<24}{'value':>9} {'unit':<6}{'target':>9}  verdict  runs"]
    for f in figures:
        target = f.target or "-"
        verdict = "-" if not f.target else "ok" if f.is_met else "MISSED"
        runs = " ".join(f"{_rounded(run):g}" for run in f.runs)
        value = f"{_rounded(f.value):g}"
        lines.append(f"{f.key:<24}{value:>9} {f.unit:<6}{target:>9}  {verdict:<7}  {runs}")
    return "\n".join(lines)


def _rounded(value: float) -> float:
    return round(value, 3 if value < 100 else 0)
