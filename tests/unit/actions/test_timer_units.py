"""The units of the snapshot timer: their text, whose they are, and what may stand in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.actions.timer.program import PINNED, Program, repinned
from agent.actions.timer.units import SERVICE, TIMER, body, marked, metrics_of, render, whose
from agent.errors import UsageError
from agent.model.schedule import Limits, Schedule, check_schedule
from agent.snapshot.scheduled_console import add_scheduled

PATH = f"{PINNED}/timer/{'0' * 64}.pyz"
PROGRAM = Program(("/usr/bin/python3", "-E", "-s", PATH), {"SHIV_FORCE_EXTRACT": "1"}, PATH, b"")
EXAMPLES = Path(__file__).parents[3] / "systemd"


def test_the_examples_in_the_tree_are_what_is_installed() -> None:
    schedule = Schedule(metrics="/var/lib/node_exporter")
    for name, text in render(schedule, PROGRAM, ["10.0.0.10"]).items():
        assert (EXAMPLES / name).read_text() == text, f"write it anew: {name}"


def test_whose_a_unit_is() -> None:
    text = marked("[Unit]\nDescription=x\n")
    assert whose(text) == "ours"
    assert whose(text + "# mine\n") == "edited"
    assert whose(text.replace("=x", "=y")) == "edited"
    assert whose(body(text)) == "foreign"
    assert whose("") == "foreign"


@given(st.integers(0), st.integers(0, 255))
def test_no_changed_byte_goes_unnoticed(at: int, value: int) -> None:
    text = marked("[Unit]\nDescription=x\n").encode()
    place = at % len(text)
    changed = text[:place] + bytes([value]) + text[place + 1 :]
    assert (whose(changed.decode("latin-1")) == "ours") == (changed == text)


def test_what_the_service_runs_is_what_the_agent_understands() -> None:
    import argparse

    schedule = Schedule("hourly", 5, 7, "/var/lib/m", Limits(3, 4, 5, 6))
    text = render(schedule, PROGRAM, [])[SERVICE]
    (line,) = [x for x in text.splitlines() if x.startswith("ExecStart=")]
    words = line.partition("=")[2].split()
    assert words[:4] == list(PROGRAM.argv)
    parser = argparse.ArgumentParser()
    add_scheduled(parser.add_subparsers(), print)
    args = parser.parse_args(words[4:])
    found = Limits(args.keep, args.keep_days, args.keep_bytes, args.min_free)
    assert (found, args.patience, args.metrics) == (schedule.limits, 7, "/var/lib/m")
    assert metrics_of(text) == "/var/lib/m"
    assert "OnCalendar=hourly\n" in render(schedule, PROGRAM, [])[TIMER]
    assert "IPAddressDeny" not in text


def test_a_unit_that_is_put_back_runs_the_agent_of_now() -> None:
    other = f"{PINNED}/timer/{'f' * 64}.pyz"
    text = render(Schedule(), PROGRAM, [])[SERVICE]
    now = Program(("/usr/bin/python3", "-E", "-s", other), {}, other, b"")
    changed = marked(repinned(body(text), now))
    assert whose(changed) == "ours"
    assert other in changed
    assert PATH not in changed


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(calendar="daily\nExecStart=/bin/sh"),
        Schedule(calendar=""),
        Schedule(calendar="%h"),
        Schedule(metrics="relative"),
        Schedule(metrics="/"),
        Schedule(metrics="/a/../etc"),
        Schedule(metrics="/with space"),
        Schedule(metrics="/x\nUser=root"),
        Schedule(delay=-1),
        Schedule(limits=Limits(keep=0)),
        Schedule(limits=Limits(keep_days=-1)),
        Schedule(limits=Limits(min_free=1 << 60)),
    ],
)
def test_what_no_unit_may_say(schedule: Schedule) -> None:
    with pytest.raises(UsageError):
        check_schedule(schedule)


@given(st.text(max_size=30), st.text(max_size=30))
def test_whatever_is_accepted_adds_no_line_and_no_word(calendar: str, metrics: str) -> None:
    schedule = Schedule(calendar=calendar, metrics=metrics)
    try:
        check_schedule(schedule)
    except UsageError:
        return
    plain = render(Schedule(metrics="/m" if metrics else ""), PROGRAM, [])
    for name, text in render(schedule, PROGRAM, []).items():
        assert len(text.splitlines()) == len(plain[name].splitlines())
        assert "%" not in text
