"""A snapshot gives way to a rescue: the real lock, the real mark, real signals."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import Damaged, Locked, StepFailed
from agent.host import STATE_DIR, Host
from agent.records.locks import mark_at_work, release_lock, take_lock
from agent.snapshot.giving_way import giving_way, only_snapshot, require_no_rescue

PLAN = "a" * 64


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(str(tmp_path))


def begin(host: Host, token: int = 1) -> None:
    take_lock(host, PLAN, "ann@desk pid 1", token)
    mark_at_work(host, token)


def test_none_is_taken_while_a_run_is_at_work(host: Host) -> None:
    begin(host)
    with pytest.raises(Locked, match="ann@desk"), giving_way(host):
        raise AssertionError
    release_lock(host, PLAN)
    with giving_way(host):
        pass


def test_a_plan_whose_run_has_ended_is_no_reason_to_go_without(host: Host) -> None:
    take_lock(host, PLAN, "ann@desk pid 1", 1)
    require_no_rescue(host)
    with giving_way(host):
        pass


def interrupted(host: Host, act: Callable[[], None], cleaned: list[str]) -> None:
    """A snapshot that is being taken, during which something happens."""
    with giving_way(host, poll=0.01):
        act()
        try:
            threading.Event().wait(30)
            raise AssertionError("it went on")
        finally:
            cleaned.append("cleaned")


def test_it_ends_as_soon_as_a_run_begins(host: Host) -> None:
    cleaned: list[str] = []
    with pytest.raises(Locked):
        interrupted(host, lambda: begin(host), cleaned)
    assert cleaned == ["cleaned"]


def test_it_ends_in_good_order_when_it_is_told_to(host: Host) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(StepFailed, match="SIGTERM"):
        interrupted(host, lambda: os.kill(os.getpid(), signal.SIGTERM), [])
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_lock_that_cannot_be_read_ends_it_too(host: Host) -> None:
    host.makedirs(STATE_DIR)
    with pytest.raises(Damaged, match="lock"):
        interrupted(host, lambda: host.write_atomic(f"{STATE_DIR}/lock.json", b"{"), [])


def test_one_at_a_time(host: Host) -> None:
    with only_snapshot(host), pytest.raises(Locked, match="being taken"), only_snapshot(host):
        raise AssertionError
    with only_snapshot(host):
        pass
