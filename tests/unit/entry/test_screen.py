"""What a person at a serial console reads, and what a pipe gets."""

from __future__ import annotations

import json

import pytest

from agent.entry import console, screen
from agent.entry.cli import main
from tests.unit.entry.consoles import BACK_AND_FORTH, STICK, USAGE, Consoles, give
from tests.unit.entry.consoles import consoles as consoles


def test_what_a_person_reads_fits_a_serial_console(
    consoles: Consoles, capsys: pytest.CaptureFixture[str]
) -> None:
    give(consoles, "m0", BACK_AND_FORTH)
    told = [
        consoles.type("m0", "export", STICK),
        consoles.type("m0", "survey", "--output", "text"),
        consoles.type("m0", "diagnose", "--stick", STICK, "--output", "text"),
        consoles.type("m0", "journal", "--output", "text"),
    ]
    screen.show_plan(BACK_AND_FORTH, "m0")
    told.append(capsys.readouterr().out)
    for text in told:
        assert text.isascii(), text
        assert max(map(len, text.splitlines())) <= 79, text
        for elsewhere in ("fab import", "fab restore SNAPSHOT"):  # typed on the operator's machine
            text = text.replace(elsewhere, "")
        assert "fab " not in text


@pytest.mark.parametrize(
    "verb", ["survey", "export", "diagnose", "journal", "plan", "apply", "resume", "rollback"]
)
def test_each_verb_explains_itself_in_80_columns(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    assert len(said.splitlines()) <= 24, "one screen"
    assert said.isascii()


def test_json_is_what_a_pipe_gets(consoles: Consoles) -> None:
    assert json.loads(consoles.type("m0", "survey"))["hostname"] == "m0"
    assert json.loads(consoles.type("m0", "journal")) == []
    assert json.loads(consoles.type("m0", "diagnose"))["state"]


@pytest.mark.parametrize(
    ("said", "here"),
    [
        ("fab rescue-node master-1", "rescue-agent plan master-1"),
        ("fab rescue-quorum --lost a --lost b", "rescue-agent plan --lost a --lost b"),
        ("fab remove-member m2", "rescue-agent plan m2 --lost m2"),
        ("fab resume 0123   (or: fab rollback 0123)",
         "rescue-agent resume 0123   (or: rescue-agent rollback 0123)"),
        ("prefab resume", "prefab resume"),
        ("fab clear-alarm", "fab clear-alarm"),
    ],
)  # fmt: skip
def test_words_of_the_operators_machine_become_this_consoles(said: str, here: str) -> None:
    assert screen.console_words(said) == here


def test_text_of_others_drives_no_terminal() -> None:
    shown = screen.ascii_text("a\x1b[2J\u202eb\x9bc… é")
    assert shown == "a\\x1b[2J\\u202eb\\x9bc... \\xe9"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("apply", "0123", "--stick", STICK), "0 plans match 0123"),
        (("apply", "/no/such.json"), "No such file"),
        (("apply", "--stick", "/no/such"), "no such file or directory"),
        (("export", "/no/such"), "no such directory"),
        (("rollback", "0123"), "match plan 0123"),
    ],
)
def test_words_that_mean_nothing(consoles: Consoles, words: tuple[str, ...], told: str) -> None:
    said = consoles.type("m0", *words, code=USAGE)
    assert told in said
    assert "next:" in said or "No such file" in said


def test_the_holder_is_a_person_at_a_console() -> None:
    assert "at the console, pid" in console.holder()
