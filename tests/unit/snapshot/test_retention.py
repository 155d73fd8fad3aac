"""Which scheduled sets stay: tables, and what holds for any sets and limits."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.schedule import Limits
from agent.snapshot.retention import Kept, expired, newest_first

DAY = 86400.0
NOW = 100 * DAY


def days(*ages: float, size: int = 10, quorum: bool = True) -> list[Kept]:
    """Sets of these ages; the first one was just taken."""
    return [
        Kept(f"d{age:g}", NOW - age * DAY, size, quorum, number == 0)
        for number, age in enumerate(ages)
    ]


def test_count() -> None:
    assert expired(days(0, 1, 2, 3), Limits(keep=2), NOW) == ["d3", "d2"]
    assert expired(days(0, 1, 2, 3), Limits(keep=4), NOW) == []


def test_age() -> None:
    assert expired(days(0, 1, 2, 3), Limits(keep=9, keep_days=2), NOW) == ["d3"]


def test_bytes() -> None:
    assert expired(days(0, 1, 2, 3), Limits(keep=9, keep_bytes=25), NOW) == ["d3", "d2"]


def test_one_that_is_larger_than_all_may_be_stays_if_it_is_the_newest() -> None:
    assert expired(days(0, 1, size=99), Limits(keep=9, keep_bytes=1), NOW) == ["d1"]


def test_where_bytes_do_not_suffice_for_a_set_they_do_not_for_an_older_one() -> None:
    sets = [
        Kept("a", NOW, 10, is_new=True), Kept("b", NOW - DAY, 100), Kept("c", NOW - 2 * DAY, 1),
    ]  # fmt: skip
    assert expired(sets, Limits(keep=9, keep_bytes=50), NOW) == ["c", "b"]


def test_after_a_long_time_off_the_new_one_stays_alone() -> None:
    assert expired(days(0, 40, 41), Limits(keep=9, keep_days=14), NOW) == ["d41", "d40"]


def test_the_newest_with_a_quorum_stays_beside_newer_ones_without() -> None:
    old = [Kept("q5", NOW - 5 * DAY, 10), Kept("q6", NOW - 6 * DAY, 10)]
    sets = [*days(0, 1, quorum=False), *old]
    assert expired(sets, Limits(keep=1), NOW) == ["q6", "d1"]


def test_the_one_just_taken_stays_where_the_clock_was_set_back() -> None:
    sets = [Kept("future", NOW + 9 * DAY, 10), Kept("new", NOW, 10, is_new=True)]
    assert expired(sets, Limits(keep=1), NOW) == ["future"]


def test_nothing_is_taken_from_nothing() -> None:
    assert expired([], Limits(keep=1), NOW) == []


@st.composite
def holdings(draw: st.DrawFn) -> list[Kept]:
    rows = draw(
        st.lists(st.tuples(st.integers(-5, 60), st.integers(0, 50), st.booleans()), max_size=12)
    )
    new = draw(st.integers(-1, len(rows) - 1))
    return [
        Kept(f"s{n}", NOW - age * DAY, size, quorum, n == new)
        for n, (age, size, quorum) in enumerate(rows)
    ]


LIMITS = st.builds(Limits, st.integers(1, 6), st.integers(0, 30), st.integers(0, 100), st.just(0))


@given(holdings(), LIMITS)
def test_the_newest_and_the_newest_with_a_quorum_always_stay(
    sets: Sequence[Kept], limits: Limits
) -> None:
    gone = set(expired(sets, limits, NOW))
    ordered = newest_first(sets)
    assert not {s.name for s in ordered[:1]} & gone
    assert not {s.name for s in [s for s in ordered if s.quorum][:1]} & gone
    assert not any(s.is_new and s.name in gone for s in sets)


@given(holdings(), LIMITS)
def test_what_stays_is_within_the_limits_but_for_the_two_that_always_stay(
    sets: Sequence[Kept], limits: Limits
) -> None:
    gone = set(expired(sets, limits, NOW))
    ordered = newest_first(sets)
    always = {s.name for s in ordered[:1]} | {s.name for s in [s for s in ordered if s.quorum][:1]}
    stay = [s for s in ordered if s.name not in gone]
    free = [s for s in stay if s.name not in always]
    assert len(free) <= limits.keep
    for each in free:
        assert not limits.keep_days or NOW - each.time <= limits.keep_days * DAY
        newer = ordered[: ordered.index(each) + 1]
        assert not limits.keep_bytes or sum(s.size for s in newer) <= limits.keep_bytes


@given(holdings(), LIMITS)
def test_a_second_look_takes_nothing_more(sets: Sequence[Kept], limits: Limits) -> None:
    gone = set(expired(sets, limits, NOW))
    left = [s for s in sets if s.name not in gone]
    assert expired(left, limits, NOW) == []


@pytest.mark.parametrize("keep", range(1, 5))
def test_no_more_goes_than_the_count_asks(keep: int) -> None:
    assert len(expired(days(*range(6)), Limits(keep=keep), NOW)) == 6 - keep
