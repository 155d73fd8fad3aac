"""A host's clock is measured by its survey, between the moments of asking and of the answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.codec import to_plain
from coordinator.agent_file import AgentFile
from coordinator.connection import Access
from coordinator.fleet import Fleet
from coordinator.hosts import HostSpec
from coordinator.report import emit, survey_table
from tests.unit.builders import Lab

LAB = Lab(1)


class Answering:
    """A channel to an agent whose host's clock is off."""

    def __init__(self, off: float) -> None:
        self.off = off

    def call(self, verb: str, args: Mapping[str, Any], timeout: float) -> Any:
        assert verb == "survey"
        return to_plain(LAB.healthy(0, time=time.time() + self.off).survey)

    def close(self) -> None:
        return


def observed(off: float) -> Any:
    spec = HostSpec("master-1", "10.0.0.1")
    fleet = Fleet([spec], AgentFile(Path("agent.pyz"), "", 0, "x86_64"), Access(), complete=True)
    fleet._channels["master-1"] = Answering(off)  # type: ignore[assignment]
    return fleet.observe()[0]


@given(st.floats(-1e6, 1e6))
def test_the_truth_lies_between_the_bounds(off: float) -> None:
    low, high = observed(off).clock
    assert low - 1e-3 <= off <= high + 1e-3


def test_a_survey_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    emit([observed(500.0)], "table", survey_table)
    shown = capsys.readouterr().out
    assert "its clock is 49" in shown or "its clock is 500" in shown
    assert "ahead of this one's" in shown
    emit([observed(0.0)], "table", survey_table)
    assert "clock" not in capsys.readouterr().out
