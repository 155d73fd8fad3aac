"""The control plane started anew on a host whose kubelet has docker, and where nothing runs."""

from __future__ import annotations

import datetime
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.actions.base import Context
from agent.actions.control_plane import RestartArgs, RestartControlPlane
from agent.host import Completed
from agent.platforms.kubeadm import Kubeadm
from tests.unit.rooted import Rooted

STARTED = 2_000_000_000.0
"""When the machine's clock is read first; containers were made long before."""


class DockerNode(Rooted):
    """docker and a kubelet that starts another container for each of a pod that was stopped."""

    def __init__(self, root: str, names: Sequence[str]) -> None:
        super().__init__(root)
        self.clock = itertools.count(int(STARTED))
        self.numbers = itertools.count()
        self.rows = [self.row(name, STARTED - 1000) for name in names]
        self.stopped: list[str] = []

    def row(self, name: str, created: float) -> dict[str, Any]:
        when = datetime.datetime.fromtimestamp(created, datetime.timezone.utc)
        labels = {"io.kubernetes.container.name": name}
        return {
            "Id": f"{name}-{next(self.numbers)}",
            "Created": when.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "State": {"Running": True},
            "Config": {"Labels": labels},
        }

    def which(self, name: str) -> str:
        return "/usr/bin/docker" if name == "docker" and self.rows else ""

    def now(self) -> float:
        return float(next(self.clock))

    def run(self, argv: Sequence[str], *args: Any, **words: Any) -> Completed:
        verb, out = argv[1], ""
        if argv[0] == "systemctl":
            out = "LoadState=not-found\nActiveState=inactive\n"
        elif verb == "ps":
            out = "\n".join(row["Id"] for row in self.rows)
        elif verb == "inspect":
            out = json.dumps([row for row in self.rows if row["Id"] in argv])
        elif verb == "stop":
            (row,) = (row for row in self.rows if row["Id"] == argv[-1])
            name = row["Config"]["Labels"]["io.kubernetes.container.name"]
            self.rows[self.rows.index(row)] = self.row(name, self.now())
            self.stopped.append(name)
        return Completed(tuple(argv), 0, out, "")


def restart(host: DockerNode) -> str:
    """Do the step as the runner does; what it says."""
    ctx, action, args = (
        Context(host, Kubeadm(), "plan", "01", print),
        RestartControlPlane(),
        RestartArgs(),
    )
    undo = action.prepare(ctx, args)
    said = str(action.act(ctx, args, undo)["seen"])
    action.prove(ctx, args, undo)
    assert action.is_done(ctx, args, undo)
    return said


def test_what_docker_runs_is_started_anew(tmp_path: Path) -> None:
    names = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"]
    host = DockerNode(str(tmp_path), names)
    before = {row["Id"] for row in host.rows}
    said = restart(host)
    assert sorted(host.stopped) == names[1:4]
    assert said == "started anew: kube-apiserver, kube-controller-manager, kube-scheduler"
    assert {row["Id"] for row in host.rows} & before == {"etcd-0", "kube-proxy-4"}


def test_where_nothing_runs_nothing_is_claimed(tmp_path: Path) -> None:
    assert restart(DockerNode(str(tmp_path), [])) == "started anew: nothing runs here"
