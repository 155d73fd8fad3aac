from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import yaml

from agent.diagnosis.cluster import diagnose
from agent.errors import Refused, UsageError
from agent.model.codec import to_plain
from agent.model.facts import Cause
from agent.model.plan import FORMAT, Plan, Promise, Stage, Step
from agent.model.verdict import Refusal
from coordinator import report
from coordinator.console import Progress, ask_consent, confirm
from tests.unit.builders import Lab, with_survey

EVIL = "[red]x[/] [bold]\\[ \x1b[31m"
"""Markup, a closing tag, a backslash before a bracket, and a terminal's escape sequence."""

SHOWN = "[red]x[/] [bold]\\[ \\x1b[31m"

LAB = Lab(3)
CAUSE = Cause("k", "disk", EVIL, "remedy", "evidence", "source")
SEEN = (
    LAB.healthy(0),
    with_survey(LAB.healthy(1), causes=(CAUSE,), problems=(EVIL,)),
    replace(LAB.unreachable(2, open_ports=(2380,)), error=EVIL),
)
DIAGNOSIS = replace(
    diagnose(SEEN), why=EVIL, warnings=(EVIL,), losses=(EVIL,), consent=((EVIL, EVIL),),
    recipe="reseed", target=EVIL, recipe_why=EVIL,
    refusals=(Refusal("reseed", EVIL, EVIL, EVIL),),
)  # fmt: skip
STEPS = (
    Step("01", "m0", "fence", {"reason": EVIL}, EVIL),
    Step("02", "m1", "unpark_definition", {}, "why", final=True),
)
STAGES = (Stage(EVIL, STEPS, parallel=True), Stage("later", STEPS[1:], waits_for=("m1",)))
PLAN = Plan(FORMAT, "reseed", EVIL, 1.0, {"m0": ""}, STAGES, Promise(("m0",), "", 7), (EVIL,))
JOURNALS: list[dict[str, Any]] = [
    {"host": "m0", "plan": "a" * 64, "recipe": EVIL, "state": "open", "done": ["01"],
     "begun": ["02"], "updated": 1_700_000_000.0, "problem": EVIL},
    {"host": "m1", "plan": "b" * 64, "recipe": "", "state": "damaged", "done": [], "begun": [],
     "updated": 0.0, "problem": "torn"},
]  # fmt: skip
RECORDS: list[dict[str, Any]] = [
    {"host": "m0", "time": 1_700_000_000.5, "seq": 2, "step": "01", "kind": "done",
     "data": {"seen": EVIL}, "crc": "0"},
]  # fmt: skip
OUTCOME: dict[str, Any] = {"summary": f"recovered: {EVIL}", "outage_parts": {"01 m0: fence": 1.5}}

KINDS: tuple[tuple[Any, Callable[[Any], None]], ...] = (
    (SEEN, report.survey_table),
    (DIAGNOSIS, report.diagnosis_table),
    (PLAN, report.plan_table),
    (JOURNALS, report.journals_table),
    (RECORDS, report.records_table),
    (OUTCOME, report.outcome_table),
)
IDS = ("survey", "diagnosis", "plan", "journals", "records", "outcome")


@pytest.mark.parametrize(("value", "as_table"), KINDS, ids=IDS)
def test_json_and_yaml_say_the_whole_value(
    value: Any, as_table: Callable[[Any], None], capsys: pytest.CaptureFixture[str]
) -> None:
    report.emit(value, "json", as_table)
    assert json.loads(capsys.readouterr().out) == to_plain(value)
    report.emit(value, "yaml", as_table)
    assert yaml.safe_load(capsys.readouterr().out) == to_plain(value)


@pytest.mark.parametrize(("value", "as_table"), KINDS, ids=IDS)
def test_a_pipe_gets_no_escapes_and_words_of_a_host_are_only_words(
    value: Any, as_table: Callable[[Any], None], capsys: pytest.CaptureFixture[str]
) -> None:
    report.emit(value, "table", as_table)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    shown = json.dumps(EVIL)[1:-1] if value is RECORDS else SHOWN
    assert re.sub(r"\s+", "", shown) in re.sub(r"\s+", "", out)


@pytest.mark.parametrize(
    ("value", "as_table"), [KINDS[0], KINDS[1], KINDS[3]], ids=("survey", "diagnosis", "journals")
)
def test_tables_fit_eighty_columns(
    value: Any, as_table: Callable[[Any], None], capsys: pytest.CaptureFixture[str]
) -> None:
    as_table(value)
    lines = capsys.readouterr().out.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("HOST"))
    rows = lines[first : first + 5]
    assert max(map(len, rows)) <= 80
    for host in ("m0", "m1") if value is JOURNALS else ("master-1", "master-2", "master-3"):
        assert sum(line.startswith(host) for line in lines) >= 1


def test_a_survey_says_in_a_line_why_a_host_is_not_well(capsys: pytest.CaptureFixture[str]) -> None:
    report.survey_table(SEEN)
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if line.startswith("master-3 ")]
    assert "unreachable" in row
    (note,) = [line for line in lines if line.startswith("master-3: ")]
    assert "open" in note


def test_a_plan_shows_its_point_of_no_return(capsys: pytest.CaptureFixture[str]) -> None:
    report.plan_table(PLAN)
    lines = capsys.readouterr().out.splitlines()
    assert "   02 m1: unpark definition  <- point of no return" in lines
    assert "2. later  (put off until m1 can be reached)" in lines
    assert "Promise: voters m0, revision 7 or newer" in lines


def test_an_unknown_format_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no output format 'xml'"):
        report.emit({}, "xml", print)


def test_names_that_are_no_text_do_not_break_json(capsys: pytest.CaptureFixture[str]) -> None:
    report.emit({"file": "a\udcff"}, "json", print)
    assert json.loads(capsys.readouterr().out) == {"file": "a\udcff"}


# ---- progress and questions ----------------------------------------------------------------------


def test_progress_goes_to_stderr_in_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    step = replace(STEPS[0], host=EVIL)
    progress.say(EVIL)
    progress.stage(1, 2, STAGES[0], EVIL)
    for _ in range(3):
        progress.progress(step, EVIL)
    progress.step(step, "done", 1.25, {"seen": EVIL})
    progress.step(step, "failed", 1.25, {"seen": "told at the end"})
    out, err = capsys.readouterr()
    assert out == ""
    assert "\x1b" not in err
    assert "told at the end" not in err
    lines = err.splitlines()
    assert len(lines) == 5  # the same progress is told once
    assert [line for line in lines if SHOWN not in line] == []
    assert "[1/2]" in lines[1]


def test_without_a_terminal_nothing_is_assumed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.console.is_interactive", lambda: False)
    confirm(PLAN, yes=True)
    with pytest.raises(UsageError, match="no terminal to ask at"):
        confirm(PLAN, yes=False)
    with pytest.raises(Refused) as caught:
        ask_consent((("m1", "why"), ("m2", "why")), absent=("m1",))
    assert "--lost m1" in caught.value.next
