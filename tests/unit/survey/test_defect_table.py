"""Known defects by version."""

from __future__ import annotations

import pytest

from agent.survey.defect_table import ROWS, find_defects, version_of

RECIPES = {"reseed", "rejoin", "replace-member", "restart-member", "remove-member", "restore"}


def test_every_row_is_whole() -> None:
    assert len({row.key for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert row.source.startswith("https://"), row.key
        assert row.summary, row.key
        assert row.meaning, row.key
        assert set(row.recipes) <= RECIPES, row.key
        assert row.fixed is None or (row.fixed > row.since and row.fixed[:2] == row.since[:2])


@pytest.mark.parametrize(
    ("version", "has", "has_not"),
    [
        ("3.5.0", {"data-inconsistency", "membership-two-stores"}, set()),
        ("3.5.2", {"data-inconsistency"}, {"membership-two-stores"}),
        ("3.5.3", {"lost-writes-alone"}, {"data-inconsistency"}),
        ("3.5.21", {"leftover-members-35"}, {"too-many-learners"}),
        ("3.5.25", {"zombie-members"}, {"leftover-learners-35", "leftover-members-35"}),
        ("3.4.26", {"no-bump-revision-34"}, {"no-bump-revision-35"}),
        ("3.6.0", {"leftover-members-36"}, {"zombie-members"}),
        ("3.6.5", {"leftover-learners-36"}, {"leftover-members-36"}),
    ],
)
def test_by_version(version: str, has: set[str], has_not: set[str]) -> None:
    found = {defect.key for defect in find_defects(version)}
    assert has <= found
    assert not has_not & found


@pytest.mark.parametrize(
    "version", ["3.4.27", "3.5.26", "3.5.30", "3.6.6", "3.7.0", "", "v3", "3.5"]
)
def test_none(version: str) -> None:
    assert find_defects(version) == ()


def test_the_version_is_what_is_told_first() -> None:
    assert version_of("", "3.5.9-0", "3.6.1") == "3.5.9"
    assert version_of("", "latest") == ""
