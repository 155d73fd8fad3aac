"""Real small files to begin with: what an etcd, a journal, a tar and a person would write."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import socket
import subprocess
import tarfile
import tempfile
import urllib.request
from base64 import b64encode
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agent.etcd.grpc import frame, opening
from agent.host import Host
from agent.model.codec import canonical
from agent.model.facts import Lock, Survey
from agent.model.plan import plan_to_plain
from agent.records.carried import pack
from agent.records.journal import JOURNAL_DIR, Journal, read_journals
from agent.snapshot.backup_set import BackupSet, SetFile, manifest_bytes
from agent.snapshot.grpc_stream import SNAPSHOT
from agent.survey.bbolt import Database
from tests.fuzz.inventory_samples import INVENTORIES
from tests.fuzz.openshift311_samples import OPENSHIFT311_FILES
from tests.unit.etcd_lab import Node, Pki, Plain, etcd_binaries, running
from tests.unit.rooted import SWAP, plan_of
from tests.unit.survey.make_bbolt import DbMaker
from tests.unit.survey.make_wal import WalMaker
from tests.unit.survey.manifests import with_flags

FOLDER = Path(__file__).parents[2] / "build/fuzz/corpus"
_KEPT_ZEROS = 1024
Corpus = dict[str, list[bytes]]


def corpus() -> Corpus:
    """Kind of file → samples; those of a real etcd are made once and kept in build/fuzz/corpus."""
    found = _written_here()
    for binary in etcd_binaries()[:2]:
        for kind, samples in _of_etcd(binary).items():
            found.setdefault(kind, []).extend(samples)
    return found


def _of_etcd(binary: str) -> Corpus:
    recipe = binary.encode() + Path(__file__).read_bytes()
    kept = FOLDER / hashlib.sha256(recipe).hexdigest()[:12]
    if not kept.is_dir():
        with tempfile.TemporaryDirectory() as work:
            made = _run_etcd(Path(work), binary)
        unfinished = kept.with_suffix(".new")
        for kind, samples in made.items():
            (unfinished / kind).mkdir(parents=True, exist_ok=True)
            for number, data in enumerate(samples):
                (unfinished / kind / str(number)).write_bytes(data)
        unfinished.rename(kept)
    return {
        kind.name: [path.read_bytes() for path in sorted(kind.iterdir())]
        for kind in sorted(kept.iterdir())
    }


# ---- made by etcd --------------------------------------------------------------------------------


def _run_etcd(work: Path, binary: str) -> Corpus:
    """A little life: keys, changes, deletions, a compaction, raft snapshots, an alarm."""
    wish = Plain(tls=False, extra=("--snapshot-count=20",))
    answers: list[bytes] = []
    with running(work, binary, wish) as (node,):
        for number in range(50):
            _post(node, "kv/put", _pair(f"/registry/pods/p{number % 17}", f"value {number}" * 9))
        _post(node, "kv/deleterange", {"key": _text("/registry/pods/p3")})
        _post(node, "kv/compaction", {"revision": "20"})
        _post(node, "lease/grant", {"TTL": "600"})
        answers += [
            _post(node, "maintenance/status", {}),
            _post(node, "cluster/member/list", {}),
            _post(node, "kv/range", {"key": _text("/"), "range_end": _text("0"), "limit": "3"}),
            _post(node, "maintenance/hash", {}),
            _post(node, "maintenance/alarm", {"action": "ACTIVATE", "alarm": "NOSPACE"}),
            _post(node, "maintenance/status", {}),
        ]
        saved = _snapshot(node, work / "saved.db")
        stream = _stream(node)
        data_dir = Path(node.config.data_dir)
    wal = [_cut(path.read_bytes()) for path in sorted((data_dir / "member/wal").glob("*.wal"))]
    return {
        "wal": wal,
        "db": [_pages(data_dir / "member/snap/db")],
        "snap": [path.read_bytes() for path in sorted((data_dir / "member/snap").glob("*.snap"))],
        "snapshot": [saved],
        "answer": answers,
        "log": [Path(f"{data_dir}.log").read_bytes()[-8000:]],
        "stream": [stream],
    }


def _post(node: Node, path: str, body: dict[str, Any]) -> bytes:
    request = urllib.request.Request(f"{node.endpoint}/v3/{path}", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=10) as reply:
        data: bytes = reply.read()
    return data


def _text(value: str) -> str:
    return b64encode(value.encode()).decode()


def _pair(key: str, value: str) -> dict[str, str]:
    return {"key": _text(key), "value": _text(value)}


def _snapshot(node: Node, path: Path) -> bytes:
    etcdctl = str(Path(node.binary).with_name("etcdctl"))
    argv = [etcdctl, f"--endpoints={node.endpoint}", "snapshot", "save", str(path)]
    subprocess.run(argv, check=True, capture_output=True, env={"ETCDCTL_API": "3"})
    return path.read_bytes()


def _pages(db: Path) -> bytes:
    """The pages in use; etcd 3.4 makes the file 16 MiB long at once."""
    with Database(Host("/"), str(db)) as found:
        return db.read_bytes()[: found.meta.high_water * found.meta.page_size]


def _stream(node: Node) -> bytes:
    """All that a member says to a call of Maintenance.Snapshot, and then no more for a while."""
    parts, said = urlsplit(node.endpoint), b""
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), 10) as line:
        line.sendall(opening("http", parts.netloc, SNAPSHOT, b""))
        with contextlib.suppress(TimeoutError):
            while b"grpc-status" not in said[-200:]:
                line.settimeout(2)
                said += line.recv(65536)
    return said


def _cut(segment: bytes) -> bytes:
    """A segment without most of its preallocated zeros."""
    return segment.rstrip(b"\0") + bytes(_KEPT_ZEROS)


# ---- made here -----------------------------------------------------------------------------------


def _written_here() -> Corpus:
    maker = WalMaker()
    for index in range(1, 9):
        maker.entry(2, index)
    members = {b"8e9e05c52164694d": b'{"id":10276657743932975437,"name":"m0"}'}
    db = DbMaker().file({b"meta": {b"consistent_index": bytes(7) + b"\x09"}, b"members": members})
    plan = plan_of(*SWAP)
    return {
        "wal": [bytes(maker.data) + bytes(64)],
        "db": [db],
        "manifest": [with_flags().encode(), with_flags("--force-new-cluster").encode()],
        "plan": [canonical(plan_to_plain(plan))],
        "journal": [_journal()],
        "carried": [_carried()],
        "lock": [canonical(Lock(plan.id, "ann@ops", 3, 1.5))],
        "tar": _archives(),
        "cluster": [_CLUSTER],
        "environment": [_ENVIRONMENT],
        "unit": [_UNIT],
        "script": [_SCRIPT],
        "command": [b"\0".join(word.encode() for word in _COMMAND)],
        "known_hosts": [_KNOWN_HOSTS],
        "session": [_SESSION],
        "containers": [_CONTAINERS],
        "certificate": _certificates(),
        "log": [_LOG],
        "config": [_CONFIG],
        "set": [_SET],
        "stream": [_STREAM],
        "snap": [],
        **INVENTORIES,
        **OPENSHIFT311_FILES,
        "snapshot": [db + hashlib.sha256(db).digest()],
        "answer": [b'{"header":{"cluster_id":"1","member_id":"2"},"version":"3.5.9"}'],
    }


def _journal() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        host = Host(folder)
        plan = plan_of(*SWAP)
        journal = Journal.create(host, plan)
        for step in plan.steps()[:3]:
            journal.append("intent", step.id, {"path": "/etc/kubernetes/manifests/etcd.yaml"})
            journal.append("done", step.id, {"left": "nothing"})
        return (Path(folder) / JOURNAL_DIR[1:] / f"{plan.id}.jsonl").read_bytes()


def _carried() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        host = Host(folder)
        plan = plan_of(*SWAP)
        journal = Journal.create(host, plan)
        journal.append("intent", plan.steps()[0].id)
        survey = Survey(1, "0", "m0", "a" * 32, "b" * 36, 1.5, "kubeadm", ("10.0.0.1",), 9,
                        journals=read_journals(host))  # fmt: skip
        return pack(host, survey)


def _archives() -> list[bytes]:
    found = []
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as archive:
            for name, content in (("manifest.json", b"{}"), ("d/" + "x" * 120, b"1" * 700)):
                info = tarfile.TarInfo(name)
                info.size, info.mtime = len(content), 1_700_000_000
                archive.addfile(info, io.BytesIO(content))
        found += [out.getvalue()[:6144], gzip.compress(out.getvalue(), mtime=0)]
    return found


def _certificates() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        pki = Pki(Path(folder))
        issued = pki.issue("server", ("127.0.0.1", "master-0", "*.example.org"))
        return [Path(issued.cert).read_bytes(), Path(pki.ca_path).read_bytes()]


_CLUSTER = b"""\
cluster: production
ssh: {user: core, port: 22, jump: ann@bastion:22, connect_timeout: 3}
hosts:
  - master-0
  - name: master-1
    address: 192.0.2.11
    user: root
    port: 2222
"""
_ENVIRONMENT = b"""\
# [member]
ETCD_NAME=m0
ETCD_DATA_DIR="/var/lib/etcd"
ETCD_LISTEN_PEER_URLS='https://192.0.2.10:2380'
ETCD_INITIAL_CLUSTER="m0=https://192.0.2.10:2380,\\
m1=https://192.0.2.11:2380"
"""
_UNIT = b"""\
[Unit]
Description=etcd
[Service]
Environment="ETCD_NAME=m0" ETCD_DATA_DIR=/var/lib/etcd
EnvironmentFile=-/etc/etcd/etcd.conf
ExecStart=/usr/bin/etcd --name=%H \\
  --data-dir "/var/lib/etcd" ${MORE}
"""
_COMMAND = (
    "--name=m0", "--data-dir", "/var/lib/etcd", "--initial-cluster=m0=https://192.0.2.10:2380",
    "--listen-peer-urls=https://[::1]:2380", "--force-new-cluster=true",
)  # fmt: skip
_KNOWN_HOSTS = b"""\
master-0,192.0.2.10 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJUlsQf1VsGZR0Wm0CTnWkMGTrL6QYgmXz
@revoked * ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7
|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= ssh-ed25519 AAAAC3NzaC1lZDI1
[bastion]:2222,!other ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==
"""
_SESSION = b"""\
Authorized users only.
{"hello": {"format": 1, "version": "0.1", "hostname": "m0", "pid": 7}}
{"id": 1, "progress": "waiting"}
{"id": 1, "ok": {"a": [1, 2.5, null, true, "x"]}}
{"id": 1, "error": {"kind": "refused", "seen": "a", "why": "b", "next": "c"}}
"""
_CONTAINERS = b"""\
{"containers": [{"id": "0a1b", "podSandboxId": "2c3d", "state": "CONTAINER_RUNNING",
"metadata": {"name": "etcd", "attempt": 3}, "createdAt": "1714557600123456789",
"labels": {"io.kubernetes.container.name": "etcd", "io.kubernetes.pod.name": "etcd-m0",
"io.kubernetes.pod.namespace": "kube-system", "io.kubernetes.pod.uid": "9f"}}]}
"""
_CONFIG = b"""\
# etcd.conf.yml
name: m0
data-dir: /var/lib/etcd
listen-peer-urls: https://192.0.2.10:2380,https://127.0.0.1:2380
initial-cluster: m0=https://192.0.2.10:2380
initial-cluster-state: 'existing'
force-new-cluster: false
quota-backend-bytes: 8589934592
peer-transport-security:
  cert-file: /etc/etcd/peer.crt
  client-cert-auth: true
log-outputs: [stderr, /var/log/etcd.log]
"""
_SET = manifest_bytes(
    BackupSet(
        format=1, name="m0-1", kind="snapshot", cluster_id="1" * 16, host="m0", machine_id="m",
        member="m0", member_id="2" * 16, time=1_700_000_000.0, created="2023-11-14T22:13:20Z",
        tool="0.1", platform="kubeadm", etcd_version="3.5.9", quorum=True,
        files=(SetFile("snapshot.db", 20512, "a" * 64, "snapshot"),
               SetFile("host/etc/ca.crt", 3, "b" * 64, "certificate", "/etc/ca.crt")),
    )
)  # fmt: skip
_STREAM = b"".join(
    frame(kind, flags, stream, payload)
    for kind, flags, stream, payload in (
        (4, 0, 0, b""), (1, 4, 1, b"\x88"), (0, 0, 1, b"\0\0\0\0\x07\x10\x00\x1a\x03abc"),
        (6, 0, 0, b"12345678"), (1, 5, 1, b"\x00\x0bgrpc-status\x010"),
    )
)  # fmt: skip
_LOG = b"""\
{"level":"fatal","ts":"2024-05-01T10:00:00.1Z","caller":"x.go:1","msg":"discovery failed"}
2024-05-01T10:00:00.123456789Z stderr F {"level":"warn","ts":1714557600.1,"msg":"slow fdatasync"}
2021-01-01 10:00:00.000000 C | etcdserver: publish error: etcdserver: request timed out
panic: runtime error: slice bounds out of range
"""

_SCRIPT = b"""\
#!/bin/sh
set -euo pipefail
# it's a comment
ETCD_INITIAL_CLUSTER=$(discover-etcd-initial-cluster \\
  --endpoints="${ALL_ETCD_ENDPOINTS}" --target-name=a)
export ETCD_INITIAL_CLUSTER
time while [ -n "$(ss -Htan '( sport = 2379 )')" ]; do
  echo -n '.'
done
export ETCD_NAME=${NODE_a_ETCD_NAME}
exec nice -n -19 ionice -c2 -n0 etcd \\
  --initial-advertise-peer-urls=https://${NODE_a_IP}:2380 \\
  --logger=zap ||  mv /a/etcd-member.yaml /b
"""
