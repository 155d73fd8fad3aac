"""docker's lists of what the kubelet's shim made: which are etcd's, and what runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import CommandFailed, Damaged
from agent.host import Completed
from agent.platforms.openshift311 import OpenShift311
from agent.survey.containers import (
    read_runtime,
    running_containers,
    stop_container,
    stop_sandbox,
)
from agent.survey.docker import parse_docker
from tests.unit.rooted import Rooted

PLATFORM = OpenShift311()


def row(kind: str, pod: str, name: str, status: str, **more: Any) -> dict[str, Any]:
    return {
        "Id": f"{kind}-{name}-{status}",
        "Created": more.get("created", "2026-01-02T03:04:05.123456789Z"),
        "State": {
            "Status": status,
            "Running": status == "running",
            "OOMKilled": False,
            "ExitCode": more.get("code", 0),
            "FinishedAt": more.get("finished", "0001-01-01T00:00:00Z"),
        },
        "Config": {
            "Labels": {
                "io.kubernetes.docker.type": kind,
                "io.kubernetes.container.name": name,
                "io.kubernetes.pod.name": pod,
                "io.kubernetes.pod.namespace": "kube-system",
                "io.kubernetes.pod.uid": "u1",
                "io.kubernetes.sandbox.id": "podsandbox-POD-running",
                "annotation.io.kubernetes.container.restartCount": "3",
                "io.kubernetes.container.logpath": "/var/log/pods/u1/etcd/3.log",
            }
        },
    }


ROWS = [
    row("podsandbox", "master-etcd-master-0", "POD", "running"),
    row("container", "master-etcd-master-0", "etcd", "running"),
    row("container", "master-etcd-master-0", "etcd", "exited", code=2,
        created="2026-01-02T03:00:00Z", finished="2026-01-02T03:01:00Z"),
    row("podsandbox", "master-api-master-0", "POD", "running"),
    row("container", "master-api-master-0", "api", "running"),
    row("podsandbox", "master-etcd-master-0", "POD", "exited"),
]  # fmt: skip


def test_only_etcd_s_are_told() -> None:
    runtime = parse_docker(json.dumps(ROWS), PLATFORM)
    assert runtime.answers
    assert runtime.sandboxes_ready == 1
    assert [(c.state, c.exit_code, c.attempt) for c in runtime.containers] == [
        ("running", None, 3), ("exited", 2, 3),
    ]  # fmt: skip
    assert runtime.containers[0].finished == 0.0
    assert runtime.containers[1].finished > runtime.containers[1].created
    assert runtime.containers[0].sandbox_id == "podsandbox-POD-running"


KEYS = st.sampled_from(["Id", "State", "Status", "Config", "Labels", "Created", "x"])
PLAIN = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
ROW = st.recursive(PLAIN, lambda inner: st.dictionaries(KEYS, inner, max_size=4), max_leaves=12)


@given(st.text(max_size=60) | st.lists(ROW, max_size=3).map(json.dumps))
def test_anything_else_is_damage_or_nothing(text: str) -> None:
    try:
        runtime = parse_docker(text, PLATFORM)
    except Damaged:
        return
    assert runtime.sandboxes_ready in (0, 1)


class Docked(Rooted):
    """A host with docker and no crictl; what docker says is given."""

    def __init__(self, root: str, rows: list[dict[str, Any]], fails: bool = False) -> None:
        super().__init__(root)
        self.rows, self.fails = rows, fails
        self.asked: list[list[str]] = []

    def which(self, name: str) -> str:
        return "/usr/bin/docker" if name == "docker" else ""

    def run(self, argv: Sequence[str], *args: Any, **words: Any) -> Completed:
        self.asked.append(list(argv))
        if self.fails:
            raise CommandFailed("Cannot connect to the Docker daemon")
        # As docker does: labels that are asked for, running ones without -a, inspect by ID.
        wanted = dict(w.removeprefix("label=").split("=") for w in argv if w.startswith("label="))
        rows = [r for r in self.rows if wanted.items() <= r["Config"]["Labels"].items()]
        if argv[1] == "inspect":
            return Completed(tuple(argv), 0, json.dumps([r for r in rows if r["Id"] in argv]), "")
        rows = [r for r in rows if "-a" in argv or r["State"]["Running"]]
        return Completed(tuple(argv), 0, "\n".join(r["Id"] for r in rows), "")


def test_docker_is_asked_where_there_is_no_crictl(tmp_path: Path) -> None:
    host = Docked(str(tmp_path), ROWS)
    assert read_runtime(host, PLATFORM).sandboxes_ready == 1
    assert [argv[1] for argv in host.asked] == ["ps", "inspect"]
    assert read_runtime(Docked(str(tmp_path), []), PLATFORM).answers


def test_a_docker_that_is_down_is_no_answer(tmp_path: Path) -> None:
    runtime = read_runtime(Docked(str(tmp_path), ROWS, fails=True), PLATFORM)
    assert not runtime.answers
    assert "Docker daemon" in runtime.error


def test_what_runs_of_the_control_plane_is_listed_and_stopped(tmp_path: Path) -> None:
    rows = [
        *ROWS,
        row("container", "kube-apiserver-m0", "kube-apiserver", "running"),
        row("container", "kube-apiserver-m0", "kube-apiserver", "exited"),
        row("podsandbox", "kube-apiserver-m0", "POD", "running"),
    ]
    host = Docked(str(tmp_path), rows)
    found = running_containers(host, "kube-system")
    assert [name for name, _id, _created in found] == ["etcd", "api", "kube-apiserver"]
    assert all(created > 1.7e9 for _name, _id, created in found)
    assert running_containers(Docked(str(tmp_path), rows), "other") == ()

    stop_container(host, found[-1][1], 10)
    stop_sandbox(host, "podsandbox-POD-running")
    assert host.asked[-2:] == [
        ["docker", "stop", "-t", "10", "container-kube-apiserver-running"],
        ["docker", "stop", "-t", "1", "podsandbox-POD-running"],
    ]
    with pytest.raises(CommandFailed):
        running_containers(Docked(str(tmp_path), rows, fails=True), "kube-system")


@pytest.mark.parametrize("text", ["{}", "[1]", "null", "[" * 9000])
def test_what_is_no_list_is_damage(text: str) -> None:
    with pytest.raises(Damaged):
        parse_docker(text, PLATFORM)
