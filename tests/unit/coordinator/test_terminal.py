"""What a host says reaches the operator's terminal as text only, in every form of output."""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
import yaml

from agent.diagnosis.cluster import diagnose
from agent.errors import Refused, RescueError, Unreachable, plain
from agent.model.codec import json_text, to_plain
from agent.model.plan import Stage, Step
from coordinator import console, report
from coordinator.tasks.members import Output
from tests.unit.builders import Lab

EVIL = "a\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\r\u202e\u200b\x85b"
HARMLESS = {"\n"}


def evil(value: Any) -> Any:
    """The same facts, every free text in them replaced by one that would drive a terminal."""
    if is_dataclass(value) and not isinstance(value, type):
        kept = {"id", "member_id", "cluster_id", "leader_id", "state", "kind", "plan", "key"}
        return replace(
            value,
            **{f.name: evil(getattr(value, f.name)) for f in fields(value)
               if f.name not in kept and getattr(value, f.name) not in ("", None)},
        )  # fmt: skip
    if isinstance(value, tuple):
        return tuple(evil(item) for item in value)
    if isinstance(value, str) and not hasattr(value, "name"):
        return f"{value}{EVIL}"
    return value


def observed() -> Any:
    lab = Lab(3)
    return [replace(lab.crash_looping(n), error="") for n in range(3)]


def require_text(said: str) -> None:
    assert said.strip()
    assert {c for c in said if not c.isprintable()} <= HARMLESS, ascii(said)


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """All that was said on both streams."""
    return lambda: "".join(capsys.readouterr())


CASE = pytest.mark.reliability(
    "Hostile input",
    "names, paths, logs and errors of a host hold terminal escape sequences: none of them reaches"
    " the operator's terminal, in any form of output",
)


@CASE
@pytest.mark.parametrize("output", report.FORMATS)
def test_surveys_and_diagnoses(output: str, terminal: Callable[[], str]) -> None:
    observations = evil(tuple(observed()))
    diagnosis = diagnose(observations)
    report.emit(observations, output, report.survey_table)
    report.emit(diagnosis, output, report.diagnosis_table)
    require_text(terminal())


@CASE
def test_machine_readable_output_keeps_the_values(terminal: Callable[[], str]) -> None:
    value = {"name": EVIL, "list": [EVIL, "ä", "\udc80x"]}
    text = json_text(value)
    require_text(text)
    assert json.loads(text) == value
    assert "ä" in text
    told = report._yaml_text({"name": EVIL, "list": [EVIL, "ä"]})
    require_text(told)
    assert yaml.safe_load(told)["name"] == EVIL


@CASE
def test_errors(terminal: Callable[[], str]) -> None:
    error = Refused(f"seen {EVIL}", f"why {EVIL}", f"next {EVIL}")
    require_text(str(error))
    assert str(error).count("\n") == 2
    assert to_plain(error.to_plain())["seen"].endswith(EVIL)  # what programs read is untouched
    assert isinstance(error, RescueError)


@CASE
def test_progress(terminal: Callable[[], str]) -> None:
    progress = console.Progress()
    step = Step("01", f"m{EVIL}", "copy_data", {}, EVIL)
    progress.say(EVIL)
    progress.stage(1, 1, Stage(EVIL, (step,)), EVIL)
    progress.progress(step, EVIL)
    progress.step(step, "done", 1.0, {"left": EVIL})
    require_text(terminal())


@CASE
def test_questions(terminal: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("no\n"))
    with pytest.raises(Refused) as caught:
        console.ask_consent([(f"m;reboot{EVIL}", EVIL)], set())
    assert "'m;reboot" in caught.value.next  # what is to be copied to a shell is quoted
    require_text(str(caught.value))


def test_text_that_is_fine_stays_as_it_is() -> None:
    assert plain("ä ö 日本 -> ok\nnext") == "ä ö 日本 -> ok\nnext"


@CASE
@pytest.mark.parametrize("is_terminal", [True, False])
def test_output_of_etcdctl(monkeypatch: pytest.MonkeyPatch, is_terminal: bool) -> None:
    """Values are anybody's: text to a terminal, the very bytes to a pipe."""
    kept = io.BytesIO()
    stream = io.TextIOWrapper(kept, encoding="utf-8")
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal, raising=False)
    value, shown = f"key\tä {EVIL}\n".encode(), Output()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        for at in range(0, len(value), 3):  # also in the middle of a character
            piece = base64.b64encode(value[at : at + 3]).decode()
            shown.show(json.dumps({"out": piece}))
    if is_terminal:
        text = kept.getvalue().decode()
        require_text(text.replace("\t", ""))
        assert text.startswith("key\tä a\\x1b]0;owned")
    else:
        assert kept.getvalue() == value


@pytest.mark.parametrize("text", ["", "[]", '{"out": 1}', '{"out": "%%%"}', "{" * 5000, "null"])
def test_output_that_is_none(text: str) -> None:
    with pytest.raises(Unreachable):
        Output().show(text)
