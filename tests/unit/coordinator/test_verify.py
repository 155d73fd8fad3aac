from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest

from agent.errors import StepFailed
from agent.model.facts import EtcdProcess, Observation
from agent.model.plan import FORMAT, Plan, Promise, Stage, Step
from coordinator import verify as module
from coordinator.console import Progress
from coordinator.fleet import Fleet
from coordinator.sequencer import Report
from coordinator.verify import verify
from tests.unit.builders import CLUSTER, Lab, with_survey

LAB = Lab(3)
HOSTS = tuple(LAB.host(n) for n in range(3))
HEALTHY = tuple(LAB.healthy(n) for n in range(3))
STEPS = (
    Step("01", HOSTS[0], "park_definition", {}, ""),
    Step("02", HOSTS[0], "copy_data", {}, ""),
    Step("03", HOSTS[0], "wait_serving", {}, ""),
)
PROMISE = Promise(HOSTS, CLUSTER, LAB.revision)
PLAN = Plan(FORMAT, "reseed", "", 1.0, {}, (Stage("all", STEPS),), PROMISE).with_id()


class Looks(Fleet):
    """A fleet that is seen like this, one look after another; the last stays."""

    def __init__(self, *looks: tuple[Observation, ...]) -> None:
        self._looks = list(looks)

    def observe(self) -> tuple[Observation, ...]:
        return self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]

    def call(self, host: str, verb: str, args: dict[str, Any], *_: Any, **__: Any) -> Any:
        """Answer `hash`: every member holds the same keys, but for what a test says of it."""
        assert verb == "hash"
        answer = {"hash": 7, "revision": args["revision"], "compact_revision": 1}
        return {**answer, **self.hashes.get(host, {})}

    hashes: ClassVar[dict[str, dict[str, int]]] = {}


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SETTLE_SECONDS", 0.6)


def test_a_promise_kept_is_a_recovery() -> None:
    timings = {"01": (10.0, 11.0), "02": (11.0, 12.5), "03": (12.5, 14.0)}
    outcome = verify(Looks(HEALTHY), PLAN, Report(timings=timings), Progress())
    assert outcome["summary"].startswith(f"recovered: 3/3 voters serve, revision {LAB.revision}")
    assert outcome["outage_seconds"] == 4.0
    assert sum(outcome["outage_parts"].values()) == 4.0
    assert outcome["state"] == "healthy"


def test_it_looks_again_until_all_have_settled(capsys: pytest.CaptureFixture[str]) -> None:
    starting = (*HEALTHY[:2], LAB.crash_looping(2))
    outcome = verify(Looks(starting, starting, HEALTHY), PLAN, Report(), Progress())
    assert outcome["serving"] == 3
    assert outcome["outage_seconds"] is None
    assert capsys.readouterr().err.count("looking again") == 1  # the same is told once


def flagged() -> tuple[Observation, ...]:
    argv = ("etcd", "--name=x", "--force-new-cluster")
    return (with_survey(HEALTHY[0], processes=(EtcdProcess(1, 1.0, argv),)), *HEALTHY[1:])


BROKEN: tuple[tuple[Promise, tuple[Observation, ...], str], ...] = (
    (PROMISE, (*HEALTHY[:2], LAB.unreachable(2)), "master-3 is "),
    (PROMISE, (*HEALTHY[:2], LAB.crash_looping(2)), "master-3 is "),
    (replace(PROMISE, voters=(*HOSTS, "master-9")), HEALTHY, "master-9 is unknown"),
    (replace(PROMISE, revision=LAB.revision + 1), HEALTHY, "promised 501"),
    (replace(PROMISE, cluster_id="f" * 16), HEALTHY, f"cluster ID is {CLUSTER}"),
    (PROMISE, flagged(), "master-1 runs with --force-new-cluster"),
)


@pytest.mark.parametrize(("promise", "seen", "told"), BROKEN)
def test_a_promise_broken_is_told(
    promise: Promise, seen: tuple[Observation, ...], told: str
) -> None:
    with pytest.raises(StepFailed, match="not as promised: ") as caught:
        verify(Looks(seen), replace(PLAN, promise=promise).with_id(), Report(), Progress())
    assert told in caught.value.seen


@pytest.mark.parametrize(
    ("wrong", "told"),
    [({"hash": 8}, "the keys differ at revision"), ({"compact_revision": 2}, "has compacted")],
)
def test_keys_that_differ_are_no_recovery(
    monkeypatch: pytest.MonkeyPatch, wrong: dict[str, int], told: str
) -> None:
    monkeypatch.setattr(Looks, "hashes", {HOSTS[1]: wrong})
    with pytest.raises(StepFailed, match="not as promised: ") as caught:
        verify(Looks(HEALTHY), PLAN, Report(), Progress())
    assert told in caught.value.seen


@pytest.mark.parametrize("report", [Report(put_off=[HOSTS[2]]), Report(dropped={HOSTS[2]})])
def test_hosts_put_off_or_given_up_are_not_held_against_the_plan(report: Report) -> None:
    outcome = verify(Looks((*HEALTHY[:2], LAB.unreachable(2))), PLAN, report, Progress())
    assert outcome["serving"] == 2
    assert ("still to rejoin: master-3" in outcome["summary"]) == bool(report.put_off)
