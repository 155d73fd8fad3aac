"""Plans for DC/OS: what comes before what, what is refused, and what is counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import Locked, Refused, UsageError
from agent.model.plan import Plan
from agent.records.journal import Journal
from coordinator.dcos.diagnose import diagnose
from coordinator.dcos.model import PlanStatus, Remedy, View
from coordinator.dcos.plan import Wish, make_plan, require_sound
from coordinator.dcos.state import State
from tests.unit.coordinator.dcos.builders import alone, serves, three, view
from tests.unit.coordinator.dcos.test_diagnose import NEW, SCALED_BADLY

BUCKET = Wish("b", "eu-1", options={"kubernetes": {"high_availability": True, "node_count": 3}})
ONE = view({"etcd-0": "TASK_RUNNING"}, {"etcd-0": serves()})


def planned(
    seen: View, remedy: Remedy, lost: tuple[str, ...] = (), wish: Wish = BUCKET, failures: int = 0
) -> Plan:
    verdict = diagnose(seen, lost, failures)
    plan = make_plan(seen, verdict, remedy, replace(wish, lost=lost), 1.0)
    require_sound(plan, verdict)
    return plan


def actions(plan: Plan) -> list[str]:
    return [step.action.removeprefix("dcos_") for step in plan.steps()]


def test_what_comes_before_what() -> None:
    assert actions(planned(ONE, Remedy.SCALE_UP)) == ["snapshot", "backup", "scale_up", "watch"]
    degraded = three("etcd-0", "etcd-1")
    plan = planned(degraded, Remedy.REPLACE, ("etcd-2",))
    assert actions(plan) == ["snapshot", "replace", "watch"]
    assert plan.steps()[0].args["pod"] in ("etcd-0", "etcd-1")
    assert plan.steps()[1].args == {"pod": "etcd-2"}
    assert [step.final for step in plan.steps()] == [False, True, False]
    gone = ("etcd-0", "etcd-1")
    assert actions(planned(three(), Remedy.RESTORE, gone)) == ["restore", "watch"]
    one_left = replace(three("etcd-2"), answers={"etcd-2": alone()})
    assert actions(planned(one_left, Remedy.RESTORE, gone)) == ["snapshot", "restore", "watch"]
    without = replace(BUCKET, no_snapshot=True)
    assert actions(planned(one_left, Remedy.RESTORE, gone, without)) == ["restore", "watch"]


def test_a_failed_scale_up_is_rebuilt_without_high_availability() -> None:
    seen = view(NEW, {"etcd-0": alone()}, deploy=SCALED_BADLY)
    plan = planned(seen, Remedy.REBUILD)
    assert actions(plan) == [
        "snapshot", "uninstall", "install", "watch", "restore", "watch",
    ]  # fmt: skip
    options = plan.steps()[2].args["options"]
    assert options == {"kubernetes": {"high_availability": False, "node_count": 3}}
    with pytest.raises(UsageError, match="options are not known"):
        planned(seen, Remedy.REBUILD, wish=replace(BUCKET, options={}))


def test_a_lost_quorum_is_rebuilt_as_it_was() -> None:
    plan = planned(three(), Remedy.REBUILD, ("etcd-0", "etcd-1"))
    assert actions(plan) == ["uninstall", "install", "watch", "restore", "watch"]
    assert plan.steps()[1].args["options"] == BUCKET.options
    assert plan.promise.voters == ("etcd-0", "etcd-1", "etcd-2")
    assert {s.args["members"] for s in plan.steps() if s.action == "dcos_watch"} == {3}


def test_failures_in_a_row_make_the_cluster_suspect() -> None:
    assert planned(ONE, Remedy.SCALE_UP, failures=1)
    with pytest.raises(Refused, match="2 times in a row") as caught:
        planned(ONE, Remedy.SCALE_UP, failures=2)
    assert "DC/OS cluster itself is suspect" in caught.value.why
    assert "--again" in caught.value.next
    assert planned(ONE, Remedy.SCALE_UP, wish=replace(BUCKET, again=True), failures=2)
    with pytest.raises(Refused, match="3 times in a row") as caught:
        planned(ONE, Remedy.SCALE_UP, wish=replace(BUCKET, again=True), failures=3)
    assert "--again" not in caught.value.next


@pytest.mark.parametrize("remedy", [Remedy.SCALE_UP])
def test_a_backup_needs_its_bucket(remedy: Remedy) -> None:
    with pytest.raises(UsageError, match="no bucket"):
        planned(ONE, remedy, wish=Wish())


def test_an_unsound_plan_is_refused_whoever_made_it() -> None:
    good = planned(ONE, Remedy.SCALE_UP)
    verdict = diagnose(ONE)
    require_sound(good, verdict)
    for dropped in ("dcos_snapshot", "dcos_backup"):
        stages = tuple(
            replace(s, steps=tuple(t for t in s.steps if t.action != dropped)) for s in good.stages
        )
        with pytest.raises(Refused, match="without a"):
            require_sound(replace(good, stages=stages), verdict)
    restore = planned(three(), Remedy.RESTORE, ("etcd-0", "etcd-1"))
    with pytest.raises(Refused, match="quorum holds"):
        require_sound(restore, diagnose(three("etcd-0", "etcd-1")))
    other = replace(good.steps()[0], action="relocate_data")
    stages = (replace(good.stages[0], steps=(other,)),)
    with pytest.raises(Refused, match="none of a DC/OS plan"):
        require_sound(replace(good, stages=stages), verdict)


# ---- what this machine keeps ---------------------------------------------------------------------


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return State.open()


def failed(state: State, number: int, *kinds: tuple[str, str]) -> None:
    plan = planned(ONE, Remedy.SCALE_UP)
    plan = replace(plan, created=float(number)).with_id()
    journal = Journal.create(state.host, plan)
    for kind, step in kinds:
        journal.append(kind, step, {"seen": "x"} if kind == "failed" else {})


def test_failures_are_counted_in_a_row(state: State) -> None:
    def count() -> int:
        return state.failures("kubernetes", ONE.cluster)

    assert count() == 0
    failed(state, 1, ("intent", "01"), ("failed", "01"))
    assert count() == 0, "a snapshot that failed is no failed scale-up"
    failed(state, 2, ("intent", "03"), ("failed", "03"), ("rolled-back", ""))
    failed(state, 3, ("done", "03"), ("intent", "04"), ("failed", "04"))
    assert count() == 2
    assert state.failures("kubernetes", "https://another.example.com") == 0
    failed(state, 4, ("done", "03"), ("done", "04"), ("complete", ""))
    assert count() == 0


def test_the_directory_is_its_users_alone(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert state.path.stat().st_mode & 0o777 == 0o700
    with state.secret_file(("a", "b")) as path:
        assert path.read_text() == "a\nb\n"
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()
    left = state.path / ".secrets-left"
    left.write_text("x")
    with state.locked("kubernetes"):
        assert not left.exists(), "what a killed run left is still there"
        with pytest.raises(Locked), State.open().locked("kubernetes"):
            pass
    state.path.chmod(0o755)
    with pytest.raises(UsageError, match="not this user's alone"):
        State.open()
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    with pytest.raises(UsageError, match="absolute"):
        State.open()


def test_a_deployment_at_work_is_left_alone() -> None:
    busy = view({"etcd-0": "TASK_RUNNING"}, {"etcd-0": serves()},
                deploy=PlanStatus("deploy", "IN_PROGRESS", later=True))  # fmt: skip
    with pytest.raises(Refused, match="plan deploy is IN_PROGRESS"):
        planned(busy, Remedy.SCALE_UP)
