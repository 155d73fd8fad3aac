"""Consoles of two hosts that are trees of files, and a stick that goes between them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.entry.cli import main
from agent.entry.stick import plan_name
from agent.model.plan import FORMAT, Plan, Promise, Stage, Step
from agent.model.signed import plan_text
from tests.unit.rooted import MANIFEST, Rooted, kubeadm_host

OK, USAGE, REFUSED, STEP_FAILED, PAUSED, LOCKED, DAMAGED = 0, 2, 3, 5, 6, 7, 8
STICK = "/mnt/stick"
PARK, UNPARK = "park_definition", "unpark_definition"


@dataclass
class Consoles:
    """Consoles of m0 and m1, and the stick, which is at one of them."""

    root: Path
    capsys: pytest.CaptureFixture[str]
    at: str = ""

    def host(self, name: str) -> Rooted:
        return Rooted(str(self.root / name))

    def carry(self, to: str) -> None:
        if self.at and self.at != to:
            shutil.copytree(
                self.root / self.at / STICK[1:], self.root / to / STICK[1:], dirs_exist_ok=True
            )
            shutil.rmtree(self.root / self.at / STICK[1:])
        (self.root / to / STICK[1:]).mkdir(parents=True, exist_ok=True)
        self.at = to

    def type(self, name: str, *words: str, code: int = OK) -> str:
        """Carry the stick there and type; what is said, all of it."""
        self.carry(name)
        done = main(["--root", str(self.root / name), *words])
        told = self.capsys.readouterr()
        said = told.out + told.err
        assert done == code, said
        return said

    def apply(self, name: str, plan: Plan, *words: str, code: int = OK) -> str:
        return self.type(name, "apply", plan.short_id, "--stick", STICK, "--yes", *words, code=code)

    def is_parked(self, name: str) -> bool:
        return not (self.root / name / MANIFEST[1:]).exists()


@pytest.fixture
def consoles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Consoles:
    for name in ("m0", "m1"):
        (tmp_path / name).mkdir()
        kubeadm_host(tmp_path / name)
        (tmp_path / name / "etc/hostname").write_text(f"{name}\n")
    return Consoles(tmp_path, capsys)


def plan_of(*steps: tuple[str, str], final: int = -1) -> Plan:
    """A plan of these (host, action), one stage each."""
    made = [
        Step(f"{i:02d}", host, action, {}, "for the test", final=i == final)
        for i, (host, action) in enumerate(steps)
    ]
    return Plan(
        FORMAT, "reseed", "a test", 1_700_000_000.0, {"m0": "", "m1": ""},
        tuple(Stage(f"stage {s.id}", (s,)) for s in made), Promise(()),
    ).with_id()  # fmt: skip


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take these plans for ones that fit: whether one does is tested with the recipes."""
    monkeypatch.setattr("agent.entry.planning.require_fitting", lambda *args: None)


def give(consoles: Consoles, name: str, plan: Plan) -> None:
    """Put a plan's file on the stick, at a console."""
    consoles.carry(name)
    (consoles.root / name / STICK[1:] / plan_name(plan)).write_text(plan_text(plan))


BACK_AND_FORTH = plan_of(("m0", PARK), ("m1", PARK), ("m0", UNPARK), ("m1", UNPARK))
