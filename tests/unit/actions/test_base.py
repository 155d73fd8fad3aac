from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from agent.actions.base import wait_for
from agent.actions.registry import ACTIONS
from agent.errors import Timeout
from agent.model.catalog import CATALOG
from coordinator.sequencer import _STEP_SILENCE


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)
        monkeypatch.setattr("time.sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def at(self) -> float:
        return self.now - 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def seeing(
    clock: Clock, seen: Callable[[float], str], until: float = 1e9, deadline: float = 100.0
) -> list[float]:
    """Wait with these things to be seen; the whole seconds at which something was told."""
    told: list[float] = []

    def say(text: str) -> None:
        told.append(round(clock.at()))

    def probe() -> tuple[bool, str]:
        return clock.at() >= until, seen(clock.at())

    with suppress(Timeout):
        wait_for(say, "a thing", probe, deadline)
    return told


def test_sameness_is_told_ever_more_seldom(clock: Clock) -> None:
    assert seeing(clock, lambda at: "nothing") == [1, 5, 10, 20, 40, 80]


def test_no_silence_is_so_long_that_a_coordinator_gives_up(clock: Clock) -> None:
    told = [0, *seeing(clock, lambda at: "nothing", deadline=900.0)]
    assert max(later - told[i] for i, later in enumerate(told[1:])) <= _STEP_SILENCE / 2


def test_news_are_told_at_most_once_a_second(clock: Clock) -> None:
    assert seeing(clock, lambda at: f"{at:.1f}", until=6.0) == [1, 2, 3, 4, 5]


def test_a_change_is_told_when_it_comes(clock: Clock) -> None:
    assert seeing(clock, lambda at: "old" if at < 7.5 else "new", until=9.0) == [1, 5, 8]


def test_quick_waits_tell_nothing(clock: Clock) -> None:
    assert seeing(clock, lambda at: f"{at}", until=0.5) == []


def test_what_is_reached_must_hold(clock: Clock) -> None:
    answers: Iterator[bool] = iter([True, True, False, *[True] * 100])
    seen = wait_for(lambda text: None, "a thing", lambda: (next(answers), "x"), 60, 0.1, hold=0.5)
    assert seen == "x"
    assert clock.at() == pytest.approx(0.8)


def test_a_deadline_says_what_was_waited_for_and_last_seen(clock: Clock) -> None:
    with pytest.raises(Timeout) as caught:
        wait_for(lambda text: None, "a thing", lambda: (False, "smoke"), 2, next="look")
    assert caught.value.seen == "waited 2 s for a thing; last seen: smoke"
    assert caught.value.next == "look"
    assert clock.at() == pytest.approx(2.1, abs=0.2)


def test_the_catalog_and_the_actions_are_the_same() -> None:
    assert set(ACTIONS) == set(CATALOG)
    for name, action in ACTIONS.items():
        assert action.spec.name == name
        assert action.__doc__
