"""Rescues by debug pods alone: no SSH, no Python of the host's; and pods that die in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.lab.evidence import (
    STATE,
    power_off,
    require_no_flag,
    require_one_cluster,
    require_tidy_manifests,
    scratch_pids,
    seed_keys,
)
from tests.lab.host import wait_until
from tests.lab.lab import Lab
from tests.lab.operator import OK, PAUSED, REFUSED, UNREACHABLE, fab, start_fab
from tests.lab.reach import debug_pods, pods

THREE = ("master-0", "master-1", "master-2")
VIA = ("--via", "oc-debug")
LOST = ("--lost", "master-1", "--lost", "master-2")


@pytest.fixture
def nodes(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A healthy cluster that can be got at by oc alone."""
    pods.prepare(lab)
    monkeypatch.setenv("PATH", pods.path_with("oc"))
    return lab


def test_by_hand_and_one_member_after_the_other(
    nodes: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = seed_keys(nodes)
    survey_by_hand()
    said = fab("survey", *VIA, hosts="master-7").expect(REFUSED).err
    assert "there is no node of that name" in said
    said = fab("survey", *VIA, "--image", "localhost/none:1").expect(UNREACHABLE).err
    assert "the image localhost/none:1 cannot be had there" in said

    nodes.hosts["master-1"].crash_etcd()
    run = start_fab("rescue-node", "master-1", "--yes", *VIA)
    run.wait_for("ok master-1: fence")
    assert run.kill().code == -9
    wait_until(lambda: not debug_pods.pods_on(), 60, "the pods to end by themselves")
    fab("resume", *VIA).expect(OK)
    require_one_cluster(nodes, THREE, keys)

    monkeypatch.setenv("PATH", pods.path_with("kubectl"))
    nodes.hosts["master-2"].crash_etcd()
    fab("rescue-node", "master-2", "--yes", *VIA).expect(OK)
    require_one_cluster(nodes, THREE, keys)
    require_tidy_manifests(nodes, THREE)
    fab("snapshot", "master-2", "--to", str(tmp_path), *VIA).expect(OK)
    (taken,) = tmp_path.iterdir()
    fab("verify-snapshot", str(taken), hosts="").expect(OK)

    nodes.hosts["master-2"].power_cut()
    said = fab("survey", *VIA, hosts="master-2").expect(UNREACHABLE).err
    assert "the node is not ready" in said
    require_no_pods(nodes)


def survey_by_hand() -> None:
    """What docs/debug-pod.md tells to type."""
    words = ["oc", "debug", "node/master-0", f"--image={pods.image().reference}", "--"]
    done = subprocess.run(
        [*words, "rescue-agent", "survey"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    survey = json.loads(done.stdout)
    assert survey["hostname"] == "master-0"
    assert survey["online"]["linearizable"] is True
    assert survey["processes"]


def test_a_lost_quorum_while_pods_die(nodes: Lab) -> None:
    keys, host = seed_keys(nodes), nodes.hosts["master-0"]
    power_off(nodes, "master-1", "master-2")
    run = start_fab("rescue-quorum", "--yes", *LOST, *VIA)
    run.wait_for("ok master-0: park definition")
    delete_pods(nodes, "master-0")  # fab makes another one, and goes on
    run.wait_for("ok master-0: copy data")
    wait_until(lambda: bool(scratch_pids(host)) or "ok master-0: seed" in run.err, 30, "a seed")
    os.killpg(run.process_id, signal.SIGSTOP)  # it makes no other one
    delete_pods(nodes, "master-0")
    assert run.kill().code == -9
    wait_until(lambda: not scratch_pids(host), 30, "the end of the scratch etcd")
    require_no_pods(nodes)
    (journal,) = host.path(f"{STATE}/journal").glob("*.jsonl")
    assert b'"copy_data"' in journal.read_bytes()

    ended = fab("resume", *VIA).expect(PAUSED)
    assert ended.result["put_off"] == ["master-1", "master-2"]
    require_no_flag(host)
    require_one_cluster(nodes, ["master-0"], keys)

    for name in THREE[1:]:
        nodes.hosts[name].boot()
    done = fab("resume", *VIA).expect(OK)
    assert (done.result["serving"], done.result["put_off"]) == (3, [])
    require_one_cluster(nodes, THREE, keys)
    require_tidy_manifests(nodes, THREE)
    require_no_pods(nodes)
    require_silent_logs(nodes)


def delete_pods(lab: Lab, node: str) -> None:
    """Take the pods of a node away at once, as `oc delete pod --now --force` would."""
    found = debug_pods.pods_on(node)
    assert found
    for pod in found:
        debug_pods.delete(lab.hosts, pod)


def require_no_pods(lab: Lab) -> None:
    """Nothing of a pod, and of what ran in it, is left."""
    assert debug_pods.pods_on() == []
    for name, host in lab.hosts.items():
        if host.is_up:
            assert not pods.agents(lab, name)
            assert not scratch_pids(host)


def require_silent_logs(lab: Lab) -> None:
    """What a pod says is kept on its node, for all who may read logs: it says nothing."""
    every = [h.path("/var/log/pods").glob("*-debug*/*/*.log") for h in lab.hosts.values()]
    paths = [path for found in every for path in found]
    assert paths
    for path in paths:
        said = [line.split(maxsplit=3)[3] for line in path.read_text().splitlines()]
        assert said[:1] in ([], ["etcd-rescue: ready; this pod ends by itself"])
        assert set(said[1:]) <= {"etcd-rescue: at work"}
