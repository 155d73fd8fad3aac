"""The order of things, over hosts that are real but for the connection: trees of files."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from agent.entry.verbs import VERBS
from agent.errors import (
    Locked,
    Paused,
    PreconditionFailed,
    Refused,
    RescueError,
    Unreachable,
    UsageError,
    from_plain,
)
from agent.model import codec
from agent.model.facts import Lock
from agent.model.plan import FORMAT, Plan, Promise, Stage, Step
from coordinator.channel import fan_out
from coordinator.fleet import Fleet
from coordinator.sequencer import Sequencer
from tests.unit.rooted import DATA, MANIFEST, Rooted, kubeadm_host, picture

HOSTS = ("m0", "m1", "m2")
NOTHING: tuple[str, dict[str, Any]] = ("lift_fence", {})
LOOK: tuple[str, dict[str, Any]] = ("preflight", {"copies": False, "binary": False})
PARK: tuple[str, dict[str, Any]] = ("park_definition", {})
FLAG: tuple[str, dict[str, Any]] = ("set_force_new_cluster", {})


class Trees(Fleet):
    """A fleet whose agents run in this process; `down` hosts do not answer."""

    def __init__(self, root: Path) -> None:
        self.errors: dict[str, RescueError] = {}
        self.hosts: dict[str, Rooted] = {}
        for name in HOSTS:
            self.hosts[name] = kubeadm_host(root / name)
            (root / name / "etc/hostname").write_text(name)
        self.down: set[str] = set()
        self.asked: list[tuple[str, str, str]] = []
        self.at_once = threading.Barrier(1)

    def call(
        self, host: str, verb: str, args: dict[str, Any], timeout: float = 1,
        on_progress: Callable[[str], None] | None = None,
    ) -> Any:  # fmt: skip
        if host in self.down:
            raise Unreachable(f"{host}: no route")
        self.asked.append((host, verb, str(args.get("step", args.get("kind", "")))))
        if verb == "step":
            self.at_once.wait(5)
        plain, say = codec.to_plain(args), on_progress or (lambda text: None)
        while True:
            try:
                return VERBS[verb](self.hosts[host], plain, say)
            except RescueError as error:
                if "another agent" not in error.seen:  # which a fleet waits for
                    raise from_plain(error.to_plain()) from None

    def is_up(self, host: str) -> bool:
        return host not in self.down

    def to_lock(self, needed: Iterable[str]) -> list[str]:
        return sorted({*needed, *HOSTS})

    def locks(self, hosts: Iterable[str]) -> dict[str, Lock | None]:
        answers = fan_out(hosts, lambda host: self.call(host, "lock", {}))
        self.errors.update({h: a for h, a in answers.items() if isinstance(a, RescueError)})
        return {
            host: codec.from_plain(Lock, plain) if plain else None
            for host, plain in answers.items()
            if not isinstance(plain, RescueError)
        }

    def steps(self) -> list[str]:
        return [step for _host, verb, step in self.asked if verb in ("step", "undo")]

    def states(self) -> dict[str, str]:
        return {
            name: ",".join(facts["state"] for facts in VERBS["journal"](host, {}, print))
            for name, host in self.hosts.items()
        }

    def holders(self) -> set[str]:
        locks = [VERBS["lock"](host, {}, print) for host in self.hosts.values()]
        return {lock["plan"] for lock in locks if lock} - {""}


class Heard:
    """What a listener was told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.outcomes: list[str] = []
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def stage(self, number: int, total: int, stage: Stage, note: str = "") -> None:
        self.stages.append(f"{number}/{total} {stage.title}{' ' + note if note else ''}")

    def step(self, step: Step, outcome: str, seconds: float, result: dict[str, Any]) -> None:
        self.outcomes.append(f"{step.id} {outcome}")

    def progress(self, step: Step, text: str) -> None:
        pass


@pytest.fixture
def fleet(tmp_path: Path) -> Trees:
    return Trees(tmp_path)


Row = tuple[str, tuple[str, dict[str, Any]]]


def stage(title: str, *rows: Row, waits_for: tuple[str, ...] = (), parallel: bool = False) -> Any:
    return title, rows, waits_for, parallel


def plan(*stages: Any, final: str = "") -> Plan:
    """Stages of (host, action) rows; steps are numbered through from 01."""
    made, number = [], 0
    for title, rows, waits_for, parallel in stages:
        steps = []
        for host, (action, args) in rows:
            number += 1
            id = f"{number:02}"
            steps.append(Step(id, host, action, args, "a test", final=id == final))
        made.append(Stage(title, tuple(steps), waits_for, parallel))
    hosts = {name: "" for name in HOSTS}  # noqa: C420
    return Plan(FORMAT, "test", "a test", 1.0, hosts, tuple(made), Promise(HOSTS)).with_id()


def started(fleet: Trees, plan: Plan, given_up: tuple[str, ...] = ()) -> tuple[Sequencer, Heard]:
    heard = Heard()
    sequencer = Sequencer(fleet, plan, heard)
    sequencer.begin(given_up)
    for host in given_up:
        sequencer.skip_host(host, "gone")
    fleet.asked.clear()
    return sequencer, heard


TWO = plan(
    stage("one", ("m0", LOOK), ("m1", NOTHING)),
    stage("two", ("m2", NOTHING), ("m0", NOTHING)),
)


def test_stages_and_steps_come_in_their_order(fleet: Trees) -> None:
    sequencer, heard = started(fleet, TWO)
    assert fleet.holders() == {TWO.id}
    sequencer.run()
    sequencer.finish()
    assert fleet.steps() == ["01", "02", "03", "04"]
    assert heard.stages == ["1/2 one", "2/2 two"]
    assert heard.outcomes == ["01 done", "02 done", "03 done", "04 done"]
    assert fleet.states() == {"m0": "complete", "m1": "complete", "m2": "complete"}
    assert fleet.holders() == set()


def test_hosts_of_a_parallel_stage_work_at_the_same_time(fleet: Trees) -> None:
    rows = [(host, NOTHING) for host in HOSTS] * 2
    sequencer, _heard = started(fleet, plan(stage("all", *rows, parallel=True)))
    fleet.at_once = threading.Barrier(3)  # breaks unless three are there at once
    sequencer.run()
    for host in HOSTS:
        own = [step for name, verb, step in fleet.asked if name == host and verb == "step"]
        assert own == sorted(own)
    assert len(fleet.steps()) == 6


def test_the_first_failure_stops_all_that_comes_after(fleet: Trees) -> None:
    broken = plan(stage("one", ("m0", NOTHING), ("m1", FLAG), ("m2", NOTHING)),
                  stage("two", ("m0", NOTHING)))  # fmt: skip
    sequencer, heard = started(fleet, broken)
    with pytest.raises(PreconditionFailed, match="is in place"):
        sequencer.run()
    assert fleet.steps() == ["01", "02"]
    assert heard.outcomes == ["01 done", "02 failed"]
    assert fleet.holders() == {broken.id}  # it is open, to be resumed


def test_in_a_parallel_stage_the_others_finish_what_they_do(fleet: Trees) -> None:
    broken = plan(
        stage("one", ("m0", NOTHING), ("m1", FLAG), ("m2", NOTHING), parallel=True),
        stage("two", ("m0", NOTHING)),
    )
    sequencer, heard = started(fleet, broken)
    with pytest.raises(PreconditionFailed):
        sequencer.run()
    assert sorted(heard.outcomes) == ["01 done", "02 failed", "03 done"]


def test_resume_skips_what_is_done_and_looks_again(fleet: Trees) -> None:
    broken = plan(stage("one", ("m0", LOOK), ("m1", NOTHING), ("m1", LOOK), ("m1", FLAG),
                        ("m2", LOOK)), stage("two", ("m2", NOTHING)))  # fmt: skip
    with pytest.raises(PreconditionFailed):
        started(fleet, broken)[0].run()
    sequencer, _heard = started(fleet, broken)
    with pytest.raises(PreconditionFailed):
        sequencer.run()
    assert fleet.steps() == ["01", "03", "04"]  # looks before what is left, and no look after it


def test_a_resumed_plan_that_is_whole_asks_nothing(fleet: Trees) -> None:
    started(fleet, TWO)[0].run()
    sequencer, heard = started(fleet, TWO)
    sequencer.run()
    sequencer.finish()
    assert fleet.steps() == []
    assert heard.stages == []
    assert set(fleet.states().values()) == {"complete"}


# ---- hosts that do not answer --------------------------------------------------------------------

LATER = plan(
    stage("now", ("m0", NOTHING)),
    stage("m1 comes back", ("m1", NOTHING), ("m0", NOTHING), waits_for=("m1",)),
    stage("m2 comes back", ("m2", NOTHING), waits_for=("m2",)),
)


def test_what_waits_for_a_host_is_put_off(fleet: Trees) -> None:
    fleet.down = {"m1"}
    sequencer, heard = started(fleet, LATER)
    report = sequencer.run()
    assert report.put_off == ["m1"]
    assert fleet.steps() == ["01", "04"]
    assert heard.stages[1] == "2/3 m1 comes back put off: m1 cannot be reached"
    with pytest.raises(Paused, match="m1 did not answer"):
        sequencer.finish()
    assert fleet.holders() == {LATER.id}
    fleet.down = set()
    sequencer, _heard = started(fleet, LATER)
    sequencer.run()
    sequencer.finish()
    assert fleet.steps() == ["02", "03"]
    assert set(fleet.states().values()) == {"complete"}


def test_a_host_that_comes_back_meanwhile_is_begun_with(fleet: Trees) -> None:
    fleet.down = {"m1"}
    sequencer, _heard = started(fleet, LATER)
    fleet.down = set()
    assert sequencer.run().put_off == []
    assert fleet.steps() == ["01", "02", "03", "04"]


def test_a_host_given_up_is_waited_for_no_more(fleet: Trees) -> None:
    fleet.down = {"m1"}
    started(fleet, LATER)[0].run()
    sequencer, _heard = started(fleet, LATER, given_up=("m1",))
    report = sequencer.run()
    sequencer.finish()
    assert report.dropped == {"m1"}
    assert fleet.steps() == []
    assert fleet.states() == {"m0": "complete", "m1": "", "m2": "complete"}


def test_a_host_needed_now_must_answer(fleet: Trees) -> None:
    fleet.down = {"m1"}
    with pytest.raises(Unreachable, match="m1 cannot be worked with: m1: no route") as caught:
        started(fleet, TWO)
    assert "fab resume --drop m1" in caught.value.next
    assert fleet.holders() == set()
    assert fleet.states() == {"m0": "", "m1": "", "m2": ""}


def test_a_host_that_died_after_its_step_can_be_given_up(fleet: Trees) -> None:
    started(fleet, TWO)
    fleet.down = {"m1"}
    sequencer, _heard = started(fleet, TWO, given_up=("m1",))
    sequencer.run()
    sequencer.finish()
    assert fleet.steps() == ["01", "03", "04"]


def test_giving_up_a_host_that_has_no_part_is_a_mistake(fleet: Trees) -> None:
    sequencer, _heard = started(fleet, TWO)
    with pytest.raises(UsageError, match="nothing to do on m9"):
        sequencer.skip_host("m9", "gone")


# ---- locks ---------------------------------------------------------------------------------------


def held_by_another(fleet: Trees, host: str, token: int = 1) -> Plan:
    """Another plan begun on this host alone, as by somebody who reached no other."""
    other = plan(stage("other", (host, NOTHING)))
    args = {"plan": codec.to_plain(other), "holder": "ann@desk pid 7", "token": token, "run": "r"}
    VERBS["begin"](fleet.hosts[host], args, print)
    return other


def test_a_begin_that_is_refused_gives_the_locks_back(fleet: Trees) -> None:
    other = held_by_another(fleet, "m2")
    with pytest.raises(Locked, match=f"plan {other.short_id} of ann@desk pid 7 holds this host"):
        started(fleet, TWO)
    assert fleet.holders() == {other.id}
    assert fleet.states() == {"m0": "rolled-back", "m1": "rolled-back", "m2": "open"}


def test_a_plan_with_work_done_keeps_its_locks_and_stays_open(fleet: Trees) -> None:
    """Something begun on one host, another host lost to another plan: nothing may be closed."""
    stuck = plan(stage("one", ("m0", PARK), ("m1", FLAG)), stage("two", ("m2", NOTHING)))
    with pytest.raises(PreconditionFailed):
        started(fleet, stuck)[0].run()
    VERBS["end"](fleet.hosts["m2"], {"plan": stuck.id, "token": 1, "kind": "rolled-back"}, print)
    other = held_by_another(fleet, "m2", token=2)
    with pytest.raises(Locked):
        started(fleet, stuck)
    assert (fleet.states()["m0"], fleet.states()["m1"]) == ("open", "open")
    assert fleet.holders() == {stuck.id, other.id}


def test_a_second_coordinator_takes_over_and_the_first_is_refused(fleet: Trees) -> None:
    first, _heard = started(fleet, TWO)
    second, _heard = started(fleet, TWO)
    with pytest.raises(Locked, match="holds token 2; this order carries 1"):
        first.run()
    second.run()
    second.finish()


# ---- rollback ------------------------------------------------------------------------------------

BACK = plan(
    stage("one", ("m0", LOOK), ("m0", PARK), ("m1", PARK)),
    stage("two", ("m0", FLAG), ("m2", FLAG)),
)


def originals(fleet: Trees) -> list[dict[str, Any]]:
    return [picture(Path(host.root), MANIFEST, DATA) for host in fleet.hosts.values()]


def test_rollback_goes_backwards_and_restores(fleet: Trees) -> None:
    before = originals(fleet)
    with pytest.raises(PreconditionFailed):
        started(fleet, BACK)[0].run()
    sequencer, heard = started(fleet, BACK)
    assert sequencer.rollback() == ["04", "03", "02", "01"]
    assert heard.outcomes == ["04 undone", "03 undone", "02 undone", "01 undone"]
    assert originals(fleet) == before
    assert set(fleet.states().values()) == {"rolled-back"}
    assert fleet.holders() == set()


def test_past_the_point_of_no_return_there_is_no_rollback(fleet: Trees) -> None:
    turned = plan(
        stage("one", ("m0", PARK), ("m1", NOTHING), ("m1", FLAG)),
        stage("two", ("m2", NOTHING)), final="02",
    )  # fmt: skip
    with pytest.raises(PreconditionFailed):
        started(fleet, turned)[0].run()
    sequencer, _heard = started(fleet, turned)
    with pytest.raises(Refused, match=r"step 02 \(lift_fence on m1\) is past the point") as caught:
        sequencer.rollback()
    assert "2 steps remain, the next is set_force_new_cluster on m1" in caught.value.why
    assert caught.value.next == f"fab resume {turned.short_id}"
    assert fleet.steps() == []


def test_rollback_needs_every_host_that_may_have_been_changed(fleet: Trees) -> None:
    with pytest.raises(PreconditionFailed):
        started(fleet, BACK)[0].run()
    fleet.down = {"m1"}
    with pytest.raises(Unreachable):
        started(fleet, BACK)[0].rollback()
    assert fleet.states()["m0"] == "open"


def test_a_rollback_without_a_host_that_was_put_off(fleet: Trees) -> None:
    fleet.down = {"m1"}
    started(fleet, LATER)[0].run()
    assert started(fleet, LATER)[0].rollback() == ["04", "01"]
