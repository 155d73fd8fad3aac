"""When a plan goes on by itself, and when it does not: real journals, locks, marks and links."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.actions.timer.plan_unit import instance, is_armed
from agent.actions.timer.units import UNIT_DIR
from agent.entry import unattended
from agent.entry.verbs import VERBS
from agent.errors import PreconditionFailed
from agent.host import Host
from agent.model.plan import Plan, plan_to_plain
from agent.records.journal import Journal
from agent.records.locks import mark_at_work, read_lock, take_lock
from tests.unit.rooted import plan_of

WANTS = f"{UNIT_DIR}/multi-user.target.wants"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(str(tmp_path))


@pytest.fixture
def plan() -> Plan:
    return plan_of(("park_definition", {}))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCD_RESCUE_GRACE", "0.01")
    monkeypatch.setattr(unattended, "_POLL", 0.01)


def open_plan(host: Host, plan: Plan, armed: bool = True) -> Journal:
    journal = Journal.create(host, plan)
    take_lock(host, plan.id, "ann@desk", 1)
    if armed:
        path = Path(host.real(WANTS))
        path.mkdir(parents=True)
        os.symlink("../rescue-agent@.service", path / instance(plan.id))
    return journal


def waits(host: Host, plan: Plan, on_word: Callable[[str], None] = lambda _: None) -> bool:
    return unattended._wait_for_silence(host, plan.id, on_word)


def test_it_goes_on_once_nobody_is_at_work(host: Host, plan: Plan) -> None:
    open_plan(host, plan)
    said: list[str] = []
    assert waits(host, plan, said.append)
    assert said == [f"nobody is at work on plan {plan.short_id}; going on in 0.01 s"]


def test_not_once_it_is_closed(host: Host, plan: Plan) -> None:
    open_plan(host, plan).append("complete")
    assert not waits(host, plan)
    assert not unattended.carry_on(host, plan.id, print)


def test_not_once_it_was_let_go(host: Host, plan: Plan) -> None:
    open_plan(host, plan, armed=False)
    assert not is_armed(host, plan.id)
    assert not waits(host, plan)


def test_it_waits_for_as_long_as_a_run_is_at_work(
    host: Host, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_plan(host, plan)
    mark_at_work(host, 1)  # held by this process
    looks = []

    def look(each: Host) -> object:
        looks.append(1)
        if len(looks) == 5:
            journal.append("complete")
        return read_lock(each)

    monkeypatch.setattr(unattended, "read_lock", look)
    assert not waits(host, plan)
    assert len(looks) == 5


def test_it_waits_while_another_plan_holds_the_host(
    host: Host, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, looks = Journal.create(host, plan), []
    open_plan(host, plan_of(("stop_etcd", {})), armed=False)
    os.makedirs(host.real(WANTS))
    os.symlink("x", f"{host.real(WANTS)}/{instance(plan.id)}")

    def look(each: Host) -> object:
        looks.append(1)
        if len(looks) == 5:
            journal.append("rolled-back")
        return read_lock(each)

    monkeypatch.setattr(unattended, "read_lock", look)
    assert not waits(host, plan)


def test_a_run_that_could_not_go_on_by_itself_is_refused_before_it_has_a_lock(
    host: Host, plan: Plan
) -> None:
    args = {"plan": plan_to_plain(plan), "holder": "ann@desk", "token": 1, "unattended": True}
    with pytest.raises(PreconditionFailed, match="systemd does not run this host"):
        VERBS["begin"](host, args, print)
    assert read_lock(host) is None


def test_that_a_plan_goes_on_by_itself_is_in_its_journal(host: Host, plan: Plan) -> None:
    journal = open_plan(host, plan)
    assert not unattended.is_wanted(journal)
    journal.append(unattended.KIND)
    assert unattended.is_wanted(Journal.open(host, plan.id))
    assert Journal.open(host, plan.id).state == "open"
