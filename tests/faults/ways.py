"""The ways out of a fault, as an operator takes them: on, back, or the command once more."""

from __future__ import annotations

from tests.faults import gate
from tests.faults.kinds import Fault
from tests.faults.outcome import Outcome
from tests.faults.points import END
from tests.faults.scene import NOTHING_OPEN, Scene, prove_restored
from tests.faults.stops import Stop
from tests.lab.operator import OK, PAUSED, REFUSED, USAGE, Ended, Running


def finish(found: Scene, fault: Fault, ended: Ended, outcome: Outcome) -> bool:
    """Go on, or back where that is asked for and possible; True where all was taken back."""
    if fault.how == "rollback":
        known, is_complete = len(found.problems), f":{END}:" in fault.key
        found.is_rolling_back = True
        back = found.row.roll_back().expect(OK, REFUSED, USAGE)
        found.is_rolling_back = False
        if is_complete and (back.code == USAGE or NOTHING_OPEN in back.err):
            del found.problems[known:]
            outcome.way = "it was complete; "
            go_on(found, outcome)
            return False
        if back.code != REFUSED:
            found.was_taken_back = back.code == OK
            outcome.way = "rolled back" if back.code == OK else "nothing was begun"
            prove_restored(found, back)
            return True
        # Nothing was taken back: what was seen is the edit of an agent whose line was cut.
        del found.problems[known:]
        assert "no return" in back.err, back.err
        assert "steps remain" in back.err or "nothing remains" in back.err, back.err
        outcome.way = "past the point of no return; "
    if fault.how == "reattach" and ended.code == OK:
        outcome.way = "by the same run"
        return False
    if fault.how == "reattach" and ended.code == PAUSED:
        outcome.way = "by the same run; "
    go_on(found, outcome)
    return False


def begin_again(found: Scene, outcome: Outcome) -> None:
    """After a rollback the cluster needs the recipe as it did; then as an operator goes on."""
    found.row.ready(found.lab)
    go_on(found, outcome)


def go_on(found: Scene, outcome: Outcome) -> None:
    """What an operator does: resume; and where no plan was begun yet, the command again."""
    ended = found.row.resume().expect(OK)
    outcome.way += "resume"
    if NOTHING_OPEN not in ended.err:
        return
    ended = found.row.run_whole().expect(OK, PAUSED, *found.row.again)
    outcome.way += ", the command again"
    if ended.code == PAUSED:
        found.row.resume().expect(OK)


def run_to(found: Scene, stop: Stop, outcome: Outcome) -> tuple[Running, gate.Call | None]:
    """The operator's command, held at a point; none if it came by no such: what it said is told."""
    found.stops.append(stop)
    run = found.row.start()
    call = stop.wait(run)
    if call is None:
        ended = run.end()
        outcome.outcome, outcome.note = "missed", f"exit code {ended.code}: {ended.err[-1500:]}"
    return run, call
