"""Restores on real hosts: one host and the others join, all at once, and what fails is undone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.lab import control_plane
from tests.lab.evidence import (
    DATA,
    STATE,
    cluster_id,
    power_off,
    quarantined,
    require_one_cluster,
    seed_keys,
    stored,
    tree,
)
from tests.lab.host import wait_until
from tests.lab.lab import MANIFEST, Lab
from tests.lab.operator import OK, PAUSED, REFUSED, STEP_FAILED, fab, start_fab

MakeLab = Callable[..., Lab]
THREE = ("master-0", "master-1", "master-2")
LEASES = "/registry/masterleases/"
LEAST = 10**9
DAMAGED = 8


def take_snapshot(lab: Lab, folder: Path) -> str:
    """A snapshot by the real etcdctl, on the operator's machine."""
    path = folder / "s.db"
    lab.etcdctl("master-0", "snapshot", "save", str(path))
    return str(path)


def revision(lab: Lab, name: str) -> int:
    return int(lab.client(name).status()["header"]["revision"])


def contents(files: dict[str, str]) -> set[str]:
    """What lies below a directory: owner, time and hash of each file."""
    return {facts for facts in files.values() if len(facts.split()) > 2}


def ruin_data(lab: Lab) -> None:
    """No host has data that etcd could start with; all crash-loop."""
    for host in lab.hosts.values():
        host.run(["systemctl", "stop", "kubelet"])
    for host in lab.hosts.values():
        host.stop_etcd_kill9()
        for file in host.path(f"{DATA}/member").rglob("*"):
            if file.is_file():
                file.write_bytes(b"\xff" * 4096)
        host.run(["systemctl", "start", "kubelet"])


def test_one_host_and_the_others_join(lab: Lab, tmp_path: Path) -> None:
    keys = seed_keys(lab)
    stale = lab.put_keys(2, LEASES)
    manifest = stored(lab.hosts["master-0"])[0]
    backup = fab("snapshot", "master-0", "--to", str(tmp_path)).expect(OK).result["path"]
    lab.put_keys(50, "/registry/later/")
    before, cluster = revision(lab, "master-0"), cluster_id(lab, "master-0")

    refused = fab("restore", backup, "--yes").expect(REFUSED)
    assert "linearizable reads work" in refused.err
    assert "--discard-current" in refused.err
    assert revision(lab, "master-0") == before

    # No data is left that could be read, and master-0 has not even a definition any more.
    ruin_data(lab)
    old = {name: contents(tree(lab.hosts[name], f"{DATA}/member")) for name in THREE}
    lab.hosts["master-0"].path(MANIFEST).unlink()
    ended = fab("restore", backup, "--on", "master-0", "--at-least", str(before), "--yes")
    ended.expect(OK)
    assert "the snapshot names master-" in ended.err
    assert "definition is taken from the backup set" in ended.err
    assert "1 behind the highest found anywhere" in ended.err
    require_one_cluster(lab, THREE, keys)
    assert lab.get_all().keys() == keys.keys()
    assert not stale.keys() & lab.get_all().keys()
    assert revision(lab, "master-2") >= before + LEAST
    assert cluster_id(lab, "master-0") != cluster
    assert flags(stored(lab.hosts["master-0"])[0]) == flags(manifest)
    for name in THREE:
        (kept,) = quarantined(lab.hosts[name])
        assert contents(tree(lab.hosts[name], str(kept))) >= old[name]
    assert not list(lab.hosts["master-0"].path(f"{STATE}/work/incoming").rglob("*.db"))


def flags(manifest: bytes) -> set[bytes]:
    """The lines of a manifest but for those that follow the membership."""
    return {line for line in manifest.splitlines() if b"--initial-cluster" not in line}


def test_all_hosts_at_once_and_an_interruption(lab: Lab, tmp_path: Path) -> None:
    keys = seed_keys(lab)
    stale = lab.put_keys(2, LEASES)
    file = take_snapshot(lab, tmp_path)
    lab.put_keys(50, "/registry/later/")
    before, cluster = revision(lab, "master-0"), cluster_id(lab, "master-0")
    manifests = {name: stored(lab.hosts[name]) for name in THREE}

    run = start_fab("restore", file, "--all-nodes", "--discard-current", "--yes")
    run.wait_for("ok master-2: relocate data")
    run.kill()
    resumed = fab("resume").expect(OK)
    require_one_cluster(lab, THREE, keys)
    assert lab.get_all().keys() == keys.keys()
    assert not stale.keys() & lab.get_all().keys()
    assert revision(lab, "master-0") >= before + LEAST
    assert cluster_id(lab, "master-0") != cluster
    assert {name: stored(lab.hosts[name]) for name in THREE} == manifests
    assert all(len(quarantined(lab.hosts[name])) == 1 for name in THREE)
    assert resumed.result["serving"] == 3


# ---- what fails is taken back --------------------------------------------------------------------

_BAD_TOOL = """#!/bin/sh
case "$*" in
*--help*) echo --data-dir --initial-cluster-token --bump-revision --mark-compacted ;;
version) echo "etcdutl version: 3.5.30" ;;
*) mkdir -p "$(echo "$*" | sed 's/.*--data-dir=\\([^ ]*\\).*/\\1/')/member/snap"
   echo "disk on fire" >&2; exit 7 ;;
esac
"""


def test_what_fails_is_taken_back(lab: Lab, tmp_path: Path) -> None:
    host, keys = lab.hosts["master-0"], seed_keys(lab)
    file = take_snapshot(lab, tmp_path)
    pids = host.etcd_pids()
    manifest = stored(host)

    # The tool fails: nothing was stopped for it, and nothing of it stays.
    bad = tmp_path / "etcdutl"
    bad.write_text(_BAD_TOOL)
    words = (file, "--on", "master-0", "--discard-current", "--yes")
    failed = fab("restore", *words, "--tool", str(bad)).expect(STEP_FAILED)
    assert "exit code 7: disk on fire" in failed.err
    assert "every host is as it was" in failed.err
    assert host.etcd_pids() == pids
    assert not list(host.path(f"{STATE}/work").glob("*/restored*"))

    # A file with one flipped bit is refused where it lies.
    broken = tmp_path / "broken.db"
    body = bytearray(Path(file).read_bytes())
    body[len(body) // 2] ^= 4
    broken.write_bytes(body)
    refused = fab("restore", str(broken), "--discard-current", "--yes")
    assert refused.code == DAMAGED
    assert "offset" in refused.err
    assert host.etcd_pids() == pids
    require_one_cluster(lab, THREE, keys)

    # Killed while it stops the old cluster: rolled back, and that one serves again.
    run = start_fab("restore", *words)
    run.wait_for("Fence the other members")
    run.kill()
    fab("rollback", "--yes").expect(OK)
    assert stored(host) == manifest
    assert not quarantined(host)
    assert host.path(f"{DATA}/member/snap/db").exists()
    require_one_cluster(lab, THREE, keys)
    assert "no unfinished plan" in fab("resume").expect(OK).err


# ---- where the revision cannot be raised ---------------------------------------------------------


def test_an_old_etcd_restarts_the_control_plane(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab(etcd="3.4")
    keys = seed_keys(lab)
    file = take_snapshot(lab, tmp_path)
    lab.put_keys(50, "/registry/later/")
    host = lab.hosts["master-0"]
    control_plane.run_pods(host)
    wait_until(lambda: all(control_plane.starts(lab, host).values()), 20, "the pods")
    before = control_plane.starts(lab, host)
    power_off(lab, "master-1", "master-2")

    refused = fab("restore", file, "--yes").expect(REFUSED)
    assert "--lost master-1 --lost master-2" in refused.err
    lost = ("--lost", "master-1", "--lost", "master-2")
    paused = fab("restore", file, *lost, "--yes").expect(PAUSED)
    assert "no --bump-revision" in paused.err
    assert "restart the kubelets of all workers" in paused.err
    require_one_cluster(lab, ["master-0"], keys)
    assert lab.get_all().keys() == keys.keys()
    after = control_plane.starts(lab, host)
    assert all(after.values())
    assert not set(after.values()) & set(before.values())

    lab.hosts["master-1"].boot()
    fab("resume", "--drop", "master-2").expect(OK)
    require_one_cluster(lab, ("master-0", "master-1"), keys)
