"""The whole survey of a control-plane host under a root prefix, with a real etcd and without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.host import Host
from agent.model.codec import from_plain, to_plain
from agent.model.facts import Fence, Lock, Survey
from agent.survey.take import take_survey
from tests.unit.etcd_lab import Node, Plain, etcd_binaries, make_nodes, needs_etcd, silent_port

MANIFEST = "etc/kubernetes/manifests/etcd.yaml"
STATE = "var/lib/etcd-rescue"
PROJECT = Path(__file__).parents[3]


def put(root: Path, path: str, content: str | bytes) -> Path:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content if isinstance(content, bytes) else content.encode())
    return target


def manifest(root: Path, argv: list[str]) -> str:
    """A static pod that runs `argv`, its paths those of the host whose root is `root`."""
    words = ["etcd", *(word.replace(str(root), "") for word in argv[1:])]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "etcd", "namespace": "kube-system"},
        "spec": {
            "hostNetwork": True,
            "containers": [
                {
                    "name": "etcd",
                    "image": "registry.k8s.io/etcd:3.5.16-0",
                    "command": words,
                    "volumeMounts": [
                        {"name": "data", "mountPath": "/var/lib/etcd"},
                        {"name": "pki", "mountPath": "/pki"},
                    ],
                }
            ],
            "volumes": [
                {"name": "data", "hostPath": {"path": "/var/lib/etcd"}},
                {"name": "pki", "hostPath": {"path": "/pki"}},
            ],
        },
    }
    return json.dumps(pod)  # JSON is YAML


def host_of(root: Path, binary: str) -> Node:
    """A kubeadm host with a manifest, certificates, and an etcd that is not started yet."""
    (node,) = make_nodes(root, binary, Plain())
    node.config = replace(node.config, data_dir=str(root / "var/lib/etcd"))
    (root / "var/lib").mkdir(parents=True)
    put(root, MANIFEST, manifest(root, node.argv()))
    put(root, "etc/hostname", "master-0\n")
    return node


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Node]]:
    root = tmp_path_factory.mktemp("host")
    node = host_of(root, etcd_binaries()[0])
    node.start()
    node.wait_healthy()
    with node.client() as client:
        for i in range(50):
            client.put(f"/registry/pods/{i}".encode(), b"x" * 500)
    yield root, node
    node.stop()


@pytest.fixture
def still(tmp_path: Path) -> Path:
    """A host on which nothing runs, with an empty data directory."""
    host_of(tmp_path, "/usr/bin/etcd")
    (tmp_path / "var/lib/etcd").mkdir()
    return tmp_path


def survey(root: Path) -> Survey:
    return take_survey(Host(str(root)))


@needs_etcd()
def test_a_healthy_host(live: tuple[Path, Node]) -> None:
    root, node = live
    found = survey(root)
    assert (found.hostname, found.platform, found.problems) == ("master-0", "kubeadm", ())
    assert found.config is not None
    assert found.config.data_dir == "/var/lib/etcd"
    assert found.online is not None
    assert found.online.linearizable, found.online.error
    assert found.offline is not None
    assert found.offline.wal is not None
    assert found.offline.wal.member_id == found.online.member_id
    assert found.offline.db is not None
    assert found.offline.db.revision <= found.online.revision == 51
    assert found.offline.damage == ()
    assert [c.role for c in found.certificates if not c.problems] == ["server", "peer", "ca"]
    (missing,) = (c for c in found.certificates if c.problems)
    assert missing.role == "client", "the healthcheck client that kubeadm makes is not there"
    assert set(found.ports) >= {int(u.rsplit(":", 1)[1]) for u in (node.endpoint, node.peer_url)}
    assert [p.pid for p in found.processes if node.process and p.pid == node.process.pid]
    assert found.disk is not None
    assert found.disk.data_kind == "plain"
    assert from_plain(Survey, json.loads(json.dumps(to_plain(found)))) == found


@needs_etcd()
def test_the_same_host_with_all_down(live: tuple[Path, Node]) -> None:
    """Last of the live host's tests: it stops etcd."""
    root, node = live
    before = survey(root)
    node.stop()
    tree = contents(root)
    found = survey(root)
    assert contents(root) == tree, "a survey writes nothing"
    assert found.online is not None
    assert not found.online.answers
    assert "refused" in found.online.error
    assert found.offline is not None
    assert before.offline is not None
    assert found.offline.wal is not None
    assert before.offline.wal is not None
    assert found.offline.wal.member_id == before.offline.wal.member_id
    assert found.offline.db is not None
    assert before.online is not None
    assert [m.id for m in found.offline.db.members] == [m.id for m in before.online.members]


def contents(root: Path) -> dict[str, int]:
    return {str(p): p.lstat().st_mtime_ns for p in root.rglob("*")}


def test_ports_that_accept_and_never_answer(tmp_path: Path) -> None:
    (node,) = make_nodes(tmp_path, "/usr/bin/etcd", Plain())
    with silent_port() as client, silent_port() as peer:
        node.config = replace(
            node.config,
            data_dir=str(tmp_path / "var/lib/etcd"),
            listen_client_urls=(f"https://127.0.0.1:{client}",),
            listen_peer_urls=(f"https://127.0.0.1:{peer}",),
        )
        put(tmp_path, MANIFEST, manifest(tmp_path, node.argv()))
        found = survey(tmp_path)
        assert set(found.ports) >= {client, peer}
    assert found.online is not None
    assert not found.online.answers


def test_a_parked_host_still_shows_its_data(still: Path) -> None:
    parked = still / STATE / "parked"
    parked.mkdir(parents=True)
    (still / MANIFEST).rename(parked / "etcd.yaml")
    note = {"original": f"/{MANIFEST}", "sha256": "ab", "plan": "p1"}
    put(parked, "etcd.yaml.json", json.dumps(note))
    (still / "etc/kubernetes/pki/etcd").mkdir(parents=True)
    put(still, "etc/kubernetes/pki/etcd/ca.crt", (still / "pki/etcd-ca.crt").read_bytes())
    found = survey(still)
    assert found.config is None
    assert [p.original for p in found.parked] == [f"/{MANIFEST}"]
    assert found.offline is not None
    assert found.offline.data_dir == "/var/lib/etcd"
    assert {c.role for c in found.certificates} >= {"server", "peer"}


def test_fence_and_lock_are_read(still: Path) -> None:
    fence = Fence("p1", "03", 1700000000.0, "another member is the survivor", "ops")
    lock = Lock("p1", "ops@bastion", 4, 1700000000.0)
    put(still, f"{STATE}/fence.json", json.dumps(to_plain(fence)))
    put(still, f"{STATE}/lock.json", json.dumps(to_plain(lock)))
    found = survey(still)
    assert (found.fence, found.lock) == (fence, lock)


@pytest.mark.parametrize("garbage", [b"", b"\x00\xff\xfe", b"[]", b"{", b"[" * 100000, b"{}"])
def test_garbage_anywhere_is_a_problem_and_never_an_exception(still: Path, garbage: bytes) -> None:
    for path in (
        MANIFEST, f"{STATE}/fence.json", f"{STATE}/lock.json", f"{STATE}/journal/p1.jsonl",
        f"{STATE}/parked/x.yaml", "var/lib/etcd/member/snap/db", "pki/m0-server.crt",
        "var/lib/etcd/member/wal/0000000000000000-0000000000000000.wal",
        "var/lib/kubelet/config.yaml", "var/log/pods/kube-system_etcd-m0_1/etcd/0.log",
    ):  # fmt: skip
        put(still, path, garbage)
    found = survey(still)
    assert any("fence.json" in problem for problem in found.problems)
    assert not any("internal error" in problem for problem in found.problems)
    assert found.fence is None


def test_a_directory_without_anything(tmp_path: Path) -> None:
    found = survey(tmp_path)
    assert found.platform == ""
    assert any("no known control plane" in problem for problem in found.problems)
    assert (found.config, found.online, found.certificates) == (None, None, ())


def test_a_deep_survey_says_the_same(still: Path) -> None:
    quick, deep = survey(still), take_survey(Host(str(still)), deep=True)
    same = {"duration_ms": 0, "time": 0.0, "processes": (), "binaries": (), "disk": None}
    assert replace(deep, **same) == replace(quick, **same)  # type: ignore[arg-type]


def test_memory_stays_small(still: Path) -> None:
    code = (
        "import sys; from agent.host import Host; from agent.survey.take import take_survey;"
        "take_survey(Host(sys.argv[1])); print(open('/proc/self/status').read())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(still)],
        cwd=PROJECT, capture_output=True, text=True, check=True, env=dict(os.environ),
    )  # fmt: skip
    peak = next(line for line in done.stdout.splitlines() if line.startswith("VmHWM"))
    assert int(peak.split()[1]) < 64 * 1024  # KiB
