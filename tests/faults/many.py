"""Trials of many faults in one run: in every step once, or again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.faults import gate
from tests.faults.kinds import SHARES, SWEEPS, Fault, strike
from tests.faults.outcome import Outcome
from tests.faults.points import BEGIN, Point
from tests.faults.scene import (
    NOTHING_OPEN,
    Scene,
    prove,
    prove_all,
    prove_restored,
    prove_revived,
)
from tests.faults.stops import Killer, LastMoment, Sweeper
from tests.faults.ways import begin_again, go_on, run_to
from tests.lab.operator import OK

Trial = Callable[[Scene, Fault, "dict[str, Any] | None", Outcome], None]


def _kill_in_every_step(
    found: Scene, fault: Fault, reference: dict[str, Any] | None, outcome: Outcome
) -> None:
    """Kill the agent once in every step; the same run goes on."""
    found.killer = Killer(lambda point: point.key in fault.keys)
    _run_killed(found, reference, outcome, found.killer)


def _kill_again_and_again(
    found: Scene, fault: Fault, reference: dict[str, Any] | None, outcome: Outcome
) -> None:
    """Kill the agents at every third point they come to, also of steps they do again."""
    share = _share_of(fault)
    # The sweeps meet the delivery.
    killer = Killer(lambda p: p.phase != BEGIN and p.number % SHARES == share)
    found.killer = killer
    _run_killed(found, reference, outcome, killer)


def _run_killed(
    found: Scene, reference: dict[str, Any] | None, outcome: Outcome, killer: Killer
) -> None:
    killer.is_on, before = True, -1
    ended = found.row.start().end()
    outcome.way = f"by the same run ({ended.code}); "
    while ended.code != OK and len(killer.killed) > before:  # a delivery is not begun again
        before = len(killer.killed)
        ended = found.row.resume()
        outcome.way += f"resume ({ended.code}); "
        if NOTHING_OPEN in ended.err:
            ended = found.row.start().end()
            outcome.way += f"the command again ({ended.code}); "
    if ended.code != OK:
        go_on(found, outcome)
    prove_all(found, reference, outcome)
    _tell(outcome, killer.killed)


def _kill_the_way_back(
    found: Scene, fault: Fault, _reference: dict[str, Any] | None, outcome: Outcome
) -> None:
    """Stop at the last moment at which all can be taken back, and kill what takes it back."""
    share = _share_of(fault)
    found.killer = Killer(lambda point: point.number % SHARES == share)
    stop = LastMoment(found.track)
    run, call = run_to(found, stop, outcome)
    if call is None:
        return
    run.kill()
    gate.kill(call.agent)
    stop.release()
    found.track.restart()
    found.killer.is_on = found.is_rolling_back = True
    back = found.row.roll_back().expect(OK)
    found.killer.is_on = found.is_rolling_back = False
    outcome.way = "rolled back"
    prove_restored(found, back)
    if found.row.revive:
        prove_revived(found)
    else:
        begin_again(found, outcome)
        prove(found)
    _tell(outcome, found.killer.killed)


def _strike_in_every_step(
    found: Scene, fault: Fault, reference: dict[str, Any] | None, outcome: Outcome
) -> None:
    """Kill the coordinator, cut the line or the power once in every step, and go on each time."""
    sweeper = Sweeper(fault.keys)
    found.stops.append(sweeper)
    run = found.row.start()
    while True:
        call = sweeper.wait(run)
        if call is not None:
            one = Fault(SWEEPS[fault.kind], sweeper.struck[-1].key, fault.how)
            healed = strike(found.lab, one, call, run)
            sweeper.release()
            if fault.how != "reattach":
                run.end()
            healed()
            run = run if fault.how == "reattach" else found.row.start_resume()
            continue
        ended = run.end()
        is_complete = any(point.record == "complete" for point in sweeper.struck)
        if NOTHING_OPEN not in ended.err or is_complete:
            break
        run = found.row.start()  # the first kill came before there was a plan
    sweeper.is_on = False
    outcome.way = f"by {'the same run' if fault.how == 'reattach' else 'resumes'} ({ended.code}); "
    if ended.code != OK:
        go_on(found, outcome)
    prove_all(found, reference, outcome)
    _tell(outcome, sweeper.struck)


def _tell(outcome: Outcome, struck: list[Point]) -> None:
    """Where it struck. A scratch etcd syncs more often in one run than in another."""
    outcome.killed, outcome.label = len(struck), "; ".join(map(str, struck))
    if not struck:
        outcome.outcome, outcome.note = "missed", "this run came by none of its points"


def _share_of(fault: Fault) -> int:
    return int(fault.key.rpartition(":")[2])


MANY: dict[str, Trial] = {
    **dict.fromkeys(SWEEPS, _strike_in_every_step),
    "agent-sweep": _kill_in_every_step,
    "agent-kills": _kill_again_and_again,
    "rollback-kills": _kill_the_way_back,
}
"""How a trial of each such kind is carried out."""
