"""By how much the revision is raised after a restore."""

from __future__ import annotations

from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.diagnosis.revisions import LARGEST, LEAST_MARGIN, Evidence, bump, highest_in
from agent.model.facts import DbFacts, OfflineFacts, WalFacts

number = st.integers(1, 2**40)


@given(
    number,
    st.lists(st.builds(Evidence, st.text(), number)),
    st.integers(0, 2**40),
    st.none() | st.floats(-1e9, 1e9),
)
def test_it_ends_above_everything_that_is_known(
    snapshot: int, found: list[Evidence], at_least: int, age: Optional[float]
) -> None:
    result = bump(snapshot, found, at_least, age)
    assert result.amount >= LEAST_MARGIN
    assert result.revision == snapshot + result.amount
    floor = max([snapshot, at_least, *(evidence.revision for evidence in found)])
    assert result.revision >= floor + LEAST_MARGIN
    assert result.missing == floor - snapshot
    assert result.revision < LARGEST


def test_the_words_name_the_highest_and_its_place() -> None:
    found = [Evidence("master-0: /var/lib/etcd", 900), Evidence("older.db", 300)]
    result = bump(500, found)
    assert (result.highest, result.source) == (900, "master-0: /var/lib/etcd")
    assert (result.missing, result.margin) == (400, LEAST_MARGIN)
    assert "week" in result.reason


def test_the_operators_number_counts_where_it_is_the_highest() -> None:
    assert bump(500, [Evidence("a", 900)], at_least=5000).source == "the operator's --at-least"
    assert bump(500, [Evidence("a", 900)], at_least=600).source == "a"


def test_an_old_snapshot_gets_a_margin_for_its_age() -> None:
    result = bump(500, [], age=30 * 86400)
    assert result.margin == 30 * 86400 * 1500
    assert "30.0 days" in result.reason
    assert bump(500, [], age=86400).margin == LEAST_MARGIN


def facts(revision: int, applied: int, last: int) -> OfflineFacts:
    db = DbFacts(1, 4096, 1, applied, 2, revision)
    wal = WalFacts("a", "b", 2, last, 2, last, 1, 1, 1, last)
    return OfflineFacts("/d", True, 1, wal, db)


@pytest.mark.parametrize(
    ("given_facts", "expected"),
    [
        (facts(100, 50, 60), 110),  # ten entries of the log are not in the database yet
        (facts(100, 60, 60), 100),
        (facts(100, 60, 50), 100),  # the end of the log was lost
        (facts(0, 0, 60), 0),
        (OfflineFacts("/d", False), 0),
    ],
)
def test_what_a_data_directory_stands_for(given_facts: OfflineFacts, expected: int) -> None:
    assert highest_in(given_facts) == expected
