"""A fixed sample of `make faults`: agents, coordinators, lines and power cut in mid-rescue."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.faults import gate
from tests.faults.kinds import Fault
from tests.faults.outcome import Outcome
from tests.faults.recipes import row_named
from tests.faults.scene import Stage, prove
from tests.faults.stops import Stop
from tests.faults.trial import enumerate_points, run_trial
from tests.lab.console import act, say
from tests.lab.evidence import STATE
from tests.lab.operator import OK, PAUSED, REFUSED, fab
from tests.lab.pool import LabPool

Figure = Callable[[str, int], None]

SAMPLE = (
    # row, kind, way out, host:action:number of the call in that step
    ("reseed", "agent-kill", "rollback", "master-0:copy_data:9"),
    ("reseed", "agent-kill", "resume", "master-0:relocate_data:6"),
    ("reseed", "agent-kill", "rollback", "master-0:unpark_definition:4"),
    ("reseed", "power-cut", "resume", "master-0:install_data:4"),
    ("replace-member", "coordinator-kill", "resume", "master-0:member_remove:3"),
    ("replace-member", "ssh-cut", "reattach", "master-1:prejoin:2"),
    ("replace-member", "power-cut", "reattach", "master-1:install_data:4"),
    ("replace-member", "agent-kill", "resume", "master-0:member_promote:3"),
    ("reseed-in-manifest", "power-cut", "resume", "master-0:seed_in_manifest:6"),
)

REPEATED = (
    ("reseed", "agent-kills", "reattach", "*:1"),
    ("reseed", "rollback-kills", "rollback", "*:2"),
)


@pytest.fixture(scope="module")
def stage(lab_pool: LabPool) -> Stage:
    return Stage(lab_pool)


@pytest.mark.reliability(
    "Journal and resume",
    "intent, fsync, act, fsync, done, fsync: seen from outside, every rename of a rescue is synced "
    "before it is noted as done, and every note is synced before anything else is done",
)
@pytest.mark.parametrize("row", ["reseed", "replace-member"])
def test_nothing_is_noted_before_it_is_durable(stage: Stage, row: str) -> None:
    points, _marks = enumerate_points(stage, row_named(row))  # raises where that is not so
    records = {point.record for point in points}
    assert {"intent", "done"} <= records
    assert len([point for point in points if point.kind == "rename"]) > 8


def require_passed(outcome: Outcome, figure: Figure) -> None:
    assert outcome.outcome == "passed", outcome.note
    figure("points killed", outcome.killed)


@pytest.mark.reliability(
    "Kill at every step",
    "agent or coordinator killed, SSH or power cut at one point of a step: the plan is finished or "
    "taken back, with all keys, one cluster, the original data in quarantine and no flag left",
)
@pytest.mark.parametrize(("row", "kind", "how", "point"), sorted(SAMPLE))
def test_cut_at_one_point(
    stage: Stage, figure: Figure, row: str, kind: str, how: str, point: str
) -> None:
    require_passed(run_trial(stage, row_named(row), Fault(kind, point, how), None), figure)


@pytest.mark.reliability(
    "Kill at every step",
    "the agent is killed at every third rename, fsync and journal write of one rescue, or of one "
    "rollback: it ends as if nothing had happened",
)
@pytest.mark.parametrize(("row", "kind", "how", "share"), REPEATED)
def test_killed_again_and_again(
    stage: Stage, figure: Figure, row: str, kind: str, how: str, share: str
) -> None:
    outcome = run_trial(stage, row_named(row), Fault(kind, share, how), None)
    require_passed(outcome, figure)
    assert outcome.killed > 8


@pytest.mark.reliability(
    "Journal and resume",
    "a journal that is damaged in the middle stops everything with its record, its file and the "
    "next command; what that command says leads to the end, with nothing lost",
)
def test_a_damaged_journal_has_a_way_out(stage: Stage) -> None:
    row = row_named("reseed")
    with stage.scene(row) as found:
        stop = Stop("master-0:relocate_data:6")  # moved away, and nothing is in its place
        found.stops.append(stop)
        run = row.start()
        call = stop.wait(run)
        assert call is not None
        run.kill()
        gate.kill(call.agent)
        stop.release()
        host = found.lab.hosts["master-0"]
        (file,) = host.path(f"{STATE}/journal").glob("*.jsonl")
        lines = file.read_bytes().splitlines(keepends=True)
        lines[2] = lines[2].replace(b'"kind"', b'"kinD"')
        file.write_bytes(b"".join(lines))
        for words in (("resume",), ("rollback", "--yes"), row.words):
            refused = fab(*words).expect(REFUSED)
            assert f"{file.name}: record 3 at offset {len(lines[0] + lines[1])}" in refused.err
            assert f"rescue-agent set-aside-journal {file.name[:12]}" in refused.err
        told = say(host, "set-aside-journal", file.name[:12]).stdout
        command = re.search(r"next: rescue-agent (bring-back-data) (\S+) (\S+);", told)
        assert command is not None, told
        act(host, *command.groups())
        row.start().end().expect(PAUSED)
        row.resume().expect(OK)
        prove(found)
