"""One reader under fuzz: every input is read within a deadline; what goes wrong is kept."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Optional

from tests.fuzz.corpus import Corpus
from tests.fuzz.edits import Edit, chance_edits, edited
from tests.fuzz.reader import Reader

DEADLINE = 10.0
"""Seconds of this process's own time for one input; some kilobytes take milliseconds."""


class Hang(Exception):
    """A reader that did not come to an end."""


@contextmanager
def deadline(seconds: float = DEADLINE) -> Iterator[None]:
    """Raise Hang after so many seconds of processor time, whatever else the machine does."""

    def stop(_signal: int, _frame: Optional[FrameType]) -> None:
        raise Hang(f"no answer after {seconds:g} s of processor time")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@dataclass
class Tally:
    """What was tried. taken: inputs that were read without an error. flipped: of covered bits."""

    inputs: int = 0
    taken: int = 0
    flipped: int = 0
    failures: list[tuple[str, bytes]] = field(default_factory=list)


def read_edited(reader: Reader, sample: bytes, edits: Sequence[Edit], tally: Tally) -> None:
    """Read a sample with edits, as it is and with its checksums made right again."""
    data = edited(sample, edits)
    for version in (data, reader.repair(data)) if reader.repair else (data,):
        with deadline():
            tally.taken += reader.try_read(version)
        tally.inputs += 1


def read_flipped(reader: Reader, sample: bytes, bits: Sequence[int], tally: Tally) -> None:
    """Read a sample with some bits flipped that are under a checksum."""
    assert reader.covered
    places = [at for start, end in reader.covered(sample) for at in range(start, end)]
    data = bytearray(sample)
    for bit in dict.fromkeys(number % (8 * len(places)) for number in bits[: reader.flips]):
        data[places[bit // 8]] ^= 1 << bit % 8
    with deadline():
        reader.try_flipped(sample, bytes(data))
    tally.flipped += 1


def run(reader: Reader, corpus: Corpus, count: int, seed: int) -> Tally:
    """`count` inputs by chance from a seed, a fifth of them flips where bits are covered."""
    chance, tally = random.Random(f"{reader.name} {seed}"), Tally()
    samples = reader.samples(corpus)
    while tally.inputs + tally.flipped < count:
        sample = chance.choice(samples)
        try:
            if reader.covered and chance.random() < 0.2:
                bits = [chance.getrandbits(40) for _ in range(chance.choice((1, 1, 1, 2, 3)))]
                shown = f"flip {bits}"
                read_flipped(reader, sample, bits, tally)
            else:
                edits = chance_edits(chance)
                shown = f"{edits}"
                read_edited(reader, sample, edits, tally)
        except Exception as error:
            tally.failures.append((f"{type(error).__name__}: {error} after {shown}"[:2000], sample))
            tally.inputs += 1
            if len(tally.failures) >= 20:
                break
    return tally
