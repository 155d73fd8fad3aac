"""Of which cluster a snapshot is: proved by its members' IDs, or told by their addresses."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.diagnosis.origin import MOST, Named, founded_by, is_founded_by_some, judge
from agent.errors import Refused
from agent.host import Host
from agent.model.facts import Observation
from agent.recipes.restore import restore
from agent.snapshot.verify import removed_members, verify_snapshot
from tests.unit.builders import Lab
from tests.unit.etcd_lab import Plain, etcd_binaries, needs_etcd, running
from tests.unit.recipes.making import NOW, cluster_of
from tests.unit.recipes.test_restore import wish

IDS = [f"{number:016x}" for number in (0x8E9E05C52164694D, 7, 2**64 - 1)]
FOUNDED = founded_by(IDS[:2])
LAB = Lab(3, cluster_id=founded_by([f"{number:016x}" for number in (1, 2, 3)]))
AWAY = Lab(3, cluster_id="ee" * 8)


def elsewhere() -> Named:
    """Members of the same names, on other hosts."""
    members = [
        replace(m, id=f"{number:016x}", peer_urls=(f"https://192.0.2.{number}:2380",))
        for number, m in enumerate(LAB.members(), start=11)
    ]
    return Named(members=tuple(members))


def test_the_id_of_a_cluster_is_that_of_its_founders() -> None:
    assert founded_by(["8e9e05c52164694d"]) == "cdf818194e3a8c32"  # etcd's own default cluster
    assert founded_by(IDS) == founded_by(IDS[::-1])


@given(st.lists(st.integers(1, 2**64 - 1), min_size=1, max_size=8, unique=True), st.data())
def test_any_founders_among_all_that_ever_were_members_are_found(
    numbers: list[int], data: st.DataObject
) -> None:
    ids = [f"{number:016x}" for number in numbers]
    founders = data.draw(st.lists(st.sampled_from(ids), min_size=1, unique=True))
    assert is_founded_by_some(founded_by(founders), ids) is True
    assert is_founded_by_some("00" * 8, ids) is False


def test_what_cannot_be_said_is_not_said() -> None:
    many = [f"{number:016x}" for number in range(1, 41)]
    assert is_founded_by_some("00" * 8, []) is None
    assert is_founded_by_some("00" * 8, many) is None
    assert is_founded_by_some(founded_by(many[:1]), many) is True
    assert MOST > 2**17


SERVING = [LAB.healthy(n) for n in range(3)]
GONE = [LAB.wiped(n) for n in range(3)]


@pytest.mark.parametrize(
    ("named", "hosts", "kind", "words"),
    [
        (Named(members=LAB.members()), SERVING, "same", "by the IDs of its members"),
        (Named(members=LAB.members(without=[2]), removed=("0" * 15 + "3",)), SERVING, "same", ""),
        (Named(LAB.cluster_id, LAB.members()), SERVING, "same", "by its set's manifest"),
        (Named(members=LAB.members()), [AWAY.healthy(0)], "earlier", "master-1, master-2"),
        (Named("c" * 16, LAB.members()), SERVING, "earlier", "of cluster cccccccccccccccc, not"),
        (elsewhere(), SERVING, "other", "its members are master-1 at https://192.0.2.11:2380;"),
        (replace(elsewhere(), cluster_id="c" * 16), SERVING, "other", f"cluster {LAB.cluster_id}"),
        (Named(members=LAB.members()), GONE, "unknown", "master-1, master-2, master-3 of its list"),
        (elsewhere(), GONE, "unknown", "none of its members is here"),
        (Named(), SERVING, "unknown", "lists no member"),
    ],
)
def test_whose_it_is(named: Named, hosts: Sequence[Observation], kind: str, words: str) -> None:
    origin = judge(named, hosts)
    assert origin.kind == kind
    assert words in origin.why


def test_one_host_of_its_cluster_is_enough() -> None:
    """A host that founded a cluster of its own does not hide the others' data."""
    mixed = [AWAY.healthy(0), LAB.stopped(1), LAB.stopped(2)]
    origin = judge(Named(members=LAB.members()), mixed)
    assert (origin.kind, "master-2, master-3" in origin.why) == ("same", True)


@pytest.mark.parametrize("hosts", [("master-1",), ("master-1", "master-2", "master-3")])
def test_a_snapshot_of_another_cluster_is_refused_unless_it_is_meant(hosts: list[str]) -> None:
    cluster = cluster_of([LAB.corrupt(n) for n in range(3)])
    made = wish(*hosts)
    foreign = replace(made, source=replace(made.source, named=elsewhere()))
    with pytest.raises(Refused, match="of another cluster than these hosts'") as refused:
        restore(cluster, NOW, foreign)
    assert "--other-cluster" in refused.value.next
    plan = restore(cluster, NOW, replace(foreign, other_cluster=True))
    assert any("of another cluster" in text for text in plan.losses)
    own = replace(made, source=replace(made.source, named=Named(members=LAB.members())))
    assert not any("cluster" in text for text in restore(cluster, NOW, own).losses)


def test_a_snapshot_of_the_time_before_a_restore_is_told_and_taken() -> None:
    cluster = cluster_of([LAB.corrupt(n) for n in range(3)])
    made = wish("master-1")
    before = replace(made, source=replace(made.source, named=Named("c" * 16, LAB.members())))
    (first, *_) = restore(cluster, NOW, before).losses
    assert "of the time before a restore" in first


@needs_etcd()
@pytest.mark.parametrize("binary", etcd_binaries())
def test_a_founder_that_left_is_still_known(binary: str, tmp_path: Path) -> None:
    """The ID that a real etcd gives, and what its snapshot file holds of it."""
    at_once = ("--strict-reconfig-check=false",)  # not only after 5 s
    with running(tmp_path, binary, Plain(2, tls=False, extra=at_once)) as (first, second):
        with second.client() as client:
            leaving = client.status().member_id
        with first.client() as client:
            client.member_remove(leaving)
            second.stop()
            status = client.status()
        file, tool = str(tmp_path / "s.db"), str(Path(binary).parent / "etcdctl")
        subprocess.run(
            [tool, "--endpoints", first.endpoint, "snapshot", "save", file],
            check=True, capture_output=True, env={"ETCDCTL_API": "3"},
        )  # fmt: skip
    facts, removed = verify_snapshot(Host(), file), removed_members(Host(), file)
    ids = [member.id for member in facts.members]
    assert (facts.cluster_id, removed) == ("", (leaving,))
    assert founded_by(ids) != status.cluster_id == founded_by([*ids, *removed])
    assert is_founded_by_some(status.cluster_id, [*ids, *removed]) is True
