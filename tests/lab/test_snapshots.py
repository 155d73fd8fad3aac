"""Backup sets from real hosts: taken in every state, brought here whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.lab.console import say
from tests.lab.evidence import STATE, cluster_id, power_off, scratch_pids, seed_keys
from tests.lab.faults import stop_kubelet_and_etcd
from tests.lab.host import Host, wait_until
from tests.lab.lab import Lab
from tests.lab.operator import OK, REFUSED, Ended, fab, start_fab

DAMAGED = 8
CANARY = "c2VjcmV0LWNhbmFyeS1vZi10aGlzLXRlc3Q="
ENCRYPTION = "/etc/kubernetes/enc/provider.yaml"
_APISERVER = f"""\
apiVersion: v1
kind: Pod
metadata:
  name: kube-apiserver
  namespace: kube-system
spec:
  hostNetwork: true
  containers:
  - name: kube-apiserver
    image: registry.k8s.io/pause:3.9
    command:
    - /pause
    - --encryption-provider-config={ENCRYPTION}
    volumeMounts:
    - mountPath: /etc/kubernetes/enc
      name: enc
  volumes:
  - name: enc
    hostPath:
      path: /etc/kubernetes/enc
"""


def require_private(directory: Path) -> None:
    """0700 and 0600, all of it, and no half-finished neighbour."""
    for path in (directory, *directory.rglob("*")):
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), f"{path}: {mode:o}"
    assert [p.name for p in directory.parent.iterdir() if p.name.startswith(".")] == []


def require_sums(directory: Path) -> None:
    subprocess.run(
        ["sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS"], cwd=directory, check=True
    )


def require_nothing_staged(host: Host) -> None:
    work = host.path(f"{STATE}/work")
    left = [p for p in work.rglob("*") if p.is_file()] if work.exists() else []
    assert left == []
    assert scratch_pids(host) == []


def taken(ended: Ended) -> tuple[Path, dict[str, Any]]:
    """(directory here, manifest) of a set that was taken."""
    result = ended.expect(OK).result
    assert CANARY not in ended.out + ended.err
    directory = Path(result["path"])
    require_private(directory)
    require_sums(directory)
    manifest: dict[str, Any] = json.loads((directory / "MANIFEST.json").read_text())
    assert manifest == result["set"]
    return directory, manifest


def restored_keys(lab: Lab, snapshot: Path, folder: Path, *words: str) -> int:
    """How many revisions etcd's own tool sees in a snapshot that it restored."""
    tool = lab.etcd_dir / "bin/etcdutl"
    subprocess.run(
        [tool, "snapshot", "restore", snapshot, "--data-dir", folder, *words],
        check=True, capture_output=True,
    )  # fmt: skip
    said = subprocess.run(
        [tool, "snapshot", "status", folder / "member/snap/db", "--write-out=json"],
        check=True, capture_output=True,
    )  # fmt: skip
    return int(json.loads(said.stdout)["revision"])


@pytest.mark.reliability(
    "Secrets",
    "A backup set of a host, keys and encryption configuration with it, is 0600 at every place, "
    "and none of its secrets is in what the tasks say or leave behind.",
)
def test_a_set_is_taken_in_every_state_of_a_cluster(lab: Lab, tmp_path: Path) -> None:
    keys, cluster = seed_keys(lab), f"{cluster_id(lab, 'master-0'):016x}"
    first = lab.hosts["master-0"]
    for host in lab.hosts.values():
        host.run(["mkdir", "-p", "/etc/kubernetes/enc"])
        host.write(ENCRYPTION, f"secret: {CANARY}\n")
        host.write("/etc/kubernetes/manifests/kube-apiserver.yaml", _APISERVER)
    lab.client(first).put("/registry/secrets/default/canary", b"k8s:enc:aescbc:v1:key1:\x00\x01")
    revision = int(lab.client(first).status()["header"]["revision"])
    os.umask(0)

    # A healthy member; the host is the task's own choice.
    directory, manifest = taken(fab("snapshot", "--to", str(tmp_path)))
    assert (manifest["kind"], manifest["quorum"], manifest["problems"]) == ("snapshot", True, [])
    assert manifest["cluster_id"] == manifest["snapshot"]["cluster_id"] == cluster
    assert manifest["snapshot"]["revision"] == revision
    assert manifest["snapshot"]["keys"] == len(keys) + 1
    assert {m["name"] for m in manifest["snapshot"]["members"]} == set(lab.hosts)
    sources = {row["source"]: row["what"] for row in manifest["files"]}
    assert sources[ENCRYPTION] == "encryption"
    assert sources["/etc/kubernetes/manifests/etcd.yaml"] == "manifest"
    assert sources["/etc/kubernetes/pki/etcd/ca.key"] == "key"
    assert CANARY in (directory / f"host{ENCRYPTION}").read_text()
    assert restored_keys(lab, directory / "snapshot.db", tmp_path / "restored") == revision
    require_nothing_staged(lab.hosts[manifest["host"]])

    rehearse_it(lab, directory, len(keys) + 1, revision)
    spoil_it(directory)

    # Without a quorum: a member that has run since before.
    power_off(lab, "master-1", "master-2")
    _path, manifest = taken(fab("snapshot", "master-0", "--to", str(tmp_path)))
    assert (manifest["kind"], manifest["quorum"]) == ("snapshot", False)
    assert manifest["snapshot"]["revision"] == revision

    # Stopped: not by the task's own choice; then a copy, which says that it is one.
    stop_kubelet_and_etcd(first)
    refused = fab("snapshot", "--to", str(tmp_path)).expect(REFUSED)
    assert "fab snapshot master-0" in refused.err
    directory, manifest = taken(fab("snapshot", "master-0", "--to", str(tmp_path)))
    assert (manifest["kind"], manifest["cluster_id"]) == ("copy", cluster)
    assert manifest["snapshot"]["keys"] == len(keys) + 1
    assert manifest["problems"] == []
    fab("verify-snapshot", str(directory), hosts="").expect(OK)
    skip = "--skip-hash-check=true"
    copied = restored_keys(lab, directory / "member/snap/db", tmp_path / "copied", skip)
    assert copied == revision
    console_verbs(first, revision)
    require_nothing_staged(first)


def rehearse_it(lab: Lab, directory: Path, keys: int, revision: int) -> None:
    """On another host than it came from; and a single file of it, out of its set."""
    found = fab("rehearse", str(directory), "--on", "master-1").expect(OK).result
    assert (found["keys"], found["revision"], found["host"]) == (keys, revision, "master-1")
    assert found["prefixes"] == {"": keys - 1, "k8s:enc:aescbc:v1:key1:": 1}
    assert found["encrypted"] == {"k8s:enc:aescbc:v1:key1:": ["secrets"]}
    assert sum(found["kinds"].values()) == keys
    require_nothing_staged(lab.hosts["master-1"])
    assert lab.is_healthy("master-1")


def spoil_it(directory: Path) -> None:
    """A set with a strange, a changed or a missing file is none."""
    strange = directory / "host/etc/kubernetes/pki/ca.crt.other"
    strange.write_bytes(b"of another set")
    assert "not of this set" in fab("verify-snapshot", str(directory), hosts="").expect(REFUSED).err
    strange.unlink()
    snapshot = directory / "snapshot.db"
    data = bytearray(snapshot.read_bytes())
    data[len(data) // 2] ^= 1
    snapshot.write_bytes(data)
    for what in (directory, snapshot):
        ended = fab("verify-snapshot", str(what), hosts="").expect(DAMAGED)
        assert re.search(r"offset \d+", ended.err)
    data[len(data) // 2] ^= 1
    snapshot.write_bytes(data)
    fab("verify-snapshot", str(snapshot), hosts="").expect(OK)


def console_verbs(host: Host, revision: int) -> None:
    """The same at the host's own console, with etcd stopped."""
    done = json.loads(say(host, "snapshot").stdout)
    kept = done["directory"]
    assert kept.startswith(f"{STATE}/backup/")
    require_private(host.path(kept))
    found = json.loads(say(host, "verify-snapshot", kept).stdout)
    assert (found["snapshot"]["revision"], found["set"]["kind"]) == (revision, "copy")
    rehearsed = json.loads(say(host, "rehearse", kept).stdout)
    assert rehearsed["revision"] == revision
    say(host, "verify-snapshot", "/etc/hostname", code=DAMAGED)


@pytest.mark.reliability(
    "Resources",
    "A transfer that is cut in the middle is gone on with; one whose coordinator is killed leaves "
    "nothing under a final name, and the next one takes away what it left.",
)
def test_a_transfer_is_cut_and_killed(lab: Lab, tmp_path: Path) -> None:
    lab.put_keys(10_000, size=12_000)
    host = lab.hosts["master-0"]
    run = start_fab("snapshot", "master-0", "--to", str(tmp_path))
    cut_when_it_flows(host, tmp_path)
    directory, manifest = taken(run.end())
    assert manifest["snapshot"]["keys"] == 10_000
    assert "going on with it" in run.err
    database = (directory / "snapshot.db").read_bytes()
    assert hashlib.sha256(database).hexdigest() == manifest["snapshot"]["sha256"]

    run = start_fab("snapshot", "master-0", "--to", str(tmp_path))
    wait_until(lambda: flowing(tmp_path) is not None, 60, "the transfer")
    run.kill()
    left = [p for p in tmp_path.iterdir() if p != directory]
    assert [p.name.endswith(".part") for p in left] == [True]
    assert not (left[0] / "snapshot.db").exists()
    again, _manifest = taken(fab("snapshot", "master-0", "--to", str(tmp_path)))
    assert sorted(tmp_path.iterdir()) == sorted([directory, again])


def flowing(folder: Path) -> Path | None:
    """The part of a database that is arriving."""
    parts = list(folder.glob(".*.part/.snapshot.db.part"))
    return parts[0] if parts and parts[0].stat().st_size > 1 << 20 else None


def cut_when_it_flows(host: Host, folder: Path) -> None:
    """End the host's side of the bulk connection once bytes arrive."""
    wait_until(lambda: flowing(folder) is not None, 60, "the transfer")
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            argv = (proc / "cmdline").read_bytes()
        except OSError:
            continue
        if argv.startswith(b"ssh") or b"/ssh\0-T" in argv:
            os.kill(int(proc.name), signal.SIGKILL)
