from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.entry.set_aside import set_aside, what_next
from agent.errors import Refused, UsageError
from agent.host import Host
from agent.records.journal import JOURNAL_DIR, Journal, read_journals
from agent.records.locks import read_lock, require_free, take_lock
from tests.unit.rooted import kubeadm_host, plan_of

PLAN = plan_of(("copy_data", {}))
OTHER = plan_of(("copy_data", {}), created=2.0)


def damaged(root: Path) -> tuple[Host, Path]:
    """A journal whose second record has lost a bit, and the lock of its plan."""
    host = Host(str(root))
    journal = Journal.create(host, PLAN)
    journal.append("intent", "01")
    journal.append("done", "01")
    take_lock(host, PLAN.id, "somebody", 4)
    file = root / journal.path[1:]
    file.write_bytes(file.read_bytes().replace(b'"intent"', b'"intenT"'))
    return host, file


@pytest.mark.reliability(
    "Journal and resume",
    "a damaged journal is set aside under a new name, and its plan's lock is free again",
)
def test_a_damaged_journal_makes_room_for_a_new_plan(tmp_path: Path) -> None:
    host, file = damaged(tmp_path)
    content = file.read_bytes()
    (facts,) = read_journals(host)
    assert facts.state == "damaged"
    assert "record 2 at offset" in facts.problem
    aside = set_aside(host, PLAN.short_id)
    assert (tmp_path / aside[1:]).read_bytes() == content
    assert read_journals(host) == ()
    lock = read_lock(host)
    assert lock is not None
    assert (lock.plan, lock.token) == ("", 4)
    require_free(host, OTHER.id, 5)


def test_a_second_one_does_not_overwrite_the_first(tmp_path: Path) -> None:
    host, _file = damaged(tmp_path)
    first = set_aside(host, PLAN.id)
    damaged_again = tmp_path / JOURNAL_DIR[1:] / f"{PLAN.id}.jsonl"
    damaged_again.write_bytes(b"nonsense\n")
    assert set_aside(host, PLAN.id) != first
    kept = sorted(p.name for p in damaged_again.parent.iterdir() if "damaged" in p.name)
    assert kept == [f"{PLAN.id}.damaged-1", f"{PLAN.id}.damaged-2"]


def test_a_lock_of_another_plan_stays(tmp_path: Path) -> None:
    host, _file = damaged(tmp_path)
    place = tmp_path / "var/lib/etcd-rescue/lock.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "plan": OTHER.id}))
    set_aside(host, PLAN.id)
    lock = read_lock(host)
    assert lock is not None
    assert lock.plan == OTHER.id


def test_a_journal_that_can_be_read_is_not_set_aside(tmp_path: Path) -> None:
    host = Host(str(tmp_path))
    Journal.create(host, PLAN).append("intent", "01")
    with pytest.raises(Refused, match="is whole") as caught:
        set_aside(host, PLAN.id)
    assert caught.value.next.startswith(f"fab resume {PLAN.short_id}")
    assert [facts.state for facts in read_journals(host)] == ["open"]


@pytest.mark.parametrize("asked", ["", "nothing", "../../etc"])
def test_only_a_journal_of_this_host_is(tmp_path: Path, asked: str) -> None:
    host, _file = damaged(tmp_path)
    with pytest.raises(UsageError, match="match plan"):
        set_aside(host, asked)


def test_data_that_the_plan_had_moved_away_comes_back_first(tmp_path: Path) -> None:
    host = kubeadm_host(tmp_path)
    journal = Journal.create(host, PLAN)
    journal.append("intent", "01")
    aside = f"{JOURNAL_DIR}/{PLAN.id}.damaged-1"
    assert what_next(host, aside) == "fab diagnose"
    kept = f"/var/lib/etcd-rescue/quarantine/{PLAN.short_id}"
    host.makedirs(kept)
    (tmp_path / "var/lib/etcd/member").rename(tmp_path / kept[1:] / "07-member")
    told = f"data_dir=/var/lib/etcd quarantine={kept}/07-member"
    assert what_next(host, aside) == f"rescue-agent bring-back-data {told}; then: fab diagnose"
    (tmp_path / "var/lib/etcd/member").mkdir()
    assert what_next(host, aside) == "fab diagnose"
