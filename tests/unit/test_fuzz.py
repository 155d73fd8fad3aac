"""A fixed short run of the fuzzing: every reader, real samples, edits that hypothesis chooses.

`make fuzz N=…` is the long one (tests/fuzz).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz import repair
from tests.fuzz.corpus import Corpus, corpus
from tests.fuzz.edits import EDITS, Edit
from tests.fuzz.reader import Reader
from tests.fuzz.readers import READERS
from tests.fuzz.run import Tally, read_edited, read_flipped
from tests.unit.etcd_lab import needs_etcd

pytestmark = needs_etcd()

EXAMPLES = {"manifest": 120, "cluster.yaml": 250, "archive": 200}
"""Fewer where one input takes milliseconds."""

always = settings(
    derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck),
    phases=(Phase.generate, Phase.shrink),
)  # fmt: skip


@pytest.fixture(scope="module")
def samples() -> Corpus:
    return corpus()


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_samples_are_read(reader: Reader, samples: Corpus) -> None:
    """A reader that refused its samples would be fuzzed in vain."""
    assert all(reader.try_read(sample) for sample in reader.samples(samples))


@pytest.mark.reliability(
    "Hostile input",
    "a file or an answer is changed at any place, its checksums made right again or not: the reader"
    " reads it or says what is wrong, in time, and never crashes",
)
@pytest.mark.parametrize("name", READERS)
def test_any_edit_is_read_or_refused(
    name: str, samples: Corpus, figure: Callable[[str, int], None]
) -> None:
    reader, tally = READERS[name], Tally()

    @settings(always, max_examples=EXAMPLES.get(name, 400))
    @given(st.sampled_from(reader.samples(samples)), EDITS)
    def read(sample: bytes, edits: list[Edit]) -> None:
        read_edited(reader, sample, edits, tally)

    read()
    figure("inputs read by the fixed fuzzing run", tally.inputs)


@pytest.mark.reliability(
    "Hostile input",
    "bits under a checksum are flipped: it is reported as damage, or what is told stays the same",
)
@pytest.mark.parametrize("name", [name for name, reader in READERS.items() if reader.covered])
def test_flipped_bits_do_not_go_unnoticed(
    name: str, samples: Corpus, figure: Callable[[str, int], None]
) -> None:
    reader, tally = READERS[name], Tally()
    bits = st.lists(st.integers(0, 2**32), min_size=1, max_size=3)

    @settings(always, max_examples=EXAMPLES.get(name, 300))
    @given(st.sampled_from(reader.samples(samples)), bits)
    def read(sample: bytes, flips: list[int]) -> None:
        read_flipped(reader, sample, flips, tally)

    read()
    figure("files with flipped bits read", tally.flipped)


NO_PLAN = repair.journal(b'{"seq":1,"time":1.0,"kind":"plan","step":"","data":{}}\n')
FOUND = [
    ("journal", NO_PLAN),
    ("snapshot stream", b"\0\0\0\0\x08\0\0\0\x01"),
    ("cluster.yaml", b"hosts:\n  ? - a\n"),
    ("systemd unit", b"[Service]\nExecStart=/usr/bin/etcd \\"),
    ("raft snapshot", b"\x08\x00\x12\x00\x12"),
]
"""What earlier runs found, in the smallest form."""


@pytest.mark.parametrize(("name", "data"), FOUND)
def test_what_was_found_before(name: str, data: bytes) -> None:
    READERS[name].try_read(data)
