"""How the matrix is counted, divided and told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.faults.count import Clock, keys_of, note_keys, read_all, read_keys, struck, sums, table
from tests.faults.jobs import divide, seconds_of
from tests.faults.kinds import KINDS, SINGLE, SWEEPS
from tests.faults.matrix import Known, Results, share, wanted_slice
from tests.faults.outcome import Outcome
from tests.faults.proof import apart
from tests.faults.recipes import ROWS, row_named
from tests.faults.scene import Stage
from tests.lab.pool import LabPool
from tests.unit.lab.test_fault_points import RUN, tracked

POINTS = tracked(*RUN)


def outcome(kind: str, label: str, came: str = "passed", seconds: float = 20.0) -> Outcome:
    point = label.partition(" (")[0]
    return Outcome("reseed", kind, "resume", point, label, came, seconds=seconds)


def written(folder: Path, name: str, *outcomes: Outcome) -> None:
    results = Results(name, out=(folder / "said").open("a"))
    for one in outcomes:
        results.add(one, "1/1")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tests.faults.matrix.RESULTS_DIR", tmp_path)
    return tmp_path


def known_reseed(folder: Path) -> Known:
    known = Known(Stage(LabPool()))
    known.rows["reseed"] = (POINTS, {})
    note_keys(folder, "reseed", keys_of(row_named("reseed"), POINTS))
    return known


def test_what_is_counted_is_what_is_run(folder: Path) -> None:
    known, part = known_reseed(folder), wanted_slice({"RECIPE": "reseed"})
    every = replace(part, kinds=KINDS)
    run = [(f.kind, f.key) for f, _n, _of in every.trials(part.rows[0], known)]
    counted = [(kind, key) for kind, keys in read_keys(folder)["reseed"].items() for key in keys]
    assert run == counted
    assert {kind for kind, _key in counted} == set(KINDS)


def test_the_whole_matrix_comes_by_every_point(folder: Path) -> None:
    known, part = known_reseed(folder), wanted_slice({"RECIPE": "reseed"})
    trials = [fault for fault, _n, _of in part.trials(part.rows[0], known)]
    swept = [(SWEEPS[f.kind], key) for f in trials if f.kind in SWEEPS for key in f.keys]
    keys = read_keys(folder)["reseed"]
    assert sorted(swept) == sorted((kind, key) for kind in SINGLE for key in keys[kind])
    for fault in trials:
        steps = [(key.split(":")[0], key.split(":")[1].split(" ")[0]) for key in fault.keys]
        assert len(set(steps)) == len(steps)  # no step is struck twice in a run
    assert len(trials) < len(swept)


def test_a_row_that_is_counted_again_replaces_only_itself(folder: Path) -> None:
    note_keys(folder, "a", {"agent-kill": ["x"]})
    note_keys(folder, "b", {"agent-kill": ["y"]})
    note_keys(folder, "a", {"agent-kill": ["z"]})
    assert read_keys(folder) == {"a": {"agent-kill": ["z"]}, "b": {"agent-kill": ["y"]}}


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 139])
@pytest.mark.parametrize("turns", [1, 2, 5, 32])
def test_turns_divide_all_trials_and_repeat_none(count: int, turns: int) -> None:
    numbers = list(range(1, count + 1))
    parts = [share(numbers, turn, turns, "a row's kind") for turn in range(turns)]
    assert sorted(n for part in parts for n in part) == numbers
    assert parts[0]


def test_a_turn_covers_a_kind_from_end_to_end() -> None:
    part = share(list(range(1, 129)), 0, 16, "")
    gaps = [b - a for a, b in zip(part, part[1:], strict=False)]
    assert len(part) == 8
    assert set(gaps) == {16}


def test_new_ones_only(folder: Path) -> None:
    asked = {"RECIPE": "reseed", "NEW": "1", "KIND": "agent-kill"}
    known, part = known_reseed(folder), wanted_slice(asked)
    every = [f for f, _n, _of in part.trials(part.rows[0], known)]
    done, failed = every[2], every[3]
    written(folder, "", outcome("agent-kill", f"{done.key} (fsync /x)"),
            outcome("agent-kill", f"{failed.key} (fsync /x)", "failed"))  # fmt: skip
    left = [f for f, _n, _of in part.trials(part.rows[0], known)]
    assert left == [f for f in every if f != done]


def test_a_point_counts_once_however_it_was_asked_for(folder: Path) -> None:
    label = "h:01 copy_data:3 (rename /b)"
    asked = Outcome("reseed", "agent-kill", "resume", "h:copy_data:3", label)
    written(folder, "", asked, outcome("agent-kill", label))
    written(folder, "soak", outcome("agent-kill", label), outcome("ssh-cut", "h:09 none:1 (x)"))
    note_keys(folder, "reseed", keys_of(row_named("reseed"), POINTS))
    found = struck(read_all(folder))
    assert found["reseed", "agent-kill"] == {"h:01 copy_data:3"}
    points = len(POINTS)
    told = next(line for line in sums(folder) if line.startswith("reseed: "))
    assert f"1 of {points} agent-kill, 0 of " in told
    assert "struck 2 times in 2 trials (2 agent-kill), all passed" in told


def test_the_points_of_a_sweep_are_struck(folder: Path) -> None:
    points = ["h:01 a:1", "h:01 a:2", "h:02 b:1", "h:02 b:2"]
    note_keys(folder, "reseed", {"agent-kill": points, "agent-sweep": ["*:1", "*:2"]})
    many = "h:01 a:1 (x); h:02 b:1 (y); h:09 gone:1 (z)"
    swept = Outcome("reseed", "agent-sweep", "reattach", "*:1", many, killed=3)
    often = Outcome("reseed", "agent-kills", "reattach", "*:0", "h:01 a:2 (x)", killed=1)
    written(folder, "", swept, often, outcome("agent-kill", "h:01 a:1 (x)"))
    told = next(line for line in sums(folder) if line.startswith("reseed: "))
    assert "2 of 4 points (2 of 4 agent-kill)" in told
    assert "struck 5 times in 3 trials" in told


def test_a_sweep_is_done_where_all_its_points_are(folder: Path) -> None:
    asked = {"RECIPE": "reseed", "NEW": "1", "KIND": "ssh-sweep"}
    known, part = known_reseed(folder), wanted_slice(asked)
    ((sweep, _n, _of),) = part.trials(part.rows[0], known)
    *most, last = sweep.keys
    written(folder, "", *(outcome("ssh-cut", f"{key} (fsync /x)") for key in most))
    assert list(part.trials(part.rows[0], known))
    written(folder, "", outcome("ssh-cut", f"{last} (fsync /x)"))
    assert not list(part.trials(part.rows[0], known))


def test_the_page_says_what_did_not_pass_and_what_was_not_tried(folder: Path) -> None:
    note_keys(folder, "restore", {"agent-kill": ["h:01 a:1", "h:01 a:2"]})
    note_keys(folder, "reseed", {"agent-kill": ["h:01 a:1"]})
    written(folder, "", outcome("agent-kill", "h:01 a:1", "failed"))
    assert sums(folder) == [
        "reseed: 0 of 1 points (0 of 1 agent-kill); "
        "struck 1 times in 1 trials (1 agent-kill), **1 failed**",
        "restore: 0 of 2 points (0 of 2 agent-kill); no trial yet",
        "all rows: 0 of 3 points",
    ]


def test_the_table_estimates_by_medians(folder: Path) -> None:
    keys: dict[str, Any] = {
        "reseed": {"agent-kill": ["a", "b", "c"], "ssh-cut": ["d"], "agent-sweep": ["*:1", "*:2"]}
    }
    times = (
        outcome("agent-kill", "a", seconds=10.0),
        outcome("agent-kill", "b", seconds=10.0),
        Outcome("reseed", "agent-sweep", "reattach", "*:1", "z (fsync x)", seconds=3600.0),
        Outcome("reseed", "agent-sweep", "reattach", "*:8", "z (fsync x)", seconds=7200.0),
        Outcome("reseed", "agent-sweep", "reattach", "*:9", "z (fsync x)", seconds=7200.0),
        outcome("agent-kill", "y", "failed", seconds=1.0),
    )
    written(folder, "", *times)
    lines = list(table(keys, read_all(folder), ["reseed"]))
    assert lines[1].split() == ["reseed", "2/3", "0/0", "0/1", "0/0", "0/0", "0/0", "2/4", "4.0"]
    assert lines[-1].split()[0] == "all"
    assert lines[-1].split()[-2:] == ["2/4", "4.0"]


def test_jobs_share_the_hours() -> None:
    seconds = {"a": 10.0, "b": 60.0, "c": 30.0, "d": 25.0}
    assert divide(list("abcd"), seconds, 2) == [["b"], ["a", "c", "d"]]
    assert divide(list("abcd"), seconds, 1) == [list("abcd")]
    assert sorted(divide(["a", "b"], seconds, 5)) == [["a"], ["b"]]


def test_hours_of_what_is_not_known_yet() -> None:
    clock = Clock([outcome("agent-kill", "x", seconds=10.0).plain()])
    keys = {"a": {"agent-kill": ["1", "2"], "power-cut": ["3"]}}
    assert seconds_of(["a", "b"], keys, clock) == {"a": 30.0, "b": 3600.0}


def test_what_is_told_of_a_difference_is_where_it_lies() -> None:
    wanted = {"settled": {"/etc": {"a": (1, "x"), "b": (1, "y")}}, "fence": False}
    found = {"settled": {"/etc": {"a": (1, "x"), "c": (1, "z")}}, "fence": False}
    assert apart(wanted, found) == [
        "/settled//etc/b: (1, 'y') -> None", "/settled//etc/c: None -> (1, 'z')",
    ]  # fmt: skip
    assert apart(wanted, wanted) == []


def test_rows_have_names_of_their_own() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
