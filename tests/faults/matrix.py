"""The matrix: every fault of every kind at every point of every row, one trial each."""

from __future__ import annotations

import json
import os
import random
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from tests.faults.count import (
    Clock,
    keys_of,
    note_keys,
    read_all,
    read_file,
    read_keys,
    struck,
    table,
)
from tests.faults.jobs import PART, divide, run_jobs, seconds_of
from tests.faults.kinds import HOWS, KINDS, SINGLE, SWEEPS, WHOLE, Fault, faults_of
from tests.faults.outcome import Outcome
from tests.faults.points import Point
from tests.faults.recipes import ROWS, row_named
from tests.faults.row import Row
from tests.faults.scene import Stage
from tests.faults.trial import enumerate_points, run_trial
from tests.lab.enclosure import is_enclosed
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
            note_keys(RESULTS_DIR, row.name, keys_of(row, self.rows[row.name][0]))
        return self.rows[row.name]


@dataclass(frozen=True)
class Slice:
    """A part of the matrix, and in which order.

    first, last: numbers of points from 1; every: one of so many. turns: in so many passes over all
    rows, each of which covers every kind evenly, so that much is known of all whenever it ends.
    is_new: without what has passed before. seconds: begin no trial after so long.
    """

    rows: tuple[Row, ...] = ROWS
    kinds: tuple[str, ...] = WHOLE
    first: int = 1
    last: int = 1 << 30
    every: int = 1
    turns: int = 1
    is_new: bool = False
    seconds: float = float("inf")

    def trials(self, row: Row, known: Known, turn: int = 0) -> Iterator[tuple[Fault, int, int]]:
        """(fault, its number, how many the row has of that kind) of one of the turns."""
        points = known.of(row)[0]
        done = struck(read_all(RESULTS_DIR)) if self.is_new else {}
        for kind in (kind for kind in keys_of(row, points) if kind in self.kinds):
            faults = faults_of(kind, points)
            chosen = [n for n in range(1, len(faults) + 1) if self.first <= n <= self.last]
            for number in share(chosen[:: self.every], turn, self.turns, f"{row.name} {kind}"):
                fault = faults[number - 1]
                if not self._is_done(row, fault, done):
                    yield fault, number, len(faults)

    @staticmethod
    def _is_done(row: Row, fault: Fault, done: Mapping[tuple[str, str], set[str]]) -> bool:
        """A sweep is, where all its points are, however they were struck."""
        kind, keys = SWEEPS.get(fault.kind, fault.kind), fault.keys or (fault.key,)
        return set(keys) <= done.get((row.name, kind), set())


def share(numbers: Sequence[int], turn: int, turns: int, name: str) -> list[int]:
    """The turn-th part of so many; each part lies between those before it, and the first has one.

    name: rows and kinds begin at different places, so that one trial each hits different steps.
    """
    if turns == 1:
        return list(numbers)
    count = len(numbers)
    width = max(count - 1, 1).bit_length()
    spread = [i for i in (_mirrored(n, width) for n in range(1 << width)) if i < count]
    begin, end = (-(-count * t // turns) for t in (turn, turn + 1))
    shift = zlib.crc32(name.encode())
    return sorted(numbers[(i + shift) % count] for i in spread[begin:end])


def _mirrored(number: int, width: int) -> int:
    return int(f"{number:0{width}b}"[::-1], 2)


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
        _write_results(path, [*_others(path, outcome), fresh])
        told = f"{progress} {outcome.recipe} {outcome.kind} {outcome.how} {outcome.label[:150]}"
        self._say(f"{told}: {outcome.outcome} {outcome.way} {outcome.seconds:.1f} s")
        if outcome.outcome != "passed":
            self._say(outcome.note)

    def forget(self, outcome: Outcome) -> None:
        """Drop what came of this trial before."""
        path = RESULTS_DIR / f"{self._name or outcome.recipe}.jsonl"
        if path.exists():
            _write_results(path, _others(path, outcome))

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
    known, results, end = Known(stage), Results(), time.monotonic() + part.seconds
    rows = list(part.rows)
    for turn, row in ((turn, row) for turn in range(part.turns) for row in part.rows):
        if row not in rows or time.monotonic() > end:
            continue
        if not _is_enumerated(known, row, results):
            rows.remove(row)  # the others are worth their hours
            continue
        for fault, number, count in part.trials(row, known, turn):
            if time.monotonic() < end:
                outcome = run_trial(stage, row, fault, known.of(row)[1])
                results.add(outcome, f"{number}/{count}")
    return results.summary()


def _is_enumerated(known: Known, row: Row, results: Results) -> bool:
    """Whether a row's undisturbed run was as it must be; if not, that is an outcome."""
    came = Outcome(row.name, "none", "", "", "undisturbed", "failed")
    try:
        known.of(row)
    except Exception as error:
        came.note = f"{type(error).__name__}: {error}"
        results.add(came, "0/0")
        return False
    results.forget(came)
    return True


def run_count(stage: Stage, part: Slice) -> bool:
    """Run each row once, undisturbed, so that it is known how many trials there are."""
    known, results = Known(stage), Results()
    good = [_is_enumerated(known, row, results) for row in part.rows]
    return all(good)


def tell_count(part: Slice) -> None:
    """Print how many trials there are of the rows that were ever counted, and their time."""
    keys = read_keys(RESULTS_DIR)
    for line in table(keys, read_all(RESULTS_DIR), [r.name for r in part.rows if r.name in keys]):
        print(line)


def run_side_by_side(part: Slice, jobs: int, env: dict[str, str]) -> bool:
    """Run a part of the matrix in so many labs at once."""
    names = [row.name for row in part.rows]
    clock = Clock(read_all(RESULTS_DIR))
    seconds = seconds_of(names, read_keys(RESULTS_DIR), clock)
    return run_jobs("matrix", divide(names, seconds, jobs), env)


def run_one(stage: Stage, row: Row, fault: Fault) -> bool:
    """Repeat one trial. Which points those of a sweep are, an undisturbed run tells."""
    results, reference = Results(), None
    if fault.kind in SWEEPS:
        points, reference = enumerate_points(stage, row)
        known = {f.key: f for f in faults_of(fault.kind, points)}
        if fault.key not in known:
            names = ", ".join(known)
            raise SystemExit(f"no {fault.kind} {fault.key} of {row.name}; known: {names}")
        fault = known[fault.key]
    results.add(run_trial(stage, row, fault, reference), "1/1")
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
    kinds = tuple(_words(env, "KIND")) or WHOLE
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise SystemExit(f"no kind {unknown[0]!r}; known: {', '.join(KINDS)}")
    first, last = int(env.get("FROM") or 1), int(env.get("TO") or 1 << 30)
    every, turns = int(env.get("EVERY") or 1), int(env.get("TURNS") or 1)
    seconds = 60 * float(env.get("MINUTES") or "inf")
    return Slice(rows, kinds, first, last, every, turns, bool(env.get("NEW")), seconds)


def _words(env: dict[str, str], name: str) -> Sequence[str]:
    return env.get(name, "").replace(",", " ").split()


def main(argv: Iterable[str]) -> int:
    """`matrix` or `soak`, told the rest by environment variables, as the Makefile passes them.

    Outside an enclosure the matrix makes one for each of JOBS.
    """
    env = dict(os.environ)
    if "soak" in argv:
        return 0 if _with_stage(partial(_soak, env)) else 1
    part = wanted_slice(env)
    if not is_enclosed():
        good = run_side_by_side(part, int(env.get("JOBS") or 1), env)
    else:
        good = _with_stage(partial(_matrix, env, part))
    if env.get("COUNT") and PART not in env:
        tell_count(part)
    return 0 if good else 1


def _matrix(env: dict[str, str], part: Slice, stage: Stage) -> bool:
    if env.get("POINT"):
        row = row_named(env.get("RECIPE", ""))
        fault = Fault(env.get("KIND") or SINGLE[0], env["POINT"], env.get("HOW") or HOWS[0])
        return run_one(stage, row, fault)
    return run_count(stage, part) if env.get("COUNT") else run_matrix(stage, part)


def _soak(env: dict[str, str], stage: Stage) -> bool:
    seed = int(env.get("SEED") or time.time_ns() % 1_000_000)
    return run_soak(stage, int(env.get("N") or 200), seed)


def _with_stage(task: Callable[[Stage], bool]) -> bool:
    pool = LabPool()
    try:
        return task(Stage(pool))
    finally:
        pool.close()


def _others(path: Path, outcome: Outcome) -> list[dict[str, Any]]:
    return [old for old in read_file(path) if _trial(old) != _trial(outcome.plain())]


def _write_results(path: Path, rows: list[dict[str, Any]]) -> None:
    temp = path.with_suffix(".new")
    temp.write_text("".join(json.dumps(row) + "\n" for row in rows))
    temp.rename(path)


def _trial(row: dict[str, Any]) -> tuple[Any, ...]:
    """What makes two outcomes of the same trial."""
    return tuple(row.get(name) for name in ("recipe", "kind", "how", "point"))
