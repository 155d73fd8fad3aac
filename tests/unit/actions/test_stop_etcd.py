"""etcd is stopped by the whole rule; what waits beside it in its pod holds nothing up."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from agent.actions import services
from agent.errors import CommandFailed
from agent.host import Completed
from tests.unit.rooted import MANIFEST, Rooted, kubeadm_host, plan_of
from tests.unit.test_runner import runner_of

LABELS = {"io.kubernetes.pod.name": "etcd-m0", "io.kubernetes.pod.namespace": "kube-system"}
POD = {
    "id": "sandbox",
    "metadata": {"name": "etcd-m0", "namespace": "kube-system"},
    "labels": LABELS,
    "annotations": {"kubernetes.io/config.source": "file"},
}
STOP = ("stop_etcd", {"deadline": 20.0, "hold": 0.0})


class Lingering(Rooted):
    """A host whose etcd has ended, and whose pod waits for containers that take no SIGTERM.

    waiting: names of these; the sandbox is ready for as long as one of them runs. kubelet: how
    often the runtime is looked at until the kubelet has ended them itself. etcd: how often etcd
    itself is looked for and found.
    """

    def __init__(self, root: str, *waiting: str, kubelet: int = 10_000, etcd: int = 0) -> None:
        super().__init__(root)
        self.waiting, self.kubelet, self.etcd = set(waiting), kubelet, etcd
        self.killed: list[str] = []

    def processes(self, name: str) -> Iterator[psutil.Process]:
        self.etcd -= name == "etcd"
        self.running = ("etcd",) if self.etcd >= 0 else ()
        return super().processes(name)

    def which(self, name: str) -> str:
        return "/usr/bin/crictl" if name == "crictl" else ""

    def run(self, argv: Sequence[str], *args: Any, **words: Any) -> Completed:
        if "crictl" not in argv[0]:
            return Completed(tuple(argv), 0, "active\n", "")
        return Completed(tuple(argv), 0, self._answer(list(argv)), "")

    def _answer(self, argv: list[str]) -> str:
        self.kubelet -= 1
        if self.kubelet <= 0:
            self.waiting.clear()
        if "pods" in argv:
            state = "SANDBOX_READY" if self.waiting else "SANDBOX_NOTREADY"
            return json.dumps({"items": [{**POD, "state": state}]})
        if "stop" in argv:
            assert argv[-3:-1] == ["--timeout", "0"]
            assert self.etcd < 0, "etcd runs, and what is beside it was touched"
            if argv[-1] not in self.waiting:
                raise CommandFailed(f"container {argv[-1]} not found")
            self.waiting.discard(argv[-1])
            self.killed.append(argv[-1])
            return ""
        listed = [row("etcd", "CONTAINER_EXITED")] if "-a" in argv else []
        listed += [row(name, "CONTAINER_RUNNING") for name in sorted(self.waiting)]
        return json.dumps({"containers": listed if "-a" not in argv else listed[:1]})


def row(name: str, state: str) -> dict[str, Any]:
    labels = {**LABELS, "io.kubernetes.container.name": name}
    return {"id": name, "podSandboxId": "sandbox", "metadata": {"name": name, "attempt": 0},
            "labels": labels, "state": state, "createdAt": "1700000000000000000"}  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> str:
    """A host with its definition out of the way."""
    kubeadm_host(tmp_path)
    (tmp_path / MANIFEST[1:]).rename(tmp_path / "etc/etcd.yaml")
    return str(tmp_path)


def stopped(host: Lingering) -> str:
    return str(runner_of(host, plan_of(STOP)).run("01")["result"]["seen"])


def test_what_waits_beside_an_etcd_that_has_ended_is_ended(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "_LINGERING", 0.2)
    host = Lingering(root, "etcdctl", "etcd-metrics")
    assert "no pod sandbox ready" in stopped(host)
    assert host.killed == ["etcd-metrics", "etcdctl"]


def test_a_pod_that_ends_by_itself_is_left_to_the_kubelet(root: str) -> None:
    host = Lingering(root, "etcdctl", kubelet=8)
    assert "no pod sandbox ready" in stopped(host)
    assert host.killed == []


def test_while_etcd_runs_nothing_of_its_pod_is_touched(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "_LINGERING", 0.0)
    host = Lingering(root, "etcdctl", etcd=10)
    assert "no pod sandbox ready" in stopped(host)
    assert host.killed == ["etcdctl"]


def test_a_runtime_that_has_ended_it_meanwhile_is_no_failure(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "_LINGERING", 0.1)

    class Racing(Lingering):
        def _answer(self, argv: list[str]) -> str:
            if "--pod" in argv:
                answer = super()._answer(argv)
                self.waiting.clear()  # the kubelet was first
                return answer
            return super()._answer(argv)

    host = Racing(root, "etcdctl")
    assert "no pod sandbox ready" in stopped(host)
    assert host.killed == []
