"""The survey on real hosts: what it sees in each state of a cluster; it waits for nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from agent.model.codec import from_plain
from agent.model.facts import Survey
from tests.lab.host import Host, wait_until
from tests.lab.lab import MANIFEST, Lab

PROJECT = Path(__file__).parents[2]
HANGS = 5000
"""ms. A survey takes a tenth of this (make bench); one that takes longer waited for something."""

_CODE = """
import json, sys
from agent.host import Host
from agent.model.codec import to_plain
from agent.survey.take import take_survey
print(json.dumps(to_plain(take_survey(Host(sys.argv[1]), deep=sys.argv[2] == "deep"))))
"""


def survey(host: Host, deep: bool = False) -> Survey:
    """Look at a host as from a debug pod: its root under a prefix, in its network and its /proc.

    deep: with the patient deadlines that a second look has, on a machine that is busy.
    """
    leader = host.leader
    assert leader is not None
    command = ["nsenter", f"--target={leader}", "--net", "--", sys.executable, "-c", _CODE]
    done = subprocess.run(
        [*command, f"/proc/{leader}/root", "deep" if deep else "quick"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    return from_plain(Survey, json.loads(done.stdout))


def test_a_healthy_host_is_surveyed_without_waiting(lab: Lab) -> None:
    found = survey(lab.hosts["master-0"], deep=True)
    assert found.problems == ()
    assert found.duration_ms < HANGS
    assert (found.hostname, found.platform) == ("master-0", "kubeadm")
    assert found.config is not None
    assert found.online is not None
    assert found.online.linearizable, found.online.error
    assert {m.name for m in found.online.members} == set(lab.hosts)
    assert found.offline is not None
    assert found.offline.wal is not None
    assert found.offline.wal.member_id == found.online.member_id
    assert found.runtime is not None
    assert [c.state for c in found.runtime.containers][:1] == ["running"]
    assert found.runtime.sandboxes_ready == 1
    assert found.kubelet is not None
    assert found.kubelet.active == "active"
    assert set(found.ports) >= {2379, 2380}
    assert not any(c.problems for c in found.certificates)
    assert {b.kind for b in found.binaries} >= {"image"}
    assert found.online.error == ""


def test_with_everything_down_it_still_takes_less_than_a_second(lab: Lab) -> None:
    host = lab.hosts["master-1"]
    before = survey(host, deep=True)
    host.run(["systemctl", "stop", "kubelet"])
    host.stop_etcd_kill9()
    host.run(["systemctl", "stop", "containerd"])
    wait_until(lambda: not host.etcd_pids(), 10, "etcd's end")
    found = survey(host)
    assert found.duration_ms < HANGS
    assert found.online is not None
    assert not found.online.answers
    assert found.runtime is not None
    assert not found.runtime.answers
    assert found.kubelet is not None
    assert found.kubelet.active in ("inactive", "failed")
    assert found.ports == ()
    assert found.offline is not None
    assert before.offline is not None
    assert found.offline.wal is not None
    assert before.offline.wal is not None
    assert found.offline.wal.member_id == before.offline.wal.member_id
    assert found.offline.damage == ()


def test_the_survivor_of_a_lost_quorum_answers_all_but_the_quorum(lab: Lab) -> None:
    for name in ("master-1", "master-2"):
        lab.hosts[name].power_cut()
    host = lab.hosts["master-0"]

    seen: list[Survey] = []

    def has_lost() -> bool:
        seen.append(survey(host))
        online = seen[-1].online
        is_alone = online is not None and not online.linearizable and not online.leader_id
        return is_alone and online is not None and online.answers

    wait_until(has_lost, 30, "the loss to be seen")
    assert seen[-1].duration_ms < HANGS
    assert seen[-1].online is not None
    assert len(seen[-1].online.members) == 3
    host.stop_etcd_kill9()
    wait_until(lambda: bool(host.etcd_pids()), 30, "the kubelet to start etcd again")
    again = survey(host)
    assert again.duration_ms < HANGS
    assert again.online is not None
    assert not again.online.linearizable


def test_a_host_whose_definition_is_out_of_place(lab: Lab) -> None:
    host = lab.hosts["master-2"]
    host.path(MANIFEST).rename(host.path("/root/etcd.yaml"))
    wait_until(lambda: not host.etcd_pids(), 15, "etcd's end")
    found = survey(host)
    assert found.config is None
    assert found.offline is not None
    assert found.offline.has_data
    assert found.ports == ()
