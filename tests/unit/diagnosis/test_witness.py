"""Whose list of members is believed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.diagnosis import witness
from agent.diagnosis.cluster import diagnose
from agent.model.facts import Damage
from agent.model.verdict import ClusterState
from tests.unit.builders import OTHER_CLUSTER, Lab

LAB = Lab(3)


def test_a_member_that_serves_is_the_truth() -> None:
    shorter = LAB.members(without=(2,))
    told = LAB.healthy(1, online=LAB.online(1, members=shorter))
    stale = LAB.no_quorum(0, offline=LAB.offline(0, {"last_index": 99999}))
    found = witness.choose([stale, told])
    assert (found.host, found.online) == ("master-2", True)
    assert [m.name for m in found.members] == ["master-1", "master-2"]


def test_without_one_the_longest_intact_log_tells() -> None:
    behind = LAB.stopped(0, offline=LAB.offline(0, {"last_index": 900}))
    longest = LAB.stopped(1, offline=LAB.offline(1, {"last_index": 1001}))
    damaged = LAB.offline(2, {"last_index": 2000}, {"damage": Damage("db", 0, "no magic")})
    assert witness.choose([behind, longest]).host == "master-2"
    assert witness.choose([behind, longest, LAB.corrupt(2, offline=damaged)]).host == "master-2"


def test_a_damaged_database_tells_if_no_other_can() -> None:
    found = witness.choose([LAB.wiped(0), LAB.corrupt(1), LAB.unreachable(2)])
    assert found.host == "master-2"
    assert len(found.members) == 3


def test_a_removed_member_tells_nothing_if_another_can() -> None:
    gone = LAB.member_id(2)
    knows = LAB.offline(0, db={"removed_ids": (gone,), "members": LAB.members(without=(2,))})
    removed = LAB.removed(2, offline=LAB.offline(2, {"last_index": 9999}))
    found = witness.choose([LAB.stopped(0, offline=knows), removed])
    assert found.host == "master-1"
    assert found.removed_ids == {gone}


def test_nobody_can_tell() -> None:
    assert witness.choose([LAB.wiped(0), LAB.unreachable(1)]).members == ()
    assert witness.choose([]).members == ()


def test_both_lists_are_shown_where_they_differ() -> None:
    other = LAB.offline(1, db={"members": LAB.members(without=(2,))})
    verdict = diagnose([LAB.healthy(0), LAB.healthy(1, offline=other), LAB.healthy(2)])
    text = next(w for w in verdict.warnings if "lists" in w)
    assert "master-2 in its database lists master-1" in text
    assert "master-3 0000000000000003 of master-1" in text


def test_online_and_offline_of_one_host_are_both_shown_where_they_differ() -> None:
    data = LAB.offline(0, {"cluster_id": OTHER_CLUSTER}, {"revision": 900})
    verdict = diagnose([LAB.healthy(0, offline=data), LAB.healthy(1), LAB.healthy(2)])
    first = verdict.member("master-1")
    assert first is not None
    notes = " ".join(first.notes)
    assert OTHER_CLUSTER in notes
    assert LAB.cluster_id in notes
    assert "revision: etcd answers 500, its database has 900" in notes
    assert verdict.state is ClusterState.HEALTHY


@pytest.mark.parametrize(
    ("listed", "given", "expected"),
    [
        ((), (), ("master-1", "", "")),
        ((("master-2", 1), ("master-3", 2)), (), ("master-1", "master-2", "master-3")),
        ((), (1,), ("master-1", "master-2", "")),
        ((("master-1", 1),), (), ("master-1", "", "")),
        ((("a", 1), ("b", 1)), (), ("master-1", "", "")),
    ],
)
def test_names_that_a_database_lacks(
    listed: tuple[tuple[str, int], ...], given: tuple[int, ...], expected: tuple[str, ...]
) -> None:
    """As etcd 3.5.1 to 3.5.19 leaves it: promoted members have no name in the bucket of members."""
    members = (LAB.member(0), LAB.member(1, name=""), LAB.member(2, name=""))
    pairs = tuple((name, LAB.member(n).peer_urls[0]) for name, n in listed)
    configs = [
        replace(LAB.config(0), initial_cluster=pairs),
        *(replace(LAB.config(n), initial_cluster=()) for n in given),
    ]
    assert tuple(m.name for m in witness.named(members, configs)) == expected
