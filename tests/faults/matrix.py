"""The matrix: every fault of every kind at every point of every row, one trial each."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from tests.faults.kinds import HOWS, KINDS, SINGLE, Fault, faults_of
from tests.faults.outcome import Outcome
from tests.faults.points import Point
from tests.faults.recipes import ROWS, Row, row_named
from tests.faults.trial import Stage, enumerate_points, run_trial
from tests.lab.paths import REPO_DIR
from tests.lab.pool import LabPool

RESULTS_DIR = REPO_DIR / "build/faults"


@dataclass
class Known:
    """Points and reference of each row, enumerated once per run by an undisturbed rescue."""

    stage: Stage
    rows: dict[str, tuple[list[Point], dict[str, Any]]] = field(default_factory=dict)

    def of(self, row: Row) -> tuple[list[Point], dict[str, Any]]:
        """Points of a row in order, and what an undisturbed run leaves on each host."""
        if row.name not in self.rows:
            self.rows[row.name] = enumerate_points(self.stage, row)
        return self.rows[row.name]


@dataclass(frozen=True)
class Slice:
    """A part of the matrix. first, last: numbers of points from 1; every: one of so many."""

    rows: tuple[Row, ...] = ROWS
    kinds: tuple[str, ...] = KINDS
    first: int = 1
    last: int = 1 << 30
    every: int = 1

    def trials(self, row: Row, known: Known) -> Iterator[tuple[Fault, int, int]]:
        """(fault, its number, how many the row has of that kind)."""
        for kind in self.kinds:
            if kind == "rollback-kills" and not row.has_way_back:
                continue
            faults = faults_of(kind, known.of(row)[0])
            chosen = [n for n in range(1, len(faults) + 1) if self.first <= n <= self.last]
            for number in chosen[:: self.every]:
                yield faults[number - 1], number, len(faults)


class Results:
    """Tells progress, keeps the latest outcome of every trial as a JSON line, and sums up."""

    def __init__(self, name: str = "", out: TextIO = sys.stderr) -> None:
        """Keep all in one file of this name; without a name, in one per row."""
        RESULTS_DIR.mkdir(parents=True, exist_ok=True)
        self._name, self._out = name, out
        self.all: list[Outcome] = []

    def add(self, outcome: Outcome, progress: str) -> None:
        """Note one outcome."""
        self.all.append(outcome)
        path = RESULTS_DIR / f"{self._name or outcome.recipe}.jsonl"
        fresh = {**outcome.plain(), "time": round(time.time(), 1)}
        kept = [old for old in read_results(path) if _trial(old) != _trial(fresh)]
        temp = path.with_suffix(".new")
        temp.write_text("".join(json.dumps(row) + "\n" for row in [*kept, fresh]))
        temp.rename(path)
        told = f"{progress} {outcome.recipe} {outcome.kind} {outcome.how} {outcome.label[:150]}"
        self._say(f"{told}: {outcome.outcome} {outcome.way} {outcome.seconds:.1f} s")
        if outcome.outcome != "passed":
            self._say(outcome.note)

    def _say(self, text: str) -> None:
        print(text, file=self._out, flush=True)

    def summary(self) -> bool:
        """Tell how many of what converged; True if all did."""
        table = Counter((o.recipe, o.kind, o.outcome) for o in self.all)
        for (row, kind, came), count in sorted(table.items()):
            self._say(f"{row:22} {kind:18} {came:10} {count:5}")
        times = sorted(o.again_seconds for o in self.all if o.again_seconds)
        if times:
            self._say(f"a second complete run: median {times[len(times) // 2]:.2f} s")
        self._say(f"killed, cut or powered off {sum(o.killed for o in self.all)} times")
        bad = [o for o in self.all if o.outcome != "passed"]
        for outcome in bad:
            self._say(f"{outcome.outcome}: {repeat(outcome)}")
        self._say(f"{len(self.all) - len(bad)} of {len(self.all)} passed; see {RESULTS_DIR}")
        return not bad


def repeat(outcome: Outcome) -> str:
    """The command that does the same trial again."""
    words = {
        "RECIPE": outcome.recipe, "KIND": outcome.kind, "HOW": outcome.how, "POINT": outcome.point,
    }  # fmt: skip
    return "make faults " + " ".join(f"{k}={v!r}" for k, v in words.items())


def run_matrix(stage: Stage, part: Slice) -> bool:
    """Run a part of the matrix; True if everything converged."""
    known, results = Known(stage), Results()
    for row in part.rows:
        try:
            known.of(row)
        except Exception as error:  # the other rows are worth their hours
            note = f"{type(error).__name__}: {error}"
            results.add(
                Outcome(row.name, "none", "", "", "undisturbed", "failed", note=note), "0/0"
            )
            continue
        for fault, number, count in part.trials(row, known):
            outcome = run_trial(stage, row, fault, known.of(row)[1])
            results.add(outcome, f"{number}/{count}")
    return results.summary()


def run_one(stage: Stage, row: Row, fault: Fault) -> bool:
    """Repeat one trial."""
    results = Results()
    results.add(run_trial(stage, row, fault, None), "1/1")
    return results.summary()


def run_soak(stage: Stage, count: int, seed: int) -> bool:
    """Run random pairs of fault and step; the same seed gives the same pairs."""
    print(f"soak: N={count} SEED={seed}", file=sys.stderr, flush=True)
    chance, known, results = random.Random(seed), Known(stage), Results("soak")
    for number in range(1, count + 1):
        row, kind, how = chance.choice(ROWS), chance.choice(SINGLE), chance.choice(HOWS)
        try:
            points, reference = known.of(row)
        except Exception as error:  # the other pairs are worth their time
            note = f"{type(error).__name__}: {error}"
            label = f"{row.name}: no undisturbed run"
            results.add(Outcome(row.name, kind, how, "", label, "failed", note=note), f"{number}")
            continue
        fault = Fault(kind, points[int(chance.random() * len(points))].key, how)
        results.add(run_trial(stage, row, fault, reference), f"{number}/{count} (SEED={seed})")
    return results.summary()


def wanted_slice(env: dict[str, str]) -> Slice:
    """The slice that RECIPE, KIND, FROM, TO and EVERY ask for; all without them."""
    rows = tuple(row_named(name) for name in _words(env, "RECIPE")) or ROWS
    kinds = tuple(_words(env, "KIND")) or KINDS
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise SystemExit(f"no kind {unknown[0]!r}; known: {', '.join(KINDS)}")
    first, last = int(env.get("FROM") or 1), int(env.get("TO") or 1 << 30)
    return Slice(rows, kinds, first, last, int(env.get("EVERY") or 1))


def _words(env: dict[str, str], name: str) -> Sequence[str]:
    return env.get(name, "").replace(",", " ").split()


def main(argv: Iterable[str]) -> int:
    """`matrix` or `soak`, told the rest by environment variables, as the Makefile passes them."""
    env, pool = dict(os.environ), LabPool()
    stage = Stage(pool)
    try:
        if "soak" in argv:
            seed = int(env.get("SEED") or time.time_ns() % 1_000_000)
            good = run_soak(stage, int(env.get("N") or 200), seed)
        elif env.get("POINT"):
            row = row_named(env.get("RECIPE", ""))
            fault = Fault(env.get("KIND") or KINDS[0], env["POINT"], env.get("HOW") or HOWS[0])
            good = run_one(stage, row, fault)
        else:
            good = run_matrix(stage, wanted_slice(env))
    finally:
        pool.close()
    return 0 if good else 1


def _trial(row: dict[str, Any]) -> tuple[Any, ...]:
    """What makes two outcomes of the same trial."""
    return tuple(row.get(name) for name in ("recipe", "kind", "how", "point"))


def read_results(path: Path) -> list[dict[str, Any]]:
    """The outcomes of a results file, oldest first."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
