from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from tests.faults.count import read_file
from tests.faults.gate import Call
from tests.faults.kinds import KINDS, REPEATED, SWEEPS, faults_of
from tests.faults.matrix import Results, repeat, wanted_slice
from tests.faults.outcome import Outcome
from tests.faults.points import Point, Track, not_durable
from tests.faults.recipes import ROWS, WITHOUT_A_ROW
from tests.faults.shim import ALWAYS, filter_code
from tests.lab.paths import REPO_DIR

JOURNAL = f"/var/lib/etcd-rescue/journal/{'ab' * 32}.jsonl"
PLAN = {
    "plan": {
        "stages": [
            {"steps": [{"id": "01", "action": "copy_data", "final": False}]},
            {"steps": [{"id": "02", "action": "member_remove", "final": True}]},
        ]
    }
}


def record(kind: str, step: str = "", pid: int = 7, host: str = "h") -> Call:
    data = json.dumps({"kind": kind, "step": step, "data": PLAN if kind == "plan" else {}})
    return Call(host, pid, "write", True, JOURNAL, data=data.encode())


def sync(path: str = JOURNAL, pid: int = 7, host: str = "h") -> Call:
    return Call(host, pid, "fsync", True, path)


RUN = (
    record("plan"), sync(), record("intent", "01"), sync(),
    Call("h", 7, "renameat2", True, "/a", "/b"), record("done", "01"), sync(),
    record("intent", "02"), sync(), record("done", "02"), sync(), record("complete"), sync(),
)  # fmt: skip


def tracked(*calls: Call) -> list[Point]:
    track = Track(lambda point, call: None)
    for call in calls:
        track.watch(call)
    return track.points


def test_points_are_numbered_within_their_step() -> None:
    assert [str(p) for p in tracked(*RUN)][:7] == [
        "h:begin:1 (journal-write plan /var/lib/etcd-rescue/journal/PLAN.jsonl)",
        "h:begin:2 (fsync /var/lib/etcd-rescue/journal/PLAN.jsonl)",
        "h:01 copy_data:1 (journal-write intent /var/lib/etcd-rescue/journal/PLAN.jsonl)",
        "h:01 copy_data:2 (fsync /var/lib/etcd-rescue/journal/PLAN.jsonl)",
        "h:01 copy_data:3 (rename /b)",
        "h:01 copy_data:4 (journal-write done /var/lib/etcd-rescue/journal/PLAN.jsonl)",
        "h:01 copy_data:5 (fsync /var/lib/etcd-rescue/journal/PLAN.jsonl)",
    ]


def test_a_step_that_is_begun_again_has_the_same_points() -> None:
    again = [record("intent", "01", 8), sync(pid=8)]
    points = tracked(*RUN[:4], *again)
    assert [p.key for p in points[-4:]] == ["h:01 copy_data:1", "h:01 copy_data:2"] * 2


def test_what_a_power_cut_could_take_back_is_seen() -> None:
    assert not_durable(tracked(record("intent", "01"), sync(), record("done", "01"), sync())) == []
    moved = Call("h", 7, "renameat2", True, "/a/x", "/b/x")
    for left_out, told in (("/a", "/a not synced"), ("/b", "/b not synced"), (JOURNAL, "before")):
        calls = [
            record("intent", "01"),
            sync(),
            moved,
            sync("/b"),
            sync("/a"),
            record("done", "01"),
        ]
        kept = [c for c in calls if c.name != "fsync" or c.path != left_out]
        (problem, *_more) = not_durable(tracked(*kept, *([sync()] * (left_out != JOURNAL))))
        assert told in problem


def test_what_is_no_point() -> None:
    others = (
        Call("h", 7, "fsync", False, JOURNAL),  # by a child of the agent
        Call("h", 7, "write", True, "/etc/kubernetes/manifests/etcd.yaml"),
        Call("h", 7, "rename", True, "/x", "/lib/__pycache__/y.pyc"),
        Call("h", 7, "execve", True, argv=("etcd", "--name=x")),
        Call("h", 7, "fsync", False, "/var/lib/etcd-rescue/work/kube/http/.diskv-temp/1"),
    )
    assert tracked(*others) == []


def test_who_was_started_with_the_flag_is_remembered() -> None:
    track = Track(lambda point, call: None)
    track.watch(Call("h", 9, "execve", False, argv=("etcd", "--force-new-cluster=true")))
    track.restart()
    assert track.flagged == [("h", ("etcd", "--force-new-cluster=true"))]
    track.watch(record("plan"))
    assert track.finals == {"02"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_strikes_every_step(kind: str) -> None:
    points = tracked(*RUN)
    faults = faults_of(kind, points)
    if kind in SWEEPS:
        assert [key for fault in faults for key in fault.keys]
        return
    if kind in REPEATED:
        assert len({fault.key for fault in faults}) == 3
        return
    struck = {fault.key.split(":")[1] for fault in faults}
    assert {"01 copy_data", "02 member_remove"} <= struck
    if kind == "agent-kill":
        assert [fault.key for fault in faults] == [point.key for point in points]


def one_step(host: str) -> list[Call]:
    said = (record("intent", "01", host=host), record("done", "01", host=host))
    return [call for note in said for call in (note, sync(host=host))]


def both(*rest: Call) -> list[Point]:
    """Two hosts take the same plan; `rest` is what they do of it, in this order."""
    begin = [call for h in ("h", "i") for call in (record("plan", host=h), sync(host=h))]
    points = tracked(*begin, *rest)
    return sorted(points, key=lambda point: point.order)


def test_hosts_at_work_at_once_have_their_points_in_one_order() -> None:
    calls = {h: one_step(h) for h in ("h", "i")}
    one = both(*calls["h"], *calls["i"])
    other = both(*calls["i"][:2], *calls["h"], *calls["i"][2:])
    assert [p.key for p in one] == [p.key for p in other]
    struck = [fault.key for fault in faults_of("power-cut", other)]
    assert {key.partition(":")[0] for key in struck} == {"h", "i"}


def test_a_slice_is_as_asked() -> None:
    part = wanted_slice({"RECIPE": "reseed", "KIND": "ssh-cut", "FROM": "2", "TO": "9"})
    assert ([row.name for row in part.rows], part.kinds) == (["reseed"], ("ssh-cut",))
    assert (part.first, part.last, part.every) == (2, 9, 1)
    assert wanted_slice({}).rows == ROWS
    for wrong in ({"RECIPE": "nothing"}, {"KIND": "flood"}):
        with pytest.raises(SystemExit):
            wanted_slice(wrong)


def test_the_latest_outcome_of_a_trial_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.faults.matrix.RESULTS_DIR", tmp_path)
    with (tmp_path / "said").open("w") as said:
        results = Results(out=said)
        for outcome in ("failed", "passed"):
            for point in ("h:01 a:1", "h:01 a:2"):
                results.add(Outcome("reseed", "agent-kill", "resume", point, point, outcome), "1/1")
        assert not results.summary()
    kept = read_file(tmp_path / "reseed.jsonl")
    assert [(row["point"], row["outcome"]) for row in kept] == [
        ("h:01 a:1", "passed"), ("h:01 a:2", "passed"),
    ]  # fmt: skip
    assert repeat(results.all[0]) in (tmp_path / "said").read_text()


def test_every_recipe_has_a_row() -> None:
    found = set()
    for path in (REPO_DIR / "agent/recipes").glob("*.py"):
        names = {
            node.targets[0].id: node.value.value
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "PlanBuilder"):
                continue
            first = node.args[0]
            said = first.value if isinstance(first, ast.Constant) else names[ast.unparse(first)]
            found.add(str(said))
    assert found == {row.recipe for row in ROWS} | set(WITHOUT_A_ROW)


def test_the_filter_sends_every_watched_call_to_its_last_row() -> None:
    rows = [filter_code()[i : i + 8] for i in range(0, len(filter_code()), 8)]
    for number in range(1, len(ALWAYS) + 1):
        jump = rows[number][2]
        assert number + 1 + jump == len(rows) - 1
