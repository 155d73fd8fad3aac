"""Which hosts a restore is for, where its file lies, and whose definition a backup set holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from agent.diagnosis.cluster import diagnose
from agent.errors import Refused, UsageError
from agent.model.facts import Alarm, Observation, OfflineFacts
from agent.snapshot.backup_set import FORMAT, BackupSet, SetFile
from agent.snapshot.verify import SnapshotFacts
from coordinator.console import Progress
from coordinator.fleet import Fleet
from coordinator.tasks.common import Looked, Options
from coordinator.tasks.placing import Found, on_host, would_place
from coordinator.tasks.restore import Asked, restore
from coordinator.tasks.restore import _hosts as hosts_of
from coordinator.tasks.restore import _refuse_corrupt as refuse_corrupt
from coordinator.tasks.set_definitions import _row as row_of
from tests.unit.builders import DATA, Lab

LAB = Lab(3)
FACTS = SnapshotFacts("/s.db", 32, "ab" * 32, 5, 1, 1, 1, 1, True, "snapshot")


def looked(observations: Sequence[Observation]) -> Looked:
    """Hosts as they were looked at; nothing here is asked of them again."""
    return Looked(cast("Fleet", None), tuple(observations), diagnose(observations), Progress())


THREE = [LAB.corrupt(0), LAB.corrupt(1), LAB.corrupt(2)]


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("s.db", ("", "s.db")),
        ("/tmp/a:b/s.db", ("", "/tmp/a:b/s.db")),
        ("./x:/y", ("", "./x:/y")),
        ("odd:name.db", ("", "odd:name.db")),
        ("master-2:/var/s.db", ("master-2", "/var/s.db")),
    ],
)
def test_where_a_file_lies(file: str, expected: tuple[str, str]) -> None:
    assert on_host(looked(THREE), file) == expected


def test_a_file_on_a_host_that_nobody_knows() -> None:
    with pytest.raises(UsageError, match="no host 'master-9'") as refused:
        on_host(looked(THREE), "master-9:/s.db")
    assert "master-1, master-2, master-3" in refused.value.why


BARE: dict[str, Any] = {"config": None, "parked": (), "offline": OfflineFacts(DATA, False)}


@pytest.mark.parametrize(
    ("asked", "given", "expected"),
    [
        (Asked("s.db"), (), ("master-2",)),  # the first that has a definition
        (Asked("s.db"), ("master-3",), ("master-3",)),
        (Asked("s.db"), ("master-1",), ("master-2",)),  # given, and it has none
        (Asked("master-3:/s.db"), ("master-2",), ("master-3",)),
        (Asked("s.db", on="master-1"), (), ("master-1",)),
        (Asked("s.db", all_nodes=True), (), ("master-2", "master-3")),
    ],
)
def test_the_hosts_that_are_restored(
    asked: Asked, given: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    found = looked([LAB.corrupt(0, **BARE), LAB.corrupt(1), LAB.corrupt(2), LAB.unreachable(2)][:3])
    assert hosts_of(found, Options(hosts=given), asked) == expected


def test_a_snapshot_of_a_corrupt_cluster_is_refused() -> None:
    facts = replace(FACTS, alarms=(Alarm("1", "CORRUPT"),))
    with pytest.raises(Refused, match="CORRUPT alarm") as refused:
        refuse_corrupt(Found(facts, "", "/s.db"))
    assert refused.value.next
    refuse_corrupt(Found(replace(FACTS, alarms=(Alarm("1", "NOSPACE"),)), "", "/s.db"))


@pytest.mark.parametrize("number", [-1, 2**62])
def test_a_revision_that_cannot_be(number: int) -> None:
    with pytest.raises(UsageError, match="at-least"):
        restore(Options(), Asked("s.db", at_least=number))


def test_a_plan_that_is_only_shown_names_the_place_to_come() -> None:
    found = Found(FACTS, "master-1", "/var/s.db")
    placed = would_place(found, ["master-1", "master-2"])
    assert placed.paths["master-1"] == "/var/s.db"
    assert placed.paths["master-2"].endswith("/work/incoming/" + "ab" * 8 + "/s.db")


def a_set(**given: Any) -> BackupSet:
    manifest = "/etc/kubernetes/manifests/etcd.yaml"
    files = (
        SetFile("snapshot.db", 1, "0" * 64, "snapshot"),
        SetFile(f"host{manifest}", 1, "1" * 64, "manifest", manifest),
    )
    values: dict[str, Any] = {
        "format": FORMAT, "name": "n", "kind": "snapshot", "cluster_id": "c", "host": "master-1",
        "machine_id": f"{0:032x}", "member": "m", "member_id": "1", "time": 1.0, "created": "",
        "tool": "", "platform": "kubeadm", "etcd_version": "3.5.0", "quorum": True, "files": files,
    }  # fmt: skip
    return BackupSet(**{**values, **given})


def test_a_definition_fits_the_host_that_it_was_taken_on() -> None:
    here = LAB.corrupt(0, **BARE)
    row = row_of(here, a_set())
    assert row is not None
    assert Path(row.source).name == "etcd.yaml"
    assert row_of(LAB.corrupt(1, **BARE), a_set()) is None
    assert row_of(here, a_set(platform="systemd")) is None
    assert row_of(here, a_set(files=a_set().files[:1])) is None
    assert row_of(here, None) is None
    assert row_of(LAB.unreachable(0), a_set()) is None
