"""The words of install-timer: sizes, spans and numbers, and nothing else."""

from __future__ import annotations

import pytest

from agent.errors import UsageError
from agent.model.schedule import Limits, Schedule
from coordinator.tasks.timer import number_of, schedule_from, seconds_of, size_of

WORDS = {
    "every": "hourly", "random_delay": "15min", "keep": "7", "keep_days": "14",
    "keep_bytes": "20G", "min_free": "512M", "metrics": "/var/lib/node_exporter",
}  # fmt: skip


def test_a_schedule() -> None:
    assert schedule_from(WORDS) == Schedule(
        "hourly", 900, 600, "/var/lib/node_exporter", Limits(7, 14, 20 << 30, 512 << 20)
    )


@pytest.mark.parametrize(
    ("text", "bytes"),
    [("0", 0), ("10", 10), ("1K", 1024), ("2m", 2 << 20), ("20G", 20 << 30), ("1TiB", 1 << 40)],
)
def test_sizes(text: str, bytes: int) -> None:
    assert size_of(text, "keep-bytes") == bytes


@pytest.mark.parametrize("text", ["", "G", "-1", "1.5G", "20 G", "20X", "1e9", "9" * 12])
def test_no_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="no size"):
        size_of(text, "keep-bytes")


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("90", 90), ("90s", 90), ("15min", 900), ("2h", 7200)]
)
def test_spans(text: str, seconds: int) -> None:
    assert seconds_of(text, "random-delay") == seconds


@pytest.mark.parametrize("text", ["", "h", "1.5h", "-1", "1 h", "1month"])
def test_no_spans(text: str) -> None:
    with pytest.raises(UsageError, match="no span"):
        seconds_of(text, "random-delay")


@pytest.mark.parametrize("text", ["", "-1", "1.0", "1,0", "x", "9" * 12])
def test_no_numbers(text: str) -> None:
    with pytest.raises(UsageError, match="whole number"):
        number_of(text, "keep")


@pytest.mark.parametrize(
    ("name", "text"),
    [("keep", "0"), ("every", "daily\nx"), ("metrics", "relative"), ("random_delay", "3d")],
)
def test_what_no_schedule_is(name: str, text: str) -> None:
    with pytest.raises(UsageError):
        schedule_from({**WORDS, name: text})
