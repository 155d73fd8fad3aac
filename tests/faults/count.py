"""How large the matrix is, how much of it is behind us, and how long all of it takes."""

from __future__ import annotations

import fcntl
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from tests.faults.kinds import KINDS, REPEATED, SINGLE, SWEEPS, WHOLE, faults_of
from tests.faults.points import Point
from tests.faults.row import Row

Keys = dict[str, list[str]]
"""Kind -> the key of each of its trials, in their order."""

_UNKNOWN_SECONDS = 30.0


def keys_of(row: Row, points: list[Point]) -> Keys:
    """Every trial of a row, from the points of an undisturbed run."""
    kinds = [kind for kind in KINDS if kind != "rollback-kills" or row.has_way_back]
    return {kind: [fault.key for fault in faults_of(kind, points)] for kind in kinds}


# ---- what is kept in points.json beside the results ----------------------------------------------


def read_keys(folder: Path) -> dict[str, Keys]:
    """Row -> its trials, as the latest undisturbed run of each told; of no other row."""
    place = folder / "points.json"
    found: dict[str, Keys] = json.loads(place.read_text()) if place.exists() else {}
    return found


def note_keys(folder: Path, row: str, keys: Keys) -> None:
    """Keep a row's trials for those who count them later. Several labs may do so at once."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "points.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = {**read_keys(folder), row: keys}
        temp = folder / "points.json.new"
        temp.write_text(json.dumps(known, indent=0) + "\n")
        temp.rename(folder / "points.json")


def read_all(folder: Path) -> list[dict[str, Any]]:
    """The outcomes in every results file; of `make soak` too."""
    return [one for path in sorted(folder.glob("*.jsonl")) for one in read_file(path)]


def read_file(path: Path) -> list[dict[str, Any]]:
    """The outcomes of a results file, oldest first; none where there is none."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.strip()]


# ---- what was done -------------------------------------------------------------------------------


def struck(outcomes: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], set[str]]:
    """(row, kind) -> the keys at which a trial passed, however its point was named then.

    The points of a sweep count for the kind that it is made of: each is the first that its step
    meets.
    """
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for one in outcomes:
        if one["outcome"] == "passed":
            row, kind = str(one["recipe"]), str(one["kind"])
            found[row, kind].add(_key(one))
            if kind in SWEEPS:
                found[row, SWEEPS[kind]] |= _swept(one)
    return found


def _key(one: Mapping[str, Any]) -> str:
    """A trial may be asked for by HOST:ACTION:NUMBER; its label begins with the whole key."""
    return str(one["point"] if one["kind"] in WHOLE else str(one["label"]).partition(" (")[0])


def _swept(one: Mapping[str, Any]) -> set[str]:
    """The points at which a trial of many struck."""
    return {label.partition(" (")[0] for label in str(one["label"]).split("; ")}


def sums(folder: Path) -> list[str]:
    """One sentence for each row, and for the soak: points struck of those there are, and the rest.

    A point counts once for each kind of fault, if a trial of `make faults` or `make soak` passed
    there, alone or in a sweep; one that the latest undisturbed run did not come by counts nowhere.
    """
    keys, outcomes = read_keys(folder), read_all(folder)
    done = struck(outcomes)
    found = []
    for name, trials in sorted(_by_file(folder).items()):
        wanted = {kind: k for kind, k in keys.get(name, {}).items() if kind not in SWEEPS}
        passed = {kind: len(done[name, kind] & set(known)) for kind, known in wanted.items()}
        each = ", ".join(f"{passed[kind]:,} of {len(k):,} {kind}" for kind, k in wanted.items())
        count = sum(map(len, wanted.values()))
        of_all = f"{sum(passed.values()):,} of {count:,} points ({each}); " if wanted else ""
        found.append(f"{name}: {of_all}{_trials(trials)}")
    every = [
        (row, kind, set(known))
        for row, of in keys.items()
        for kind, known in of.items()
        if kind not in SWEEPS
    ]
    if every:
        passed_all = sum(len(done[row, kind] & known) for row, kind, known in every)
        whole = sum(len(known) for _row, _kind, known in every)
        found.append(f"all rows: {passed_all:,} of {whole:,} points")
    return found


def _by_file(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Name -> outcomes of each results file, and nothing for rows that were only counted."""
    found = {path.stem: read_file(path) for path in sorted(folder.glob("*.jsonl"))}
    return {**{row: [] for row in read_keys(folder)}, **found}


def _trials(outcomes: list[dict[str, Any]]) -> str:
    bad = Counter(str(one["outcome"]) for one in outcomes if one["outcome"] != "passed")
    kinds = Counter(str(one["kind"]) for one in outcomes)
    told = ", ".join(f"{n:,} {kind}" for kind, n in sorted(kinds.items()))
    ended = ", ".join(f"**{n:,} {outcome}**" for outcome, n in sorted(bad.items()))
    times = sum(int(one.get("killed", 1)) for one in outcomes)
    if not outcomes:
        return "no trial yet"
    return f"struck {times:,} times in {len(outcomes):,} trials ({told}), {ended or 'all passed'}"


# ---- the table -----------------------------------------------------------------------------------


class Clock:
    """Seconds that a trial takes: the median of its row and kind, of its kind, of all."""

    def __init__(self, outcomes: Iterable[Mapping[str, Any]]) -> None:
        times: dict[tuple[str, str], list[float]] = defaultdict(list)
        for one in outcomes:
            if one["outcome"] == "passed":
                row, kind = str(one["recipe"]), str(one["kind"])
                for name in ((row, kind), ("", kind), ("", "")):
                    times[name].append(float(one["seconds"]))
        self._medians = {name: median(found) for name, found in times.items()}

    def seconds(self, row: str, kind: str) -> float:
        """Of one trial."""
        names = [n for n in ((row, kind), ("", kind), ("", "")) if n in self._medians]
        return self._medians[names[0]] if names else _UNKNOWN_SECONDS


def table(
    keys: Mapping[str, Keys], outcomes: list[dict[str, Any]], rows: Iterable[str]
) -> Iterator[str]:
    """The lines of a table: points struck of those there are, per row and kind, and hours.

    The hours are those of the whole matrix, which strikes at the points of the first four kinds in
    sweeps.
    """
    done, clock = struck(outcomes), Clock(outcomes)
    columns = (*SINGLE, *REPEATED)
    sums: dict[str, list[int]] = {kind: [0, 0] for kind in columns}
    hours = 0.0
    yield f"{'':22}" + "".join(f"{kind:>17}" for kind in columns) + f"{'all':>12}{'hours':>8}"
    for row in rows:
        cells, of_row = [], [0, 0]
        for kind in columns:
            wanted = keys[row].get(kind, [])
            passed = len(done[row, kind] & set(wanted))
            for total in (sums[kind], of_row):
                total[0], total[1] = total[0] + passed, total[1] + len(wanted)
            cells.append(f"{passed}/{len(wanted)}")
        took = sum(clock.seconds(row, k) * len(keys[row].get(k, ())) for k in WHOLE) / 3600
        hours += took
        yield _line(row, [*cells, "{}/{}".format(*of_row)], took)
    everything = [sum(column) for column in zip(*sums.values(), strict=True)]
    yield _line("all", ["{}/{}".format(*s) for s in (*sums.values(), everything)], hours)


def _line(name: str, cells: list[str], hours: float) -> str:
    return f"{name:22}" + "".join(f"{c:>17}" for c in cells[:-1]) + f"{cells[-1]:>12}{hours:>8.1f}"
