"""The table of causes against messages of every etcd series, the kubelet and the runtime."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.survey.cause_table import KINDS, ROWS
from agent.survey.causes import find_causes
from agent.survey.loglines import LogLine, join_cri, normalise

FIXTURES = Path(__file__).parents[3].parent / "shared" / "fixtures" / "etcd-logs"

EXPECTED = {
    "01-v31-text-peer-down.log": ["peer-unreachable"],
    "02-v34-snapshot-missing-panic.log": ["snapshot-db-missing"],
    "04-v34-datadir-permissions.log": ["permission-denied", "data-dir-mode"],
    "06-v33-bind-public-ip.log": ["address-not-here"],
    "07-journald-cjk-date-cluster-id-mismatch.log": ["cluster-id-mismatch", "cert-refused"],
    "09-rke-cluster-mismatch.log": ["cluster-id-mismatch"],
    "11-clock-drift-json.log": ["clock-drift"],
    "12-v35-wal-crc-compose-prefix.log": ["wal-crc"],
    "14-v35-grpc-warning-mixed.log": ["cert-wrong-usage", "cert-refused"],
    "16-v21-nspawn-bootlog.log": [],
    "17-rke-panic-then-restart-mixed-ts.log": [],
    "19-v35-removal-unknown-peer-panic.log": ["known-bug-removal"],
    "21-v36-peer-unreachable.log": ["peer-unreachable"],
    "22-v37-version-mismatch.log": ["version-mixed", "peer-unreachable"],
    "24-v350-confchange-panic-full.log": ["known-bug-tx-closed", "db-locked"],
    "26-upgrade-demo-log.log": [],
    "27-v22-member-removed.log": ["removed", "peer-unreachable"],
    "28-v33-member-removed.log": ["removed", "peer-unreachable"],
    "30-cri-format-quorum-lost.log": ["no-quorum"],
    "32-systemctl-status-ellipsized.log": ["no-quorum"],
    "33-peer-cert-wrong-san.log": ["cert-wrong-name"],
    "35-expired-or-clock-behind.log": ["cert-not-yet-valid"],
}


@pytest.mark.skipif(not FIXTURES.exists(), reason="no fixtures here")
def test_every_log_of_the_field_is_expected() -> None:
    assert {path.name for path in FIXTURES.iterdir()} == set(EXPECTED)


@pytest.mark.skipif(not FIXTURES.exists(), reason="no fixtures here")
@pytest.mark.parametrize("name", EXPECTED)
def test_logs_of_the_field(name: str) -> None:
    text = (FIXTURES / name).read_bytes().decode()
    lines = [normalise(raw) for raw in join_cri(text.split("\n"))]
    assert [cause.key for cause in find_causes(lines)] == EXPECTED[name]


MESSAGES = {
    "snapshot-crc": "failed to read snap file: snap: crc mismatch",
    "wal-crc": "etcdserver: read wal error (walpb: crc mismatch) and cannot be repaired",
    "wal-record-size": "failed to read WAL, cannot be repaired: wal: max entry size limit exceeded",
    "wal-cut-off": "failed to read WAL, cannot be repaired: unexpected EOF",
    "wal-missing": "failed to open WAL: wal: file not found which matches the snapshot index '9'",
    "wal-conflict": "failed to read WAL, cannot be repaired: wal: conflicting metadata found",
    "snapshot-db-missing": "failed to recover v3 backend from snapshot: failed to find database"
    " snapshot file (snap: snapshot file doesn't exist)",
    "db-missing": "database file (/var/lib/etcd/member/snap/db) of the backend is missing",
    "db-behind": "database file (/d/db index 5) does not match with snapshot (index 9)",
    "db-truncated": "failed to open database: file size too small 4096",
    "db-invalid": "cannot open database at /d/member/snap/db (invalid database)",
    "db-pages": "panic: freepages: failed to get all reachable pages (page 3: multiple references)",
    "db-revisions": "range failed to find revision pair",
    "raft-log-lost": "tocommit(17) is out of range [lastIndex(12)]. Was the raft log corrupted,"
    " truncated, or lost?",
    "data-inconsistent": "checkInitialHashKV failed: 8e9e found data inconsistency with peers",
    "known-bug-tx-closed": "panic: assertion failed: tx closed",
    "known-bug-removal": "rafthttp: unexpected removal of unknown peer '495421203'",
    "both-directories": "invalid datadir; both member and proxy: Both member and proxy directories"
    " exist",
    "wal-unreadable": "etcdserver: open wal error: open /d/member/wal: is a directory",
    "removed": "server error: the member has been permanently removed from the cluster",
    "cluster-id-mismatch": "request sent was ignored by remote peer due to cluster ID mismatch",
    "member-id-mismatch": "ignored streaming request; ID mismatch",
    "member-count": "error validating peerURLs {ClusterID:1}: member count is unequal",
    "peer-urls-unmatched": "error validating peerURLs {ClusterID:1}: unmatched member while"
    " checking PeerURLs",
    "peer-urls-invalid": "error validating peerURLs {ClusterID:1}: other",
    "name-not-listed": 'couldn\'t find local name "m0" in the initial cluster configuration',
    "peer-url-not-listed": "--initial-cluster has m0=https://10.0.0.1:2380 but missing from"
    " --initial-advertise-peer-urls=https://10.0.0.2:2380",
    "already-bootstrapped": "discovery failed: member 8e9e05c52164694d has already been"
    " bootstrapped",
    "peers-silent": "cannot fetch cluster info from peer urls: could not retrieve cluster"
    " information from the given URLs",
    "version-too-old": "invalid downgrade; server version is lower than determined cluster version",
    "version-incompatible": "incompatible with current running cluster",
    "v2-content": "detected disallowed custom content in v2store for stage --v2-deprecation=x",
    "version-mixed": "remotes server has mismatching etcd version",
    "unknown-flag": "flag provided but not defined: -enable-v2",
    "bad-flag-value": 'invalid value "x" for flag -initial-cluster-state: invalid value "x"',
    "url-not-ip": "failed to verify flags: expected IP in URL for binding (http://host:2380)",
    "bad-flags": "error verifying flags, 'stop' is not a valid flag. See 'etcd --help'.",
    "cert-not-yet-valid": "x509: certificate has expired or is not yet valid: current time"
    " 2024-01-01T00:00:00Z is before 2024-02-01T00:00:00Z",
    "cert-expired": "x509: certificate has expired or is not yet valid: current time"
    " 2024-01-01T00:00:00Z is after 2023-02-01T00:00:00Z",
    "cert-validity": "x509: certificate has expired or is not yet valid",
    "cert-wrong-name": "x509: cannot validate certificate for 10.0.0.1 because it doesn't contain"
    " any IP SANs",
    "cert-wrong-usage": "x509: certificate specifies an incompatible key usage",
    "cert-unknown-ca": "x509: certificate signed by unknown authority",
    "cert-key-pair": "tls: private key does not match public key",
    "cert-unreadable": "tls: failed to find any PEM data in certificate input",
    "cert-missing": "open /etc/kubernetes/pki/etcd/peer.crt: no such file or directory",
    "not-tls": "rejected connection: tls: first record does not look like a TLS handshake",
    "cert-refused": "rejected connection: remote error: tls: bad certificate",
    "address-in-use": "listen tcp 10.0.0.1:2380: bind: address already in use",
    "address-not-here": "listen tcp 10.0.0.1:2380: bind: cannot assign requested address",
    "name-resolution": "failed to resolve URL Host: lookup m1 on 10.0.0.2:53: no such host",
    "disk-full": "failed to save: write /d/member/wal/0.tmp: no space left on device",
    "disk-read-only": "open /d/member/snap/db: read-only file system",
    "disk-error": "read /d/member/snap/db: input/output error",
    "data-dir-mode": 'cannot access data directory: directory "/d","drwxr-xr-x" exist without'
    ' desired file permission "-rwx------".',
    "permission-denied": "cannot access data directory: open /d/.touch: permission denied",
    "quota": "etcdserver: mvcc: database space exceeded",
    "db-locked": 'another etcd process is using "/d/member/snap/db" and holds the file lock',
    "disk-slow": "slow fdatasync (took=2s, expected-duration=1s)",
    "out-of-memory": "container ended with exit code 137, reason OOMKilled",
    "too-many-files": "accept tcp 10.0.0.1:2379: accept4: too many open files",
    "killed": "container ended with exit code 137, reason Error",
    "no-program": 'exec: "etcd": executable file not found in $PATH: unknown',
    "image-missing": '"Error syncing pod, skipping" err="failed to \\"StartContainer\\" for'
    ' \\"etcd\\" with ErrImageNeverPull"',
    "manifest-unreadable": '"Could not process manifest file" err="/etc/kubernetes/manifests/'
    "etcd.yaml: couldn't parse as pod\"",
    "volume-not-mounted": 'MountVolume.SetUp failed for volume "etcd-data": hostPath type check'
    " failed: /var/lib/etcd is not a directory",
    "sandbox-failed": '"CreatePodSandbox for pod failed" err="rpc error" pod="kube-system/etcd-m0"',
    "probe-failed": '"Message for Container of pod" containerName="etcd" containerMessage='
    '"Container etcd failed liveness probe, will be restarted"',
    "crash-loop": "back-off 5m0s restarting failed container=etcd pod=etcd-m0_kube-system(u)",
    "no-quorum": "failed to publish local member to cluster through raft: etcdserver: request"
    " timed out",
    "request-timeout": "failed to apply request: etcdserver: request timed out",
    "learner-not-ready": "etcdserver: can only promote a learner member which is in sync with"
    " leader",
    "clock-drift": "rafthttp: the clock difference against peer a1 is too high [8.4s > 1s]",
    "peer-unreachable": 'failed to reach the peer URL: Get "http://127.0.0.1:12380/version":'
    " dial tcp 127.0.0.1:12380: connect: connection refused",
}


@pytest.mark.parametrize("key", MESSAGES)
def test_messages(key: str) -> None:
    found = find_causes([LogLine(1.0, "", MESSAGES[key])])
    assert [cause.key for cause in found] == [key]
    assert found[0].evidence == MESSAGES[key][:399] + ("…" if len(MESSAGES[key]) > 400 else "")


def test_every_row_is_tested_and_complete() -> None:
    assert [row.key for row in ROWS] == list(MESSAGES)
    for row in ROWS:
        assert row.kind in KINDS
        assert row.rank in (1, 2, 3)
        assert row.summary
        assert row.remedy
        assert row.source


@pytest.mark.parametrize(
    "message",
    [
        "etcdserver: permission denied",
        "8e9e05c52164694d elected leader 8e9e05c52164694d at term 5",
        "serving client traffic securely",
        "published local member to cluster through raft",
        "starting with peer TLS",
        "apply request took too long",
    ],
)
def test_ordinary_messages(message: str) -> None:
    assert find_causes([LogLine(1.0, "info", message)]) == ()


def test_what_stops_etcd_comes_first_then_the_newer() -> None:
    lines = [
        LogLine(1.0, "fatal", MESSAGES["wal-crc"]),
        LogLine(2.0, "warn", MESSAGES["cert-expired"]),
        LogLine(3.0, "warn", MESSAGES["cluster-id-mismatch"]),
        LogLine(4.0, "warn", MESSAGES["peer-unreachable"]),
        LogLine(5.0, "", MESSAGES["wal-crc"] + " again"),
    ]
    found = find_causes(lines)
    keys = ["wal-crc", "cluster-id-mismatch", "cert-expired", "peer-unreachable"]
    assert [cause.key for cause in found] == keys
    assert found[0].evidence.endswith("again")
    assert found[0].time == 5.0


def test_what_lies_before_a_good_start_is_history() -> None:
    lines = [
        LogLine(1.0, "fatal", MESSAGES["cert-missing"]),
        LogLine(2.0, "info", "ready to serve client requests"),
        LogLine(3.0, "warn", MESSAGES["clock-drift"]),
        LogLine(1.5, "error", MESSAGES["crash-loop"], "kubelet"),
    ]
    assert [cause.key for cause in find_causes(lines)] == ["clock-drift"]


def test_lines_without_a_time_stay_in_place() -> None:
    lines = [
        LogLine(2.0, "info", "ready to serve client requests"),
        LogLine(0.0, "panic", "panic: " + MESSAGES["raft-log-lost"]),
    ]
    assert [cause.key for cause in find_causes(lines)] == ["raft-log-lost"]


@given(st.text(max_size=300))
@settings(max_examples=50, deadline=None)
def test_any_text_is_searched(text: str) -> None:
    find_causes([LogLine(0.0, "", text)])


@pytest.mark.parametrize(
    "word", ["WAL ", "open /", "failed to open database ", "a", "sync duration "]
)
def test_hostile_lines_take_no_time(word: str) -> None:
    began = time.perf_counter()
    find_causes([LogLine(0.0, "", word * 4000 + str(n)) for n in range(5)])
    assert time.perf_counter() - began < 1.0


def test_a_thousand_lines_take_no_time() -> None:
    raw = [
        json.dumps({"level": "info", "msg": f"compacted {n}", "took": "1ms"}) for n in range(999)
    ]
    began = time.perf_counter()
    find_causes([normalise(line) for line in raw])
    assert time.perf_counter() - began < 1.0
