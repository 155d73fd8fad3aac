"""Which survivor is best, and what would be lost."""

from __future__ import annotations

from typing import Any

from agent.diagnosis.cluster import diagnose
from agent.diagnosis.ranking import losses, others_ahead, rank
from agent.model.facts import Observation
from agent.model.verdict import Diagnosis, MemberVerdict
from tests.unit.builders import Lab

LAB = Lab(3)


def at(number: int, index: int, term: int = 5, **db: Any) -> Observation:
    """A crash-looping host whose log ends there; `commit` goes to the log, the rest to the db."""
    log = {"last_index": index, "last_term": term, "commit": db.pop("commit", index)}
    return LAB.crash_looping(number, offline=LAB.offline(number, log, db))


def order(*observations: Observation) -> list[str]:
    return [m.host for m in rank(diagnose(observations).members)]


def test_the_later_term_wins_over_the_longer_log() -> None:
    assert order(at(0, 1000), at(1, 900, term=6), at(2, 1001)) == [
        "master-2",
        "master-3",
        "master-1",
    ]


def test_ties_go_to_the_larger_revision_then_to_the_name() -> None:
    assert order(at(0, 1000), at(1, 1000, revision=501), at(2, 1000)) == [
        "master-2",
        "master-1",
        "master-3",
    ]


def test_only_usable_voters_are_ranked() -> None:
    assert order(LAB.corrupt(0), at(1, 10), LAB.wiped(2)) == ["master-2"]


def target_and_losses(*observations: Observation) -> tuple[MemberVerdict, Diagnosis, str]:
    verdict = diagnose(observations)
    target = rank(verdict.members)[0]
    return target, verdict, " | ".join(losses(target, verdict.members, verdict.voters))


def test_an_unusable_host_that_is_further_is_shown() -> None:
    ahead = LAB.offline(1, {"last_index": 1200}, {"revision": 700, "consistent_index": 1200})
    damaged = LAB.corrupt(1).survey
    assert damaged is not None
    assert damaged.offline is not None
    assert damaged.offline.db is not None
    bad = LAB.crash_looping(
        1,
        offline=LAB.offline(
            1,
            {"last_index": 1200},
            {"revision": 700, "consistent_index": 1200, "damage": damaged.offline.db.damage},
        ),
    )
    assert ahead.wal is not None
    _, verdict, text = target_and_losses(at(0, 1000), bad, LAB.wiped(2))
    assert "master-2 (corrupt) has log entries up to term 5, index 1200" in text
    assert "master-2" in dict(verdict.consent)


def test_one_unreachable_of_three_hides_nothing_committed() -> None:
    _, _, text = target_and_losses(at(0, 1000), at(1, 1000), LAB.unreachable(2))
    assert "may hold committed writes" not in text


def test_two_unread_of_three_may_hide_committed_writes() -> None:
    _, _, text = target_and_losses(at(0, 1000), LAB.wiped(1), LAB.unreachable(2))
    assert "master-3: may hold committed writes" in text


def test_the_end_of_the_log_that_is_not_known_committed_is_named() -> None:
    _, _, text = target_and_losses(
        at(0, 1000, commit=990, consistent_index=990), LAB.wiped(1), LAB.unreachable(2)
    )
    assert "its last 10 log entries (991 to 1000)" in text


def test_a_database_that_lags_its_own_log_is_no_divergence() -> None:
    target, verdict, _ = target_and_losses(
        at(0, 1000, 6, consistent_index=980, revision=480), at(1, 999), LAB.wiped(2)
    )
    assert target.host == "master-1"
    assert others_ahead(target, verdict.members) == []


def test_writes_applied_elsewhere_beyond_the_known_commit_are_a_loss() -> None:
    """force-new-cluster cuts the log at the commit index that it recorded."""
    target, verdict, _ = target_and_losses(
        at(0, 1000, 6, commit=980, consistent_index=980, revision=480), at(1, 999), LAB.wiped(2)
    )
    assert target.host == "master-1"
    assert [m.host for m, _ in others_ahead(target, verdict.members)] == ["master-2"]


def test_the_same_position_with_another_revision_differs() -> None:
    _, verdict, text = target_and_losses(at(0, 1000), at(1, 1000, revision=499), LAB.wiped(2))
    assert "their data differs" in text
    assert "master-2" in dict(verdict.consent)


def test_data_of_another_cluster_is_not_compared() -> None:
    lab = Lab(3, cluster_id="eeeeeeeeeeeeeeee")
    other = LAB.fenced(1, offline=lab.offline(1, {"last_index": 9999}, {"revision": 9999}))
    verdict = diagnose([at(0, 1000), other, LAB.wiped(2)])
    assert all("9999" not in text for text in verdict.losses)
