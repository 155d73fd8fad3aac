"""A fixed sample of `make faults`: agents, coordinators, lines and power cut in mid-rescue."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.kinds import Fault
from tests.faults.recipes import row_named
from tests.faults.trial import Outcome, Stage, run_trial
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
