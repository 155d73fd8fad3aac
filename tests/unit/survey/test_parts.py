"""A part of a survey may fail or hang; the survey may not."""

from __future__ import annotations

import threading
import time

import pytest

from agent.errors import Damaged
from agent.survey.parts import Parts


def raising(error: Exception) -> int:
    raise error


def test_a_part_that_works_gives_its_value_each_time_it_is_asked() -> None:
    parts = Parts()
    part = parts.begin("sum", lambda: 1 + 1, 0, 1.0)
    assert parts.end(part) == parts.end(part) == 2
    assert parts.problems == []


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (Damaged("/x: bad", "why", "next"), "/x: bad; why; next"),
        (PermissionError(13, "Permission denied", "/secret"), "sum: /secret Permission denied"),
        (ZeroDivisionError("by zero"), "sum: internal error: ZeroDivisionError: by zero"),
    ],
)
def test_a_part_that_fails_gives_its_stand_in_and_one_problem(
    error: Exception, problem: str
) -> None:
    parts = Parts()
    part = parts.begin("sum", lambda: raising(error), -1, 1.0)
    assert parts.end(part) == -1
    assert parts.end(part) == -1
    assert parts.problems == [problem]


def test_a_part_that_hangs_costs_its_deadline_and_says_so() -> None:
    parts, release = Parts(), threading.Event()
    part = parts.begin("sum", lambda: int(release.wait(30)), -1, 0.2)
    began = time.monotonic()
    assert parts.end(part) == -1
    assert 0.1 < time.monotonic() - began < 0.4
    assert parts.problems == ["sum: no answer within 0.2 s"]
    release.set()
    time.sleep(0.05)
    assert parts.end(part) == -1, "a value must not change after it was reported missing"


def test_parts_run_at_the_same_time() -> None:
    parts = Parts()
    began = time.monotonic()
    for part in [parts.begin(str(i), lambda: time.sleep(0.2), None, 1.0) for i in range(8)]:
        parts.end(part)
    assert time.monotonic() - began < 0.8
