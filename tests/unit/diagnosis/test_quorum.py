"""Quorum arithmetic."""

from __future__ import annotations

from functools import partial
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.diagnosis.quorum import (
    Change,
    can_hide_committed,
    quorum,
    quorum_after_add_learner,
    quorum_after_add_voter,
    quorum_after_promote,
    quorum_after_remove,
    simulate,
    tolerance,
)


@pytest.mark.parametrize(
    ("voters", "need", "spare"),
    [(1, 1, 0), (2, 2, 0), (3, 2, 1), (4, 3, 1), (5, 3, 2), (6, 4, 2), (7, 4, 3)],
)
def test_quorum_and_tolerance(voters: int, need: int, spare: int) -> None:
    assert quorum(voters) == need
    assert tolerance(voters) == spare


@pytest.mark.parametrize(
    ("voters", "healthy", "is_healthy", "allowed"),
    [
        (3, 2, False, True),  # the dead one of three
        (3, 2, True, False),  # a healthy one while another is down
        (3, 3, True, True),
        (2, 2, True, True),
        (2, 1, False, False),  # nothing can be committed any more
        (1, 1, True, False),  # never the last voter
        (5, 3, True, False),
        (5, 3, False, True),
    ],
)
def test_remove(voters: int, healthy: int, is_healthy: bool, allowed: bool) -> None:
    change = quorum_after_remove(voters, healthy, is_healthy)
    assert change.is_allowed is allowed
    assert bool(change.refused) is not allowed
    assert change.voters == voters - 1


@pytest.mark.parametrize(
    ("voters", "healthy", "allowed"), [(1, 1, False), (2, 2, True), (3, 2, False), (3, 3, True)]
)
def test_add_voter_counts_at_once(voters: int, healthy: int, allowed: bool) -> None:
    assert quorum_after_add_voter(voters, healthy).is_allowed is allowed


def test_a_learner_is_the_way_for_one_voter() -> None:
    change = simulate(1, 1, quorum_after_add_learner, quorum_after_promote)
    assert change == Change(2, 2)


def test_promoting_a_learner_that_is_about_to_stop_loses_the_quorum_of_one() -> None:
    stopping = partial(quorum_after_promote, is_healthy=False)
    assert "1 healthy of 2" in simulate(1, 1, quorum_after_add_learner, stopping).refused


def test_simulation_stops_at_the_first_refusal() -> None:
    remove = partial(quorum_after_remove, is_healthy=True)
    assert simulate(2, 2, remove, remove, remove) == quorum_after_remove(1, 1, True)


@given(st.integers(1, 9), st.data())
def test_an_allowed_change_keeps_a_quorum(voters: int, data: st.DataObject) -> None:
    healthy = data.draw(st.integers(0, voters))
    is_healthy = data.draw(st.booleans()) and healthy > 0
    for change in (
        quorum_after_remove(voters, healthy, is_healthy),
        quorum_after_add_voter(voters, healthy),
        quorum_after_add_learner(voters, healthy),
        quorum_after_promote(voters, healthy),
    ):
        if change.is_allowed:
            assert change.voters >= 1
            assert healthy >= quorum(voters)
            assert change.healthy >= quorum(change.voters)
            assert change.tolerance >= 0


@pytest.mark.parametrize("voters", [1, 2, 3, 4, 5, 6, 7])
def test_unread_voters_hide_a_commit_only_if_they_are_a_quorum(voters: int) -> None:
    everyone = set(range(voters))
    for unread in range(voters + 1):
        hidden = set(range(unread))
        holders = combinations(everyone, quorum(voters))
        assert can_hide_committed(voters, unread) is any(set(q) <= hidden for q in holders)
