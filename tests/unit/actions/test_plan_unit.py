"""The unit that carries a plan on: its text, and whose it is."""

from __future__ import annotations

from agent.actions.timer.plan_unit import TEMPLATE, instance, render
from agent.actions.timer.program import PINNED, Program
from agent.actions.timer.units import whose

PATH = f"{PINNED}/plan/{'0' * 64}.pyz"
PROGRAM = Program(("/usr/bin/python3", "-E", "-s", PATH), {"SHIV_FORCE_EXTRACT": "1"}, PATH, b"")


def test_it_is_ours_and_runs_the_pinned_agent_for_its_plan() -> None:
    text = render(PROGRAM)
    assert whose(text) == "ours"
    assert f"ExecStart=/usr/bin/python3 -E -s {PATH} unattended %i\n" in text
    assert "WantedBy=multi-user.target" in text
    assert "Restart=" not in text  # what fails once is for a person


def test_an_instance_for_each_plan() -> None:
    assert instance("a" * 64) == TEMPLATE.replace("@", f"@{'a' * 64}")
