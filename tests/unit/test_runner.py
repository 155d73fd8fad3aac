"""Whole plans of real actions on a kubeadm tree; what cannot be in a tree is said by Rooted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from agent.actions.base import places
from agent.errors import (
    PreconditionFailed,
    Refused,
    RescueError,
    StepFailed,
    Unreachable,
    UsageError,
)
from agent.host import STATE_DIR
from agent.model.plan import Plan
from agent.records.journal import Journal
from agent.runner import Runner, preview, single_step_plan
from tests.unit.rooted import DATA, MANIFEST, SWAP, Rooted, kubeadm_host, picture, plan_of


@pytest.fixture
def host(tmp_path: Path) -> Rooted:
    return kubeadm_host(tmp_path)


def runner_of(host: Rooted, plan: Plan) -> Runner:
    return Runner(host, Journal.create(host, plan), lambda text: None)


def run_all(host: Rooted, plan: Plan) -> list[str]:
    return [runner_of(host, plan).run(step.id)["outcome"] for step in plan.steps()]


def roll_back(host: Rooted, plan: Plan) -> list[str]:
    runner = runner_of(host, plan)
    return [runner.undo(step.id)["outcome"] for step in reversed(plan.steps())]


def originals(root: Path) -> dict[str, Any]:
    return picture(root, f"{DATA}/member", MANIFEST)


# ---- a whole swap --------------------------------------------------------------------------------


def test_a_swap_leaves_equal_data_and_the_original_in_quarantine(
    host: Rooted, tmp_path: Path
) -> None:
    before, plan = originals(tmp_path), plan_of(*SWAP)
    assert set(run_all(host, plan)) == {"done"}
    assert originals(tmp_path) == before  # a copy with everything kept looks the same
    quarantine = f"{STATE_DIR}/quarantine/{plan.short_id}/04-member"
    kept = picture(tmp_path, quarantine)
    original = [facts for path, facts in before.items() if path.startswith(DATA[1:])]
    assert list(kept.values()) == original
    assert os.listdir(tmp_path / MANIFEST[1:].rpartition("/")[0]) == ["etcd.yaml"]


def test_done_steps_do_nothing_when_run_again(host: Rooted, tmp_path: Path) -> None:
    plan = plan_of(*SWAP)
    run_all(host, plan)
    before = picture(tmp_path, DATA, MANIFEST, STATE_DIR)
    # The steps before it ended with etcd stopped; now that it may run, they are not asked again.
    for step in ("06", "03"):
        assert runner_of(host, plan).run(step)["outcome"] == "already"
    assert picture(tmp_path, DATA, MANIFEST, STATE_DIR) == before


def test_a_rollback_restores_everything_byte_for_byte(host: Rooted, tmp_path: Path) -> None:
    os.setxattr(tmp_path / MANIFEST[1:], "user.label", b"kept")
    before, plan = originals(tmp_path), plan_of(*SWAP[:-1])
    run_all(host, plan)
    assert roll_back(host, plan) == ["undone"] * 5
    assert originals(tmp_path) == before
    assert not (tmp_path / f"{STATE_DIR}/work/{plan.short_id}"[1:]).exists()
    assert roll_back(host, plan) == ["nothing"] * 5


def test_a_plan_rolled_back_can_be_run_again(host: Rooted, tmp_path: Path) -> None:
    before, plan = originals(tmp_path), plan_of(*SWAP[:-1])
    run_all(host, plan)
    roll_back(host, plan)
    assert set(run_all(host, plan)) == {"done"}
    roll_back(host, plan)
    assert originals(tmp_path) == before


def test_the_journal_tells_intent_and_end_of_each_step(host: Rooted) -> None:
    plan = plan_of(*SWAP[:1])
    run_all(host, plan)
    roll_back(host, plan)
    kinds = [r.kind for r in Journal.open(host, plan.id).records]
    assert kinds == ["plan", "intent", "done", "undone"]


# ---- refusals ------------------------------------------------------------------------------------


def test_a_definition_that_changed_since_is_not_parked(host: Rooted, tmp_path: Path) -> None:
    plan = plan_of(("park_definition", {"path": MANIFEST, "sha256": "0" * 64}))
    with pytest.raises(PreconditionFailed, match="not the file that was surveyed"):
        run_all(host, plan)
    assert [r.kind for r in Journal.open(host, plan.id).records] == ["plan"]


@pytest.mark.parametrize(
    "path", ["/etc/hostname", "/etc/kubernetes/manifests/../x", "/etc/kubernetes/manifests/.x"]
)
def test_nothing_but_a_definition_is_parked(host: Rooted, path: str) -> None:
    with pytest.raises(PreconditionFailed, match="not a definition in"):
        run_all(host, plan_of(("park_definition", {"path": path})))


def test_what_runs_no_etcd_is_not_parked(host: Rooted, tmp_path: Path) -> None:
    other = tmp_path / MANIFEST[1:].replace("etcd.yaml", "kube-apiserver.yaml")
    other.write_text((tmp_path / MANIFEST[1:]).read_text().replace("etcd", "kube-apiserver"))
    with pytest.raises(PreconditionFailed, match="does not run etcd"):
        run_all(host, plan_of(("park_definition", {"path": f"/{other.relative_to(tmp_path)}"})))
    assert other.exists()


def test_a_definition_that_is_a_link_is_not_moved(host: Rooted, tmp_path: Path) -> None:
    manifest = tmp_path / MANIFEST[1:]
    manifest.rename(tmp_path / "etc/etcd.yaml")
    manifest.symlink_to("../../etcd.yaml")
    for action, args in (("park_definition", {}), ("fence", {"reason": "a test"})):
        with pytest.raises(PreconditionFailed, match=r"symbolic link to /etc/etcd\.yaml"):
            run_all(host, plan_of((action, args)))
    assert manifest.read_text()


@pytest.mark.parametrize("action", ["copy_data", "relocate_data", "install_data"])
def test_data_is_not_touched_while_etcd_may_run(host: Rooted, tmp_path: Path, action: str) -> None:
    before = picture(tmp_path, "/")
    with pytest.raises(PreconditionFailed, match="its definition is in place"):
        run_all(host, plan_of((action, {})))
    (tmp_path / MANIFEST[1:]).rename(tmp_path / "etc/parked.yaml")
    for seen, running, ports in (("process", ("etcd",), ()), ("port 2380", (), (2380,))):
        busy = Rooted(host.root, running, ports)
        with pytest.raises(PreconditionFailed, match=seen):
            run_all(busy, plan_of((action, {})))
    assert picture(tmp_path, DATA) == {k: v for k, v in before.items() if k.startswith(DATA[1:])}


def test_unknown_steps_actions_and_arguments_are_usage_errors(host: Rooted) -> None:
    good = runner_of(host, plan_of(("copy_data", {})))
    with pytest.raises(UsageError, match="no step '99'"):
        good.run("99")
    with pytest.raises(UsageError, match="wrong"):
        run_all(host, plan_of(("copy_data", {"wrong": 1})))
    with pytest.raises(UsageError, match="deadline"):
        run_all(host, plan_of(("stop_etcd", {"deadline": "soon"})))


def test_an_error_of_the_system_is_a_step_that_failed(host: Rooted, tmp_path: Path) -> None:
    plan = plan_of(("park_definition", {}))
    # A directory of the name that the note beside the parked file is written under at first.
    (tmp_path / STATE_DIR[1:] / f"parked/.{plan.short_id}-01-etcd.yaml.json.rescue").mkdir(
        mode=0o700, parents=True
    )
    with pytest.raises(StepFailed, match=r"park_definition.: Is a directory: .*etcd.yaml.json"):
        run_all(host, plan)
    assert (tmp_path / MANIFEST[1:]).exists()
    journal = Journal.open(host, plan.id)
    assert [r.kind for r in journal.records] == ["plan", "intent", "failed"]


def test_what_cannot_be_read_stops_the_step_before_it_begins(host: Rooted, tmp_path: Path) -> None:
    plan = plan_of(*SWAP[:2], ("lift_fence", {}), ("copy_data", {}))
    for step in ("01", "02"):
        runner_of(host, plan).run(step)
    member = tmp_path / DATA[1:] / "member"
    member.rename(tmp_path / DATA[1:] / "elsewhere")
    member.symlink_to("member")  # a circle
    with pytest.raises(Refused):
        runner_of(host, plan).run("04")
    assert Journal.open(host, plan.id).touched_steps() == ["01", "02"]


def test_an_etcd_that_does_not_answer_is_no_broken_line(host: Rooted) -> None:
    """The coordinator takes kind "unreachable" for a lost host, and would ask for 90 seconds."""
    plan = plan_of(("member_add_learner", {"name": "m1", "peer_urls": ["https://10.0.0.2:2380"]}))
    with pytest.raises(RescueError) as caught:
        run_all(host, plan)
    assert not isinstance(caught.value, Unreachable)
    assert Journal.open(host, plan.id).touched_steps() == []


# ---- is it stopped? ------------------------------------------------------------------------------


def without_definition(host: Rooted, tmp_path: Path) -> Plan:
    (tmp_path / MANIFEST[1:]).rename(tmp_path / "etc/etcd.yaml")
    return plan_of(("stop_etcd", {"deadline": 0.3, "hold": 0.0}))


def test_a_host_whose_runtime_is_down_is_proved_stopped_by_processes_and_ports(
    host: Rooted, tmp_path: Path
) -> None:
    plan = without_definition(host, tmp_path)
    result = runner_of(host, plan).run("01")["result"]
    assert "no container runtime running to start any" in result["seen"]
    assert "no etcd process" in result["seen"]


@pytest.mark.parametrize("runtime", ["containerd", "crio", "dockerd", "cri-dockerd"])
def test_a_runtime_that_runs_and_does_not_answer_proves_nothing(
    host: Rooted, tmp_path: Path, runtime: str
) -> None:
    plan = without_definition(host, tmp_path)
    hung = Rooted(host.root, (runtime,))
    with pytest.raises(StepFailed, match="does not say whether etcd's pod is gone"):
        runner_of(hung, plan).run("01")


@pytest.mark.parametrize(
    ("running", "ports", "seen"),
    [(("etcd",), (), "process"), ((), (2379,), "2379"), ((), (2380,), "2380")],
)
def test_a_process_or_a_port_that_is_left_is_not_stopped(
    host: Rooted, tmp_path: Path, running: tuple[str, ...], ports: tuple[int, ...], seen: str
) -> None:
    plan = without_definition(host, tmp_path)
    with pytest.raises(StepFailed, match=f"last seen: .*{seen}"):
        runner_of(Rooted(host.root, running, ports), plan).run("01")


# ---- fences --------------------------------------------------------------------------------------


def fence_of(root: Path) -> dict[str, Any]:
    path = root / STATE_DIR[1:] / "fence.json"
    told: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return told


def test_a_fence_parks_proves_and_tells(host: Rooted, tmp_path: Path) -> None:
    before = originals(tmp_path)
    plan = plan_of(("fence", {"reason": "another one is rescued"}))
    assert run_all(host, plan) == ["done"]
    assert not (tmp_path / MANIFEST[1:]).exists()
    told = fence_of(tmp_path)
    assert (told["plan"], told["reason"]) == (plan.id, "another one is rescued")
    assert run_all(host, plan) == ["already"]
    roll_back(host, plan)
    assert originals(tmp_path) == before
    assert fence_of(tmp_path) == {}
    assert len(os.listdir(tmp_path / STATE_DIR[1:] / "lifted")) == 1


def test_an_earlier_fence_survives_the_rollback_of_a_later_one(
    host: Rooted, tmp_path: Path
) -> None:
    first = plan_of(("fence", {"reason": "first"}), created=1.0)
    second = plan_of(("fence", {"reason": "second"}), created=2.0)
    run_all(host, first)
    run_all(host, second)
    assert fence_of(tmp_path)["plan"] == second.id
    roll_back(host, second)
    assert fence_of(tmp_path)["plan"] == first.id
    assert not (tmp_path / MANIFEST[1:]).exists()
    roll_back(host, first)
    assert (tmp_path / MANIFEST[1:]).exists()


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000])
def test_a_tombstone_that_cannot_be_read_is_replaced(
    host: Rooted, tmp_path: Path, content: str
) -> None:
    (tmp_path / STATE_DIR[1:]).mkdir()
    (tmp_path / STATE_DIR[1:] / "fence.json").write_text(content)
    plan = plan_of(("fence", {"reason": "a test"}))
    run_all(host, plan)
    assert fence_of(tmp_path)["plan"] == plan.id


def test_a_host_with_nothing_to_park_is_fenced_too(host: Rooted, tmp_path: Path) -> None:
    (tmp_path / MANIFEST[1:]).rename(tmp_path / "etc/etcd.yaml")
    plan = plan_of(("fence", {"reason": "a test"}))
    run_all(host, plan)
    roll_back(host, plan)
    assert not (tmp_path / MANIFEST[1:]).exists()


# ---- edits ---------------------------------------------------------------------------------------

FLAG: tuple[tuple[str, dict[str, Any]], ...] = (
    ("park_definition", {}),
    ("set_force_new_cluster", {}),
    ("clear_force_new_cluster", {}),
)


def test_an_edited_definition_can_be_put_back_from_parking(host: Rooted, tmp_path: Path) -> None:
    text = (tmp_path / MANIFEST[1:]).read_text()
    plan = plan_of(*FLAG, ("unpark_definition", {}))
    assert run_all(host, plan) == ["done"] * 4
    assert (tmp_path / MANIFEST[1:]).read_text() == text


def test_a_definition_with_the_flag_is_never_put_back(host: Rooted, tmp_path: Path) -> None:
    plan = plan_of(*FLAG[:2], ("unpark_definition", {}))
    with pytest.raises(PreconditionFailed, match="contains --force-new-cluster"):
        run_all(host, plan)
    assert not (tmp_path / MANIFEST[1:]).exists()


def test_the_flag_enters_no_definition_in_place(host: Rooted) -> None:
    with pytest.raises(PreconditionFailed, match="is in place"):
        run_all(host, plan_of(FLAG[1]))


def test_edits_are_taken_back_to_the_byte_and_the_second(host: Rooted, tmp_path: Path) -> None:
    before, plan = originals(tmp_path), plan_of(*FLAG)
    run_all(host, plan)
    roll_back(host, plan)
    assert originals(tmp_path) == before


@pytest.mark.reliability("Secrets", "what a definition said before an edit is in no journal")
def test_a_definitions_environment_enters_no_journal(host: Rooted, tmp_path: Path) -> None:
    manifest = tmp_path / MANIFEST[1:]
    env = "    env:\n    - {name: A, value: s3cr3t-9f}\n    image:"
    manifest.write_text(manifest.read_text().replace("    image:", env, 1))
    before = picture(tmp_path, MANIFEST)
    edits = {"members": "m0=https://10.0.0.10:2380", "state": "existing"}
    plan = plan_of(
        ("park_definition", {}), ("set_initial_cluster", edits), ("unpark_definition", {})
    )
    run_all(host, plan)
    assert b"s3cr3t-9f" in manifest.read_bytes()
    assert b"--initial-cluster-state=existing" in manifest.read_bytes()
    roll_back(host, plan)
    assert picture(tmp_path, MANIFEST) == before
    journals = list((tmp_path / "var/lib/etcd-rescue/journal").iterdir())
    assert journals
    assert not [path for path in journals if b"s3cr3t-9f" in path.read_bytes()]


def test_somebody_elses_change_is_not_thrown_away(host: Rooted, tmp_path: Path) -> None:
    plan = plan_of(*FLAG[:2])
    runner_of(host, plan).run("01")
    journal = Journal.open(host, plan.id)
    parked = journal.undo_data("01")
    assert parked is not None
    place = tmp_path / parked["parked"][1:]
    file = {"path": parked["parked"], "sha256": parked["sha256"],
            "former": "/var/lib/etcd-rescue/former/x", "times": [0, 0]}  # fmt: skip
    journal.append("intent", "02", {"place": parked["parked"], "files": [file]})
    place.write_text(place.read_text().replace("--name=m0", "--name=mine"))
    with pytest.raises(StepFailed, match="neither as it was"):
        runner_of(host, plan).run("02")
    assert "--name=mine" in place.read_text()


# ---- by hand -------------------------------------------------------------------------------------


def test_a_preview_changes_nothing(host: Rooted, tmp_path: Path) -> None:
    before = picture(tmp_path, "/")
    preview(host, plan_of(SWAP[0]), lambda text: None)
    with pytest.raises(PreconditionFailed):
        preview(host, plan_of(SWAP[2]), lambda text: None)
    assert picture(tmp_path, "/") == before


def test_steps_by_hand_follow_each_other(host: Rooted, tmp_path: Path) -> None:
    before = originals(tmp_path)
    for action, args in SWAP:
        plan = single_step_plan(host, action, args)
        assert runner_of(host, plan).run(plan.steps()[0].id)["outcome"] == "done"
    assert originals(tmp_path) == before


def test_places_lie_on_the_datas_own_file_system(tmp_path: Path) -> None:
    class DataMount(Rooted):
        def mount_point(self, path: str) -> str:
            return DATA if f"{path}/".startswith(f"{DATA}/") else "/"

    kubeadm_host(tmp_path)
    host = DataMount(str(tmp_path))
    assert places(host, DATA, "p1").work == f"{DATA}/.etcd-rescue/work/p1"
    before, plan = originals(tmp_path), plan_of(*SWAP)
    run_all(host, plan)
    assert originals(tmp_path) == before
    assert (tmp_path / f"{DATA}/.etcd-rescue/quarantine/{plan.short_id}/04-member"[1:]).is_dir()
