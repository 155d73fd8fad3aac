"""Clocks are told apart only as far as a look over the network can be sure of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.diagnosis import clocks
from agent.diagnosis.cluster import diagnose
from agent.model.facts import Observation
from tests.unit.builders import Lab

LAB = Lab(3)
Bounds = tuple[float, float]


def hosts(*bounds: Bounds | None) -> list[Observation]:
    return [replace(LAB.healthy(n), clock=clock) for n, clock in enumerate(bounds)]


@pytest.mark.parametrize(
    ("one", "other", "seconds"),
    [
        ((-0.5, 0.5), (-0.5, 0.5), 0.0),
        ((61.0, 62.0), (-0.5, 0.5), 60.5),
        ((-0.5, 0.5), (61.0, 62.0), -60.5),
        ((0.4, 1.4), (-0.5, 0.5), 0.0),
        (None, (61.0, 62.0), 0.0),
    ],
)
def test_no_more_is_said_than_is_sure(
    one: Bounds | None, other: Bounds | None, seconds: float
) -> None:
    first, second, _ = hosts(one, other, None)
    assert clocks.apart(first, second) == seconds


@given(
    st.floats(-1e5, 1e5), st.floats(-1e5, 1e5), st.floats(0, 5), st.floats(0, 5), st.floats(0, 1),
    st.floats(0, 1),
)  # fmt: skip
def test_the_truth_is_never_smaller_than_what_is_said(
    one: float, other: float, width: float, other_width: float, at: float, other_at: float
) -> None:
    """Wherever within its bounds each clock really is, they differ at least by that much."""
    first, second, _ = hosts((one, one + width), (other, other + other_width), None)
    real = (one + at * width) - (other + other_at * other_width)
    said = clocks.apart(first, second)
    assert abs(said) <= abs(real) + 1e-6
    assert said * real >= 0 or abs(said) < 1e-6


def test_the_one_that_is_off_is_named_and_not_the_others() -> None:
    found = clocks.warnings(hosts((-0.3, 0.3), (-0.3, 0.3), (300.0, 300.6)))
    (said,) = found
    assert said.startswith("the clock of master-3 is 299.7 s ahead of that of master-")
    assert "no certificate is judged or made" in said


def test_a_small_difference_is_shown_and_forbids_nothing() -> None:
    observations = hosts((-0.3, 0.3), (4.0, 4.6), (-0.3, 0.3))
    (said,) = clocks.warnings(observations)
    assert "3.7 s ahead" in said
    assert "no certificate" not in said
    assert clocks.beyond(observations, "master-2") == ""


def test_it_is_beyond_for_the_host_that_is_off_alone() -> None:
    observations = hosts((-0.3, 0.3), (-0.3, 0.3), (-400.0, -399.4))
    assert "behind" in clocks.beyond(observations, "master-3")
    assert "and from 1 more" in clocks.beyond(observations, "master-3")
    assert clocks.beyond(observations, "nobody") == ""


def test_a_diagnosis_shows_it() -> None:
    warnings = diagnose(hosts((0.0, 0.1), (0.0, 0.1), (90.0, 90.1))).warnings
    assert any("the clock of master-3 is 89.9 s ahead" in text for text in warnings)
    assert not any("clock" in text for text in diagnose(hosts(None, None, None)).warnings)
