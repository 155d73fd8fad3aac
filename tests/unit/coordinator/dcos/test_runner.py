"""A plan that is interrupted before or after any act, or fails there, and is gone on with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.errors import CommandFailed, Refused, RescueError, StepFailed, Unreachable
from agent.model.plan import Step
from agent.records.journal import Journal
from coordinator.console import Progress
from coordinator.dcos import runner
from coordinator.dcos.actions import ACTIONS, Action, Context
from coordinator.dcos.cli import Dcos
from coordinator.dcos.model import Remedy
from coordinator.dcos.plan import Wish
from coordinator.dcos.state import State
from tests.unit.coordinator.dcos.test_plan import BUCKET, ONE, planned

STEPS = ("01", "02", "03", "04")


class Killed(BaseException):
    """What a crash of this machine is to the code."""


class World:
    """What the steps did, in their order, and where to be interrupted."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.strike: tuple[str, str, BaseException] | None = None

    def hit(self, step: str, when: str) -> None:
        """Be interrupted here, once."""
        if self.strike and self.strike[:2] == (step, when):
            error, self.strike = self.strike[2], None
            raise error


class Recorded(Action):
    """An action whose effect is a line in the world."""

    def __init__(self, world: World, repeats: bool) -> None:
        self._world, self.repeats = world, repeats

    def is_there(self, ctx: Context, step: Step, before: Mapping[str, Any]) -> bool:
        return not self.repeats and step.id in self._world.done

    def act(self, ctx: Context, step: Step) -> dict[str, Any]:
        self._world.hit(step.id, "before")
        self._world.done.append(step.id)
        self._world.hit(step.id, "after")
        return {}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    found = World()
    for name, action in ACTIONS.items():
        monkeypatch.setitem(ACTIONS, name, Recorded(found, action.repeats))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return found


def context() -> Context:
    return Context(Dcos("/bin/false", "kubernetes"), State.open(), Progress())


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_interrupted_anywhere_it_is_finished(world: World, step: str, when: str) -> None:
    world.strike = (step, when, Killed())
    ctx = context()
    journal = runner.begin(ctx, planned(ONE, Remedy.SCALE_UP))
    with pytest.raises(Killed):
        runner.run(ctx, journal)
    again = Journal.open(State.open().host, journal.plan.id)
    assert again.begun_steps() == [step]
    with pytest.raises(Refused, match=f"was interrupted in step {step}"):
        runner.begin(context(), planned(ONE, Remedy.SCALE_UP, failures=1, wish=_other()))
    runner.run(context(), again)
    assert again.done_steps() == list(STEPS)
    assert sorted(set(world.done)) == list(STEPS)
    assert world.done.count("03") == 1, "scaled up twice"


def _other() -> Wish:
    """What makes another plan."""
    return replace(BUCKET, bucket="another")


@pytest.mark.parametrize(
    ("error", "kind", "counted"),
    [
        (CommandFailed("it said no"), StepFailed, 1),
        (StepFailed("it did not come up"), StepFailed, 1),
        (Unreachable("cut"), Unreachable, 0),
    ],
)
def test_a_failure_is_counted_and_a_cut_connection_is_not(
    world: World, error: RescueError, kind: type[RescueError], counted: int
) -> None:
    world.strike = ("03", "before", error)
    ctx = context()
    journal = runner.begin(ctx, planned(ONE, Remedy.SCALE_UP))
    with pytest.raises(kind):
        runner.run(ctx, journal)
    assert ctx.state.failures("kubernetes", ONE.cluster) == counted
    assert journal.begun_steps() == ["03"]
    if counted:
        newer = runner.begin(context(), planned(ONE, Remedy.SCALE_UP, wish=_other()))
        assert newer.plan.id != journal.plan.id
        assert Journal.open(ctx.state.host, journal.plan.id).state == "rolled-back"
        journal = newer
    runner.run(context(), Journal.open(ctx.state.host, journal.plan.id))
    assert world.done[-2:] == ["03", "04"]
    assert world.done.count("03") == 1
