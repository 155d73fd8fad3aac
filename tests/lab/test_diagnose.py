"""`fab survey` and `fab diagnose` on real hosts: what they say, in which words, about whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.lab.commands import CommandFailed
from tests.lab.evidence import seed_keys, tree
from tests.lab.faults import (
    DATA,
    crash_loop,
    rescue,
    stop_kubelet_and_etcd,
    verdict,
    wait_for_diagnosis,
)
from tests.lab.host import wait_until
from tests.lab.lab import Lab
from tests.lab.operator import OK, UNREACHABLE, fab

MakeLab = Callable[..., Lab]


def surveys(hosts: str = "master-0") -> dict[str, dict[str, Any]]:
    """Host -> observation, by `fab survey`."""
    return {o["host"]: o for o in fab("survey", hosts=hosts).expect(OK).result}


def test_files_and_running_etcd_tell_the_same(lab: Lab) -> None:
    keys = seed_keys(lab)
    seen = surveys()
    assert set(seen) == set(lab.hosts)
    for name, observation in seen.items():
        survey = observation["survey"]
        online, wal, db = survey["online"], survey["offline"]["wal"], survey["offline"]["db"]
        assert online["member_id"] == wal["member_id"]
        assert online["cluster_id"] == wal["cluster_id"]
        assert online["members"] == db["members"]
        assert wal["last_index"] >= online["applied_index"]
        assert wal["last_term"] <= online["raft_term"]
        assert not survey["offline"]["damage"]
        assert survey["problems"] == []
        assert survey["duration_ms"] > 0
        real = lab.client(name).status()
        assert online["revision"] == int(real["header"]["revision"]) == 1 + len(keys) // 100 + 1
        assert f"{int(real['header']['member_id']):016x}" == online["member_id"]
    # etcd writes its database every 100 ms; at rest the file is where the process is.
    db = surveys()["master-1"]["survey"]["offline"]["db"]
    assert db["revision"] == seen["master-1"]["survey"]["online"]["revision"]


def test_with_all_down_a_survey_still_tells_what_is_on_the_disk(lab: Lab) -> None:
    seed_keys(lab)
    before = surveys("master-1")["master-1"]["survey"]
    for host in lab.hosts.values():
        stop_kubelet_and_etcd(host)
        host.run(["systemctl", "stop", "containerd"])
    data = {name: tree(host, DATA) for name, host in lab.hosts.items()}
    seen = surveys("master-0,master-1,master-2")
    for name, observation in seen.items():
        survey = observation["survey"]
        assert survey["duration_ms"] > 0, name
        assert not survey["online"]["answers"]
        assert not survey["runtime"]["answers"]
        assert survey["processes"] == []
        assert survey["offline"]["wal"]["damage"] is None
    after = seen["master-1"]["survey"]["offline"]
    assert after["wal"]["member_id"] == before["online"]["member_id"]
    assert after["db"]["members"] == before["offline"]["db"]["members"]
    found = fab("diagnose").expect(OK).result  # one host is enough: its data names the others
    assert found["state"] == "quorum-lost"
    assert {m["host"]: m["state"] for m in found["members"]} == dict.fromkeys(lab.hosts, "stopped")
    assert found["recipe"] == ""
    assert "systemctl start kubelet" in found["refusals"][0]["next"]
    assert {name: tree(host, DATA) for name, host in lab.hosts.items()} == data


def test_a_healthy_cluster_is_told_plainly(lab: Lab) -> None:
    # Members that once could not reach a peer still have that in their logs.
    lab.hosts["master-2"].stop_etcd_kill9()
    wait_until(lambda: lab.is_healthy("master-2"), 20, "master-2")
    shown = fab("diagnose", output="table").expect(OK).out
    assert "what stops it" not in shown
    assert "Cluster healthy" in shown
    told = fab("diagnose").expect(OK).result
    assert [m["notes"] for m in told["members"]] == [[], [], []]
    assert (told["recipe"], told["losses"], told["consent"]) == ("", [], [])


def test_a_host_that_cannot_be_reached_has_its_reason_in_one_line(lab: Lab) -> None:
    lab.hosts["master-2"].power_cut()
    lab.wait_healthy(["master-0", "master-1"])  # it may have led
    told = fab("diagnose").expect(OK).result
    gone = verdict(told, "master-2")
    assert gone["state"] == "unreachable"
    assert "\n" not in gone["why"]
    assert "next:" not in gone["why"]
    assert "2379 and 2380 closed from master-0" in gone["why"]
    refused = [r for r in told["refusals"] if "master-2" in r["seen"]]
    assert len(refused) == 1
    assert "fab remove-member master-2" in refused[0]["next"]
    assert "unreachable" in fab("survey", output="table").expect(OK).out
    assert fab("diagnose", hosts="master-2").code == UNREACHABLE
    assert fab("survey", hosts="master-2").result[0]["survey"] is None


def test_an_ill_member_is_told_with_its_place_of_damage_and_the_host_in_the_remedy(
    lab: Lab,
) -> None:
    crash_loop(lab.hosts["master-1"])
    told = wait_for_diagnosis(lambda d: d["serving"] == 2, "two to serve")
    ill = verdict(told, "master-1")
    assert ill["state"] == "corrupt"
    assert "0000000000000000-0000000000000000.wal is damaged at offset" in ill["why"]
    assert (told["recipe"], told["target"]) == ("replace-member", "master-1")
    shown = fab("diagnose", output="table").expect(OK).out
    assert "HOST:" not in shown
    assert "Fits: replace-member master-1" in shown
    plan = rescue("master-1", "master-0", "--dry-run").expect(OK).result
    assert plan["recipe"] == "replace-member"
    assert sorted(plan["promise"]["voters"]) == sorted(lab.hosts)
    assert fab("journal").expect(OK).result == []


def test_seven_hosts_are_found_and_surveyed_in_one_go(make_lab: MakeLab) -> None:
    lab = make_lab(hosts=7)
    seen = surveys()
    assert set(seen) == set(lab.hosts)
    assert all(o["survey"]["online"]["answers"] for o in seen.values())
    told = wait_for_diagnosis(lambda d: d["serving"] == 7, "all to serve")
    assert (told["state"], told["voters"], told["quorum"]) == ("healthy", 7, 4)


def test_an_agent_stays_small(lab: Lab) -> None:
    """The peak of the whole agent process over a survey, as the kernel counts it."""
    fab("survey").expect(OK)
    host = lab.hosts["master-0"]
    (agent,) = [p.name for p in host.path("/var/lib/etcd-rescue/agent").glob("*.pyz")]
    run = (
        "import resource, subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]], "
        "stdout=subprocess.DEVNULL, check=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    path = f"/var/lib/etcd-rescue/agent/{agent}"
    try:
        peak = int(host.run(["python3", "-c", run, path, "survey"]).stdout)
    except CommandFailed as error:
        pytest.fail(str(error))
    assert peak < 150_000  # KiB
