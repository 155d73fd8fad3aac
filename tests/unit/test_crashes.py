"""A run killed at any line that touches the host goes on, or back, as if nothing had happened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.host import STATE_DIR
from agent.model.plan import Plan
from agent.records.journal import Journal
from agent.runner import Runner
from tests.unit.killing import chosen, count_lines, fresh, killed
from tests.unit.rooted import DATA, MANIFEST, SWAP, Rooted, kubeadm_host, picture, plan_of

SWAP_IN_PARKING = (*SWAP[:2], ("set_force_new_cluster", {}), *SWAP[2:4])
FENCE: tuple[tuple[str, dict[str, Any]], ...] = (("fence", {"reason": "a test"}),)


class TwoDisks(Rooted):
    """/etc and /var on different file systems: definitions are copied, not renamed."""

    def mount_point(self, path: str) -> str:
        return "/etc" if path.startswith("/etc") else "/"


def _run_step(host: Rooted, plan: Plan, step: str) -> None:
    Runner(host, Journal.create(host, plan), lambda text: None).run(step)


def _undo_steps(host: Rooted, plan: Plan) -> None:
    runner = Runner(host, Journal.open(host, plan.id), lambda text: None)
    for step in reversed(plan.steps()):
        runner.undo(step.id)


CASES = [
    pytest.param(Rooted, SWAP, 10, id="swap"),
    pytest.param(TwoDisks, SWAP_IN_PARKING, 10, id="two file systems, with an edit"),
    pytest.param(Rooted, FENCE, 10, id="fence"),
]


@pytest.fixture
def template(tmp_path: Path) -> Path:
    kubeadm_host(tmp_path / "template")
    for file in (tmp_path / "template" / DATA[1:]).rglob("*"):
        if file.is_file():  # copied a hundred times
            os.truncate(file, 80_000)
            os.utime(file, ns=(1, 1_700_000_000_000_000_001))
    return tmp_path / "template"


def state(root: Path, plan: Plan) -> dict[str, Any]:
    """The host as a plan leaves it, but for times that tell when it ran."""
    found = picture(root, DATA, "/etc", STATE_DIR)
    skipped = ("journal", "work", "lifted", "fence.json", "copied.json")
    moving = {path: facts[:-1] for path, facts in found.items()}
    return {p: f for p, f in moving.items() if not any(s in p for s in skipped)}


@dataclass
class Moment:
    """The host before one step of a plan, that step's lines, and the host after it."""

    before: Path
    step: str
    lines: int
    after: dict[str, Any]


def moments(kind: type[Rooted], plan: Plan, template: Path, root: Path) -> Iterator[Moment]:
    """Every step of the plan, each with the host as the steps before it left it."""
    fresh(template, root)
    for step in plan.steps():
        before = root.with_name(f"before-{step.id}")
        fresh(root, before)
        lines = count_lines(_run_step, kind(str(root)), plan, step.id)
        yield Moment(before, step.id, lines, state(root, plan))


@pytest.mark.reliability(
    "Kill at every step",
    "the agent dies at any line of any step, on one or two file systems: the step is resumed "
    "to the same end, and the original data is unchanged",
)
@pytest.mark.parametrize(("kind", "steps", "points"), CASES)
def test_a_killed_step_is_resumed_to_the_same_end(
    kind: type[Rooted], steps: tuple[tuple[str, dict[str, Any]], ...], points: int,
    template: Path, tmp_path: Path,
) -> None:  # fmt: skip
    plan, root = plan_of(*steps), tmp_path / "killed"
    host = kind(str(root))
    original = list(picture(template, f"{DATA}/member").values())
    for moment in moments(kind, plan, template, tmp_path / "root"):
        for at in chosen(moment.lines, points):
            fresh(moment.before, root)
            assert killed(at, _run_step, host, plan, moment.step), (moment.step, at)
            _run_step(host, plan, moment.step)
            assert state(root, plan) == moment.after, (moment.step, at)
            kept = [*root.rglob("quarantine/*/*-member"), root / DATA[1:] / "member"][0]
            assert list(picture(kept, "/").values()) == original, (moment.step, at)


@pytest.mark.reliability(
    "Kill at every step",
    "the agent dies at any line of any step, and again in the rollback: contents, owners, "
    "modes, xattrs and times are as before",
)
@pytest.mark.parametrize(("kind", "steps", "points"), CASES)
def test_a_killed_step_is_rolled_back_byte_for_byte(
    kind: type[Rooted], steps: tuple[tuple[str, dict[str, Any]], ...], points: int,
    template: Path, tmp_path: Path,
) -> None:  # fmt: skip
    plan, root = plan_of(*steps), tmp_path / "killed"
    host = kind(str(root))
    before, named = picture(template, f"{DATA}/member", MANIFEST), picture(template, "/etc").keys()
    for moment in moments(kind, plan, template, tmp_path / "root"):
        for at in chosen(moment.lines, points // 2):
            fresh(moment.before, root)
            assert killed(at, _run_step, host, plan, moment.step), (moment.step, at)
            Journal.create(host, plan)  # its creation may be what was cut
            killed(1 + at % 37, _undo_steps, host, plan)  # the rollback is killed too
            _undo_steps(host, plan)
            assert picture(root, f"{DATA}/member", MANIFEST) == before, (moment.step, at)
            assert Journal.open(host, plan.id).touched_steps() == [], (moment.step, at)
            assert picture(root, "/etc").keys() == named, (moment.step, at)
