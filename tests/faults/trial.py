"""One trial: a fresh broken cluster, its rescue, one fault at one point, and the way out of it."""

from __future__ import annotations

import time
from typing import Any

from tests.faults.kinds import Fault, strike
from tests.faults.many import MANY
from tests.faults.outcome import Outcome
from tests.faults.points import Point, not_durable
from tests.faults.row import Row
from tests.faults.scene import (
    Scene,
    Stage,
    marks,
    prove,
    prove_all,
    prove_revived,
)
from tests.faults.stops import Stop
from tests.faults.ways import begin_again, finish, run_to
from tests.lab.faults import PASSING
from tests.lab.operator import OK, PAUSED


def enumerate_points(stage: Stage, row: Row) -> tuple[list[Point], dict[str, Any]]:
    """The points of an undisturbed run, each once, and what it leaves on each host.

    In an order that is the same in each run, also of hosts that are at work at the same time.
    """
    with stage.scene(row) as found:
        run = row.run_whole().expect(OK, PAUSED)
        points = list(found.track.points)
        loose = not_durable(points)
        assert not loose, loose
        if run.code == PAUSED:
            row.resume().expect(OK)
        prove(found)
        each_once = {point.key: point for point in points}.values()
        return sorted(each_once, key=lambda point: point.order), marks(found)


def run_trial(stage: Stage, row: Row, fault: Fault, reference: dict[str, Any] | None) -> Outcome:
    """Carry out one trial; a failure is an outcome too, with what was seen.

    A rescue that refused to begin and said that one should look again is begun again.
    """
    for _ in range(4):
        outcome = _run_once(stage, row, fault, reference)
        if outcome.outcome != "missed" or not PASSING.search(outcome.note):
            break
    return outcome


def _run_once(stage: Stage, row: Row, fault: Fault, reference: dict[str, Any] | None) -> Outcome:
    outcome = Outcome(row.name, fault.kind, fault.how, fault.key, fault.key)
    start = time.monotonic()
    try:
        with stage.scene(row) as found:
            MANY.get(fault.kind, _try)(found, fault, reference, outcome)
    except Exception as error:
        outcome.outcome, outcome.note = "failed", f"{type(error).__name__}: {error}"
    outcome.seconds = round(time.monotonic() - start, 2)
    return outcome


def _try(found: Scene, fault: Fault, reference: dict[str, Any] | None, outcome: Outcome) -> None:
    stop = Stop(fault.key)
    run, call = run_to(found, stop, outcome)
    if call is None:
        return
    outcome.label = stop.label
    healed = strike(found.lab, fault, call, run)
    stop.release()
    ended = run.end()
    healed()
    is_restored = finish(found, fault, ended, outcome)
    if is_restored and found.row.revive:
        prove_revived(found)
        return
    if is_restored:
        begin_again(found, outcome)
    prove_all(found, reference, outcome)
