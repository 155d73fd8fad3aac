"""`rescue-agent` on the host itself, as at a console without a network to the operator."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

from tests.lab.console import act, refuse, say
from tests.lab.evidence import DATA, STATE, quarantined, require_one_cluster, seed_keys, tree
from tests.lab.faults import crash_loop, ids
from tests.lab.host import Host, wait_until
from tests.lab.lab import MANIFEST, Lab
from tests.lab.operator import LOCKED, OK, USAGE, fab


def test_a_member_is_replaced_by_verbs_on_two_hosts_alone(lab: Lab) -> None:
    keys, before = seed_keys(lab), ids(lab, "master-0")
    ill, other = lab.hosts["master-1"], lab.hosts["master-0"]
    fab("survey").expect(OK)  # delivers the agent; from here on nobody logs in
    crash_loop(ill)
    manifest = ill.read(MANIFEST)
    member = ["name=master-1", "peer-urls=https://10.77.0.11:2380"]
    refuse(ill, "relocate-data", told="etcd is not stopped")
    refuse(ill, "copy-data", told="etcd is not stopped")
    refuse(ill, "set-force-new-cluster", told="in place")
    refuse(ill, "restart-kubelet", told="in place")
    act(ill, "fence", "reason=its log is damaged")
    assert not ill.path(MANIFEST).exists()
    data = tree(ill, f"{DATA}/member")
    refuse(ill, "prejoin", "sources=https://10.77.0.10:2379", told="still in place")
    dead = f"id={before['master-1']:016x}"
    refuse(other, "member-remove", dead, "name=master-2", member[1], told="not master-2")
    own = [f"id={before['master-0']:016x}", "name=master-0", "peer-urls=https://10.77.0.10:2380"]
    refuse(other, "member-remove", *own, told="the one on this host")
    refuse(other, "member-add-learner", *member, told="has the peer URL")
    act(other, "member-remove", dead, *member)
    act(ill, "relocate-data")
    act(other, "member-add-learner", *member)
    refuse(other, "member-promote", *member, told="never started")
    refuse(ill, "install-data", told="was not finished")
    act(ill, "prejoin", "sources=https://10.77.0.10:2379", "sources=https://10.77.0.12:2379")
    act(ill, "install-data")
    act(ill, "restart-kubelet")
    act(ill, "unpark-definition")
    act(ill, "wait-serving", "learner=true")
    act(other, "member-promote", *member)
    act(ill, "wait-serving")
    act(ill, "lift-fence")
    assert ill.read(MANIFEST) == manifest
    (kept,) = quarantined(ill)
    assert tree(ill, str(kept)) == data
    require_one_cluster(lab, list(lab.hosts), keys)
    now = ids(lab, "master-0")
    assert {name for name in now if now[name] != before[name]} == {"master-1"}
    rows = json.loads(say(ill, "journal").stdout)
    assert {row["state"] for row in rows} == {"complete", "rolled-back"}
    assert "nothing to do" in fab("rescue-node", "master-1", "--yes").expect(OK).err


def test_every_verb_on_one_host_is_taken_back_by_its_plan(lab: Lab) -> None:
    keys, before, host = seed_keys(lab), ids(lab, "master-0"), lab.hosts["master-1"]
    fab("survey", hosts="master-1").expect(OK)
    manifest, facts = host.read(MANIFEST), host.path(MANIFEST).stat()
    for verb in ("park-definition", "fence"):
        words = ["reason=to see"] if verb == "fence" else []
        lab.wait_healthy([host])
        running = host.etcd_pids()
        assert json.loads(say(host, verb, *words, "--dry-run").stdout)["outcome"] == "would run"
        assert host.etcd_pids() == running
        assert host.path(MANIFEST).exists()
        plan = act(host, verb, *words)["plan"]
        assert not host.path(MANIFEST).exists()
        say(host, "rollback", plan)
        assert host.read(MANIFEST) == manifest
        assert host.path(MANIFEST).stat().st_mtime_ns == facts.st_mtime_ns
    assert not host.path(f"{STATE}/fence.json").exists()
    act(host, "park-definition")
    act(host, "stop-etcd")
    data = tree(host, f"{DATA}/member")
    _edits_are_taken_back(host, manifest)
    plan = act(host, "relocate-data")["plan"]
    assert not host.path(f"{DATA}/member").exists()
    say(host, "rollback", plan)
    assert tree(host, f"{DATA}/member") == data
    moved = act(host, "relocate-data")["result"]["quarantine"]
    refuse(host, "bring-back-data", f"data-dir={DATA}", "quarantine=/root", told="no quarantined")
    plan = act(host, "bring-back-data", f"data-dir={DATA}", f"quarantine={moved}")["plan"]
    refuse(host, "bring-back-data", f"data-dir={DATA}", f"quarantine={moved}", told="no quarantine")
    assert tree(host, f"{DATA}/member") == data
    say(host, "rollback", plan)
    act(host, "bring-back-data", f"data-dir={DATA}", f"quarantine={moved}")
    _a_copy_is_seeded_and_the_data_stays(host, data)
    act(host, "unpark-definition")
    act(host, "wait-serving")
    require_one_cluster(lab, list(lab.hosts), keys)
    assert ids(lab, "master-0") == before
    assert host.read(MANIFEST) == manifest


def parked(host: Host) -> Path:
    """Where etcd's definition is parked now."""
    (found,) = [p for p in host.path(f"{STATE}/parked").iterdir() if p.suffix == ".yaml"]
    return found


def _edits_are_taken_back(host: Host, manifest: bytes) -> None:
    plan = act(host, "set-force-new-cluster")["plan"]
    assert b"--force-new-cluster" in parked(host).read_bytes()
    refuse(host, "unpark-definition", told="force-new-cluster")
    say(host, "rollback", plan)
    assert parked(host).read_bytes() == manifest
    act(host, "set-force-new-cluster")
    act(host, "clear-force-new-cluster")
    assert parked(host).read_bytes() == manifest
    members = "members=master-0=https://10.77.0.10:2380,master-1=https://10.77.0.11:2380"
    plan = act(host, "set-initial-cluster", members)["plan"]
    assert b"--initial-cluster-state=existing" in parked(host).read_bytes()
    say(host, "rollback", plan)
    assert parked(host).read_bytes() == manifest
    variable = manifest.replace(
        b"    image:",
        b"    env:\n    - name: ETCD_FORCE_NEW_CLUSTER\n      value: 'true'\n    image:",
    )
    parked(host).write_bytes(variable)
    refuse(host, "clear-force-new-cluster", told="ETCD_FORCE_NEW_CLUSTER")
    assert parked(host).read_bytes() == variable
    parked(host).write_bytes(manifest)


def _a_copy_is_seeded_and_the_data_stays(host: Host, data: dict[str, str]) -> None:
    refuse(host, "seed-cluster", told="no complete copy")
    copied = act(host, "copy-data")
    work = Path(copied["result"]["to"])
    assert tree(host, str(work)) == data
    seeded = act(host, "seed-cluster")["result"]
    assert seeded["revision"] > 1
    refuse(host, "install-data", told="there already")
    assert tree(host, f"{DATA}/member") == data
    say(host, "rollback", copied["plan"])
    assert not host.path(work).exists()


def test_words_at_the_console(lab: Lab) -> None:
    host = lab.hosts["master-0"]
    running = host.etcd_pids()
    fab("survey").expect(OK)
    survey = json.loads(say(host, "survey").stdout)
    assert survey["online"]["linearizable"]
    assert json.loads(say(host, "journal").stdout) == []
    for words in (["--help"], ["prejoin", "--help"], ["fence", "--help"], ["rollback", "--help"]):
        shown = say(host, *words).stdout
        assert max(map(len, shown.splitlines())) <= 80, shown
    assert "member-promote" in say(host, "--help").stdout
    for words, told in (
        (["frobnicate"], "frobnicate"),
        (["fence"], "reason"),
        (["fence", "nonsense"], "reason"),
        (["fence", "reason=x", "deadline=soon"], "not a number"),
        (["rollback", "fedcba"], "fedcba"),
        (["journal", "fedcba"], "fedcba"),
        (["wait-serving", "learner=perhaps"], "neither true nor false"),
    ):
        assert told in say(host, *words, code=USAGE).stderr
    assert running
    assert host.etcd_pids() == running
    assert not host.path(f"{STATE}/fence.json").exists()


def test_a_step_stopped_in_the_middle_is_taken_back_at_the_console(lab: Lab) -> None:
    """Killed while it waits for etcd to end: its plan is open, and can be rolled back."""
    host = lab.hosts["master-1"]
    fab("survey", hosts="master-1").expect(OK)
    manifest = host.read(MANIFEST)
    (agent,) = host.path(f"{STATE}/agent").glob("*.pyz")
    host.run(["systemctl", "stop", "kubelet"])  # nobody ends the pod but the verb itself, later
    argv = host.enter_command(["python3", f"{STATE}/agent/{agent.name}", "fence", "reason=x"])
    running = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_until(lambda: not host.path(MANIFEST).exists(), 30, "the definition to be parked")
    for child in Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)
    running.wait(20)
    (row,) = json.loads(say(host, "journal").stdout)
    assert row["state"] == "open"
    assert "not finished" in fab("rescue-node", "master-1", "--yes").err
    assert "holds this host" in say(host, "stop-etcd", code=LOCKED).stderr
    say(host, "rollback", row["plan"][:12])
    assert host.read(MANIFEST) == manifest
    host.run(["systemctl", "start", "kubelet"])
    lab.wait_healthy(timeout=20)
    assert json.loads(say(host, "journal").stdout)[0]["state"] == "rolled-back"
