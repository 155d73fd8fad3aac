"""What crictl says, in the shapes of containerd and CRI-O."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.errors import CommandFailed, Damaged
from agent.host import Host
from agent.host.processes import Completed
from agent.model.facts import Container, Runtime
from agent.platforms.kubeadm import Kubeadm
from agent.survey.containers import (
    as_lines,
    count_ready,
    parse_containers,
    parse_inspect,
    read_runtime,
    stop_container,
    stop_sandbox,
)

KUBEADM = Kubeadm()
FIXTURES = Path(__file__).parents[3].parent / "shared" / "fixtures" / "crictl-json"
HAS_FIXTURES = pytest.mark.skipif(not FIXTURES.exists(), reason="no fixtures here")


def container(id: str, attempt: int, state: str, created: Any) -> dict[str, Any]:
    return {
        "id": id, "podSandboxId": "s1", "metadata": {"name": "etcd", "attempt": attempt},
        "state": state, "createdAt": created,
        "labels": {
            "io.kubernetes.container.name": "etcd", "io.kubernetes.pod.name": "etcd-m0",
            "io.kubernetes.pod.namespace": "kube-system", "io.kubernetes.pod.uid": "u1",
        },
    }  # fmt: skip


LIST = json.dumps({"containers": [
    container("c0", 0, "CONTAINER_EXITED", "1704067200000000000"),
    container("c1", 1, "CONTAINER_EXITED", 1704067210000000000),
    container("c2", 2, "CONTAINER_RUNNING", "2024-01-01T00:00:20Z"),
]})  # fmt: skip


def sandbox(id: str, name: str, state: str = "SANDBOX_READY", **more: Any) -> dict[str, Any]:
    namespace = more.pop("namespace", "kube-system")
    return {"id": id, "metadata": {"name": name, "namespace": namespace}, "state": state, **more}


STATIC: dict[str, Any] = {"annotations": {"kubernetes.io/config.source": "file"}}


def test_newest_first() -> None:
    found = parse_containers(LIST)
    assert [(c.id, c.state, c.attempt) for c in found] == [
        ("c2", "running", 2), ("c1", "exited", 1), ("c0", "exited", 0),
    ]  # fmt: skip
    assert found[2].created == 1704067200.0
    assert found[0].pod_uid == "u1"
    assert found[0].log_path == "/var/log/pods/kube-system_etcd-m0_u1/etcd/2.log"


@pytest.mark.parametrize("text", ["{}", '{"containers": null}', '{"containers": []}'])
def test_no_containers(text: str) -> None:
    assert parse_containers(text) == ()


@pytest.mark.parametrize(
    "text", ["", "E0101 rpc error", "[]", '{"containers": 1}', '{"containers": [1]}', "{" * 9999]
)
def test_not_a_listing(text: str) -> None:
    with pytest.raises(Damaged):
        parse_containers(text)


def test_half_empty_rows() -> None:
    row = {"id": "c", "metadata": None, "labels": None, "state": "CONTAINER_UNKNOWN"}
    assert parse_containers(json.dumps({"containers": [row]})) == (Container("c", "", "unknown"),)


@pytest.mark.parametrize(
    ("items", "ready"),
    [
        ([sandbox("s1", "etcd-m0")], 1),
        ([sandbox("s1", "etcd-m0", "SANDBOX_NOTREADY")], 0),
        ([sandbox("s2", "etcd-m0", **STATIC)], 1),
        ([sandbox("s2", "etcd-m0", labels={"component": "etcd"})], 1),
        ([sandbox("s2", "etcd-backup-1")], 0),
        ([sandbox("s2", "kube-apiserver-m0", **STATIC)], 0),
        ([sandbox("s2", "etcd-m0", namespace="default", **STATIC)], 0),
        ([sandbox("s1", "etcd-m0"), sandbox("s3", "etcd-m0", **STATIC)], 2),
        ([], 0),
    ],
)
def test_ready_sandboxes(items: list[dict[str, Any]], ready: int) -> None:
    assert count_ready(json.dumps({"items": items}), parse_containers(LIST), KUBEADM) == ready


STATUS = {
    "exitCode": 137, "reason": "OOMKilled", "finishedAt": "2024-01-01T00:00:15.5Z",
    "logPath": "/var/log/pods/x/etcd/1.log",
}  # fmt: skip


@pytest.mark.parametrize("shape", [{"status": STATUS, "info": {}}, [{"status": STATUS}]])
def test_inspect(shape: object) -> None:
    told = parse_inspect(json.dumps(shape), Container("c1", "s1", "exited"))
    assert (told.exit_code, told.reason, told.finished) == (137, "OOMKilled", 1704067215.5)
    assert told.log_path == "/var/log/pods/x/etcd/1.log"
    message = as_lines(Runtime(True, (told,)))[0].message
    assert message == "container ended with exit code 137, reason OOMKilled"


def test_a_running_container_has_no_exit_code() -> None:
    told = parse_inspect(json.dumps({"status": {"exitCode": 0}}), Container("c", "s", "running"))
    assert told.exit_code is None
    assert as_lines(Runtime(True, (told,))) == as_lines(Runtime(True)) == ()


def test_the_last_end_is_told_while_the_next_attempt_runs() -> None:
    running = Container("c2", "s1", "running")
    ended = Container("c1", "s1", "exited", finished=5.0, exit_code=2, reason="Error")
    (told,) = as_lines(Runtime(True, (running, ended)))
    assert (told.time, told.message) == (5.0, "container ended with exit code 2, reason Error")


class Crictl(Host):
    """A host whose crictl answers from a table; the rest of the host is a real directory."""

    def __init__(self, root: Path, answers: dict[str, str]) -> None:
        super().__init__(str(root))
        self.answers = answers
        self.asked: list[list[str]] = []

    def run(
        self, argv: Any, timeout: float = 10.0, ok: Any = (0,), env: Any = None, input: Any = None
    ) -> Completed:
        self.asked.append(list(argv))
        for verb, answer in self.answers.items():
            if verb in argv:
                return Completed(tuple(argv), 0, answer, "")
        raise CommandFailed(f"`{' '.join(argv)}` ended with exit code 1: connection refused")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    binary = tmp_path / "usr/local/bin/crictl"
    binary.parent.mkdir(parents=True)
    binary.write_text("#!/bin/false\n")
    os.chmod(binary, 0o755)
    return tmp_path


PODS = json.dumps({"items": [sandbox("s1", "etcd-m0", **STATIC)]})


def test_a_runtime_that_answers(root: Path) -> None:
    host = Crictl(root, {"ps": LIST, "pods": PODS, "inspect": json.dumps({"status": STATUS})})
    runtime = read_runtime(host, KUBEADM)
    assert runtime.answers
    assert runtime.sandboxes_ready == 1
    assert [c.exit_code for c in runtime.containers] == [None, 137, None]
    assert [argv[-1] for argv in host.asked if "inspect" in argv] == ["c1"]


@pytest.mark.parametrize(
    "answers", [{}, {"ps": LIST}, {"pods": PODS}, {"ps": "rubbish", "pods": PODS}]
)
def test_a_runtime_that_does_not(root: Path, answers: dict[str, str]) -> None:
    runtime = read_runtime(Crictl(root, answers), KUBEADM)
    assert not runtime.answers
    assert runtime.error
    assert runtime.containers == ()


def test_an_end_that_cannot_be_read_is_left_open(root: Path) -> None:
    runtime = read_runtime(Crictl(root, {"ps": LIST, "pods": PODS}), KUBEADM)
    assert runtime.answers
    assert [c.exit_code for c in runtime.containers] == [None, None, None]


def test_no_crictl(tmp_path: Path) -> None:
    assert read_runtime(Host(str(tmp_path)), KUBEADM) == Runtime(
        False, error="crictl is not installed on this host"
    )


@pytest.mark.parametrize(
    ("file", "text", "endpoint"),
    [
        ("var/lib/kubelet/config.yaml", "containerRuntimeEndpoint: unix:///a.sock\n",
         "unix:///a.sock"),
        ("var/lib/kubelet/kubeadm-flags.env",
         'KUBELET_KUBEADM_ARGS="--container-runtime-endpoint=unix:///b.sock --x=1"\n',
         "unix:///b.sock"),
        ("run/crio/crio.sock", "", "unix:///run/crio/crio.sock"),
        ("etc/crictl.yaml", "runtime-endpoint: unix:///c.sock\n", ""),
        ("etc/other", "", ""),
    ],
)  # fmt: skip
def test_the_endpoint_of_the_kubelet(root: Path, file: str, text: str, endpoint: str) -> None:
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(text)
    host = Crictl(root, {"ps": LIST, "pods": PODS})
    read_runtime(host, KUBEADM)
    host.answers = {"stop": "", "stopp": ""}
    stop_container(host, "c1", 10)
    stop_sandbox(host, "s1")
    for argv in host.asked:
        assert ("--runtime-endpoint" in argv) == bool(endpoint)
        assert endpoint in argv or not endpoint
    assert host.asked[-2][-4:] == ["stop", "--timeout", "10", "c1"]
    assert host.asked[-1][-2:] == ["stopp", "s1"]


@HAS_FIXTURES
def test_real_listings() -> None:
    crio = parse_containers((FIXTURES / "01-crio-ocp-list-1.json").read_text())
    assert [(c.state, c.attempt, c.pod_uid[:8]) for c in crio] == [("running", 4, "7619a1d7")]
    assert crio[0].created == pytest.approx(1717161223.05, abs=0.01)
    inspect = (FIXTURES / "02-crio-ocp-inspect.json").read_text()
    told = parse_inspect(inspect, replace(crio[0], state="exited"))
    assert (told.exit_code, told.finished) == (0, 0.0)
    for name in ("04-table-misaligned-states.txt", "06-table-invalid-header.txt",
                 "07-containerd-kind-ps-bpfman.json"):  # fmt: skip
        with pytest.raises(Damaged):
            parse_containers((FIXTURES / name).read_text())
