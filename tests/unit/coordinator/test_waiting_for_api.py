"""Stages that wait for the Kubernetes API: put off while it is silent, finished by `resume`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ApiUnavailable, Paused, from_plain
from agent.model.plan import KUBERNETES_API
from coordinator.sequencer import Sequencer
from tests.unit.coordinator.test_sequencer import LOOK, NOTHING, Trees, plan, stage, started


class WithApi(Trees):
    """A fleet of which some steps ask an API; `silent` are those that it does not answer now."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.silent: set[str] = set()

    def call(
        self, host: str, verb: str, args: dict[str, Any], timeout: float = 1,
        on_progress: Callable[[str], None] | None = None,
    ) -> Any:  # fmt: skip
        if verb == "step" and args["step"] in self.silent:
            self.asked.append((host, verb, str(args["step"])))
            error = ApiUnavailable("the API did not answer for 20 s", next="fab resume")
            raise from_plain(error.to_plain())  # as it comes over the line
        return super().call(host, verb, args, timeout, on_progress)


@pytest.fixture
def fleet(tmp_path: Path) -> WithApi:
    return WithApi(tmp_path)


ROLL_OUT = plan(
    stage("rescue", ("m0", LOOK), ("m1", NOTHING)),
    stage("tell the API", ("m0", NOTHING), ("m0", NOTHING), waits_for=(KUBERNETES_API, "m1")),
    stage("tidy", ("m2", NOTHING)),
)


def test_what_needs_no_api_goes_on_and_the_rest_is_finished_later(fleet: WithApi) -> None:
    fleet.silent = {"03", "04"}
    sequencer, heard = started(fleet, ROLL_OUT)
    report = sequencer.run()
    assert fleet.steps() == ["01", "02", "03", "05"]
    assert report.put_off == [KUBERNETES_API]  # m1 has done its part
    assert "put off: the API did not answer" in heard.stages[2]
    with pytest.raises(Paused, match="the Kubernetes API does not answer") as error:
        sequencer.finish()
    assert "fab resume" in error.value.next
    assert "open" in fleet.states()["m0"]

    fleet.silent = set()
    again, _heard = started(fleet, ROLL_OUT)
    again.run()
    again.finish()
    assert fleet.steps() == ["03", "04"]
    assert set(fleet.states().values()) == {"complete"}


def test_it_comes_in_the_middle_and_nothing_is_done_twice(fleet: WithApi) -> None:
    fleet.silent = {"04"}
    sequencer, _heard = started(fleet, ROLL_OUT)
    assert sequencer.run().put_off == [KUBERNETES_API]
    assert fleet.steps() == ["01", "02", "03", "04", "05"]
    fleet.silent = set()
    again, _heard = started(fleet, ROLL_OUT)
    assert again.run().put_off == []
    assert fleet.steps() == ["04"]


def test_a_host_whose_part_needs_the_api_is_put_off_with_it(fleet: WithApi) -> None:
    brings_back = plan(
        stage("take out", ("m0", NOTHING)),
        stage("bring back", ("m0", NOTHING), ("m2", NOTHING), waits_for=(KUBERNETES_API, "m2")),
        stage("tidy", ("m1", NOTHING), waits_for=("m2",)),
    )
    fleet.silent = {"02"}
    sequencer, _heard = started(fleet, brings_back)
    assert sequencer.run().put_off == [KUBERNETES_API, "m2"]
    assert fleet.steps() == ["01", "02"]
    with pytest.raises(Paused, match="m2 waits for that"):
        sequencer.finish()


def test_an_absent_host_puts_the_apis_part_off_before_it_is_asked(fleet: WithApi) -> None:
    fleet.down = {"m1"}
    late = plan(
        stage("rescue", ("m0", NOTHING)),
        stage("back", ("m1", NOTHING), waits_for=("m1",)),
        stage("tell the API", ("m0", NOTHING), waits_for=(KUBERNETES_API, "m1")),
    )
    sequencer, _heard = started(fleet, late)
    assert sequencer.run().put_off == ["m1"]
    assert fleet.steps() == ["01"]


def test_a_stage_that_cannot_wait_fails(fleet: WithApi) -> None:
    fleet.silent = {"01"}
    sequencer, _heard = started(fleet, ROLL_OUT)
    with pytest.raises(ApiUnavailable):
        sequencer.run()
    assert sequencer.give_up()


def test_the_operator_gives_the_apis_part_up(fleet: WithApi) -> None:
    fleet.silent = {"03", "04"}
    started(fleet, ROLL_OUT)[0].run()
    sequencer: Sequencer = started(fleet, ROLL_OUT, given_up=(KUBERNETES_API,))[0]
    sequencer.run()
    sequencer.finish()
    assert fleet.steps() == []
    assert set(fleet.states().values()) == {"complete"}
