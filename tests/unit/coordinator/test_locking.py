"""Locks over many hosts: all that answer, the same order for everyone, one run at a time."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from agent.entry.verbs import VERBS
from agent.errors import Damaged, Locked, RescueError
from agent.model.plan import Plan
from agent.records.locks import LOCK_FILE
from coordinator.sequencer import Sequencer
from tests.unit.coordinator.test_sequencer import (
    LATER,
    NOTHING,
    TWO,
    Heard,
    Trees,
    fleet,
    plan,
    stage,
    started,
)

__all__ = ["fleet"]
WHOLE = {"plan": TWO.id}
ONE = plan(stage("one", ("m1", NOTHING)))


@pytest.mark.reliability("Locks", "hosts without steps are locked as well")
def test_hosts_without_steps_are_locked_too(fleet: Trees) -> None:
    sequencer, _heard = started(fleet, ONE)
    assert fleet.states() == {"m0": "open", "m1": "open", "m2": "open"}
    sequencer.run()
    sequencer.finish()
    assert fleet.steps() == ["01"]
    assert set(fleet.states().values()) == {"complete"}
    assert fleet.holders() == set()


def test_a_host_without_steps_that_does_not_answer_is_named(fleet: Trees) -> None:
    fleet.down = {"m2"}
    sequencer, heard = started(fleet, ONE)
    assert heard.said == ["not locked: m2: no route"]
    sequencer.run()
    sequencer.finish()


def test_a_host_without_steps_that_is_gone_at_the_end_does_no_harm(fleet: Trees) -> None:
    sequencer, heard = started(fleet, ONE)
    sequencer.run()
    fleet.down = {"m2"}
    sequencer.finish()
    assert heard.said == ["the plan is open there until the next run: m2: no route"]
    fleet.down = set()
    sequencer, _heard = started(fleet, ONE)  # as `fab resume` does it
    assert sequencer.run().put_off == []
    sequencer.finish()
    assert set(fleet.states().values()) == {"complete"}


@pytest.mark.parametrize("host", ["m0", "m1"])
def test_a_lock_that_cannot_be_read_anywhere_stops_the_plan(
    fleet: Trees, tmp_path: Path, host: str
) -> None:
    (tmp_path / host / LOCK_FILE[1:]).parent.mkdir(parents=True)
    (tmp_path / host / LOCK_FILE[1:]).write_text("{")
    with pytest.raises(Damaged, match=r"lock\.json"):
        started(fleet, ONE)
    assert set(fleet.states().values()) == {""}


@pytest.mark.reliability(
    "Locks", "two operators who begin different plans at the same moment: exactly one of them runs"
)
def test_of_two_that_begin_at_once_exactly_one_runs(tmp_path: Path, figure: Any) -> None:
    won: list[str] = []
    for number in range(25):
        fleet = Trees(tmp_path / str(number))
        plans = [plan(stage(name, ("m1", NOTHING))) for name in ("a", "b")]
        start = threading.Barrier(2)

        def operate(mine: Plan, fleet: Trees = fleet, start: threading.Barrier = start) -> None:
            sequencer = Sequencer(fleet, mine, Heard())
            start.wait()
            try:
                sequencer.begin()
            except Locked:
                return
            won.append(mine.id)

        threads = [threading.Thread(target=operate, args=(each,)) for each in plans]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == number + 1
        assert fleet.holders() == {won[-1]}
    figure("races of two operators for the lock, one winner each", 25)


@pytest.mark.reliability(
    "Locks", "a run that was taken over begins nowhere else, not even on a host that comes back"
)
def test_a_run_that_was_replaced_begins_nowhere_else(fleet: Trees) -> None:
    fleet.down = {"m1"}
    first, _heard = started(fleet, LATER)
    first.run()
    fleet.down = {"m1"}
    started(fleet, LATER)  # the second, from another machine
    fleet.down = set()
    first.report.put_off.clear()
    with pytest.raises(Locked, match=f"has taken plan {LATER.short_id} over"):
        first.run()
    assert fleet.states()["m1"] == ""


def test_two_that_resume_one_plan_at_once_are_never_both_at_it(fleet: Trees) -> None:
    started(fleet, TWO)
    begun: list[Sequencer] = []
    start = threading.Barrier(2)

    def operate() -> None:
        sequencer = Sequencer(fleet, TWO, Heard())
        start.wait()
        try:
            sequencer.begin()
        except RescueError:
            return
        begun.append(sequencer)

    threads = [threading.Thread(target=operate) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended = []
    for sequencer in begun:
        try:
            sequencer.run()
            ended.append(sequencer)
        except Locked:
            continue
    assert len(ended) == 1
    records = [r for host in fleet.hosts.values() for r in VERBS["journal"](host, WHOLE, print)]
    assert sorted(r["step"] for r in records if r["kind"] == "done") == ["01", "02", "03", "04"]
