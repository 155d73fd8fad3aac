"""`make fuzz N=…`: a long run over every reader; figures in build/fuzz/results.json.

python -m tests.fuzz [-n N] [--seed S] [--jobs J] [READER …]. N: inputs for each reader, half of
them by chance edits of samples, half guided by coverage where atheris is installed. Exit code 1
where a reader crashed, hung, took more than its memory, or gave an answer that cannot be right;
the inputs lie in build/fuzz/failures then.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz import guided
from tests.fuzz.corpus import Corpus, corpus
from tests.fuzz.readers import READERS
from tests.fuzz.run import run

FOLDER = Path(__file__).parents[2] / "build/fuzz"


@dataclass
class Ended:
    """One reader's run. failures: what went wrong, with the file that holds the input."""

    name: str
    edited: int = 0
    flipped: int = 0
    taken: int = 0
    guided: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """All inputs read."""
        return self.edited + self.flipped + self.guided


def fuzz(name: str, samples: Corpus, count: int, seed: int) -> Ended:
    """One reader, in a process of its own."""
    begun = time.monotonic()
    by_coverage = count // 2 if guided.is_there() else 0
    tally = run(READERS[name], samples, count - by_coverage, seed)
    ended = Ended(name, tally.inputs, tally.flipped, tally.taken)
    for said, sample in tally.failures:
        ended.failures.append(f"{said} (sample {_kept(sample)})")
    if by_coverage:
        folder = FOLDER / "guided" / name.replace(" ", "-")
        own = guided.samples_of(name, samples)
        ended.guided, said = guided.start(name, own, by_coverage, seed, folder).end()
        ended.failures += [said] if said else []
    ended.seconds = round(time.monotonic() - begun, 1)
    return ended


def _kept(sample: bytes) -> str:
    folder = FOLDER / "failures"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(sample).hexdigest()[:16]
    path.write_bytes(sample)
    return str(path.relative_to(FOLDER.parents[1]))


def main() -> int:
    """Fuzz, tell, and write the figures down."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("-n", type=int, default=20_000, help="inputs for each reader")
    parser.add_argument("--seed", type=int, default=0, help="0: one by chance, which is told")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("readers", nargs="*", help=", ".join(READERS))
    asked = parser.parse_args()
    seed = asked.seed or random.SystemRandom().randrange(1, 2**31)
    print(f"seed {seed}, {'guided by coverage too' if guided.is_there() else 'chance edits only'}")
    samples = corpus()
    results = []
    with ProcessPoolExecutor(asked.jobs) as pool:
        names = asked.readers or list(READERS)
        futures = [pool.submit(fuzz, name, samples, asked.n, seed) for name in names]
        for future in futures:
            results.append(future.result())
            _tell(results[-1])
            _write(results, seed)  # each time: what was done counts, should the rest be cut off
    print(f"{sum(ended.total for ended in results):,} inputs; see build/fuzz/results.json")
    return 1 if any(ended.failures for ended in results) else 0


def _tell(ended: Ended) -> None:
    state = f"{len(ended.failures)} FAILURES" if ended.failures else "ok"
    print(f"{ended.name:22} {ended.total:>9,} inputs  {ended.seconds:7.1f} s  {state}", flush=True)
    for said in ended.failures:
        print(f"    {said}", file=sys.stderr)


def _write(results: list[Ended], seed: int) -> None:
    """Of each reader the last run counts; one that failed has no figure."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    kept = FOLDER / "results.json"
    figures: dict[str, int] = json.loads(kept.read_text()) if kept.exists() else {}
    for ended in results:
        figures.pop(ended.name, 0)
        if not ended.failures:
            figures[ended.name] = ended.total
    kept.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")
    details: dict[str, Any] = {ended.name: vars(ended) for ended in results}
    text = json.dumps({"seed": seed, "readers": details}, indent=1)
    (FOLDER / "details.json").write_text(text + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
