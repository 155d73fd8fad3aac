"""The imitated cluster: agents, one service, its scheduler, tasks and backups, kept in one file.

There is no daemon: what a scheduler would have done meanwhile is done at the start of each command.
A task that ended is started again on its agent, with its data, as long as the agent is there.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab.dcos.etcds import PODS, Etcds, is_alive, kill

URL = "https://dcos.example.com"
VERSION = "1.3.0-1.10.8"
DEFAULT = ("/registry/namespaces/default", b"default")
"""What an API server writes into every new cluster."""

ENDED = ("TASK_FAILED", "TASK_KILLED", "TASK_FINISHED")


class Cluster:
    """All of it; `data` is what the file holds."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.data: dict[str, Any] = json.loads((top / "cluster.json").read_text())
        self.etcds = Etcds(top, self.data["service"])

    @classmethod
    @contextmanager
    def held(cls, top: Path) -> Iterator[Cluster]:
        """The cluster, for one command alone; what was changed is written at the end."""
        with (top / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            cluster = cls(top)
            cluster.tick()
            try:
                yield cluster
            finally:
                part = top / "cluster.part"
                part.write_text(json.dumps(cluster.data))
                part.rename(top / "cluster.json")  # some only read it, without the lock

    # ---- the scheduler -----------------------------------------------------------------------

    def tick(self) -> None:
        """What happened meanwhile, and what the scheduler does about it."""
        for pod, place in list(self.pods.items()):
            run = self.run_of(pod)
            is_up = self.agent(place["agent"])["active"]
            if run is not None and run["state"] == "TASK_RUNNING":
                if not is_up:
                    kill(run["pid"])
                    self._mark(run, "TASK_UNREACHABLE")
                elif not is_alive(run["pid"]):
                    self._mark(run, "TASK_FAILED")
            run = self.run_of(pod)
            wanted = run is None or run["state"] != "TASK_RUNNING"
            if wanted and is_up and pod not in self.faults.get("hold", []):
                self.start(pod, new=False)

    def start(self, pod: str, new: bool) -> None:
        """Start a run of a pod's peer task on its agent."""
        place = self.pods[pod]
        id = f"{self.data['service']}__{pod}-peer__{os.urandom(8).hex()}"
        sandbox = self.top / "agents" / place["agent"] / id
        crashes = pod in self.faults.get("crash", [])
        pid = 0
        if not crashes:
            members = place["members"]
            pid = self.etcds.start(pod, sandbox, Path(place["data"]), members, new)
        run = {"id": id, "name": f"{pod}-peer", "pod": pod, "agent": place["agent"], "pid": pid,
               "sandbox": str(sandbox), "state": "", "time": 0.0}  # fmt: skip
        self.data["runs"].append(run)
        self._mark(run, "TASK_FAILED" if crashes else "TASK_RUNNING")

    def _mark(self, run: dict[str, Any], state: str) -> None:
        run["state"], run["time"] = state, time.time()

    @property
    def pods(self) -> dict[str, Any]:
        """Pod → its agent, data directory, and the members it was started with."""
        found: dict[str, Any] = self.data["pods"]
        return found

    @property
    def faults(self) -> dict[str, Any]:
        """What is to go wrong."""
        found: dict[str, Any] = self.data["faults"]
        return found

    def agent(self, id: str) -> dict[str, Any]:
        """An agent's row."""
        found: dict[str, Any] = next(a for a in self.data["agents"] if a["id"] == id)
        return found

    def run_of(self, pod: str) -> dict[str, Any] | None:
        """The newest run of a pod's peer task."""
        runs = [run for run in self.data["runs"] if run["pod"] == pod]
        return runs[-1] if runs else None

    @property
    def wanted(self) -> tuple[str, ...]:
        """The pods that the options ask for."""
        return PODS if self.data["options"]["kubernetes"]["high_availability"] else PODS[:1]

    def place(self, pod: str, members: tuple[str, ...]) -> None:
        """Give a pod a free agent, and an empty data directory there."""
        taken = {place["agent"] for name, place in self.pods.items() if name != pod}
        old = self.pods.get(pod, {}).get("agent")
        free = [a["id"] for a in self.data["agents"] if a["active"] and a["id"] not in taken]
        agent = next((id for id in free if id != old), free[0] if free else "")
        if not agent:
            raise RuntimeError("no agent is free")
        data = self.top / "agents" / agent / f"volume-{os.urandom(8).hex()}"
        data.mkdir(parents=True, mode=0o700)
        self.pods[pod] = {"agent": agent, "data": str(data), "members": list(members)}

    def serving(self, *without: str, wait: float = 5) -> str:
        """A pod whose etcd serves through the quorum, within some seconds; empty for none."""
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline:
            for pod in self.pods:
                run = self.run_of(pod)
                is_running = run is not None and run["state"] == "TASK_RUNNING"
                if pod not in without and is_running and self.etcds.client(pod).is_healthy():
                    return pod
            if not self.pods:
                break
            time.sleep(0.05)
        return ""

    # ---- what the commands do ----------------------------------------------------------------

    def deploy(self) -> None:
        """A fresh cluster of all wanted pods."""
        for pod in self.wanted:
            self.place(pod, self.wanted)
        for pod in self.wanted:
            self.start(pod, new=True)
        through = self.serving()
        if through and not self.faults.get("crash"):
            self.etcds.client(through, 10).put_many([DEFAULT])
            self.data.update(deployed=True, api_ran=True)

    def destroy(self) -> None:
        """End every task, and forget the pods; their data stays on the agents, as garbage."""
        for run in self.data["runs"]:
            if run["state"] == "TASK_RUNNING":
                kill(run["pid"])
                self._mark(run, "TASK_KILLED")
        self.data["pods"] = {}
        self.data["deployed"] = False

    def replace(self, pod: str) -> None:
        """The recovery plan: remove the member, add it anew, start it empty on another agent."""
        run = self.run_of(pod)
        if run is not None and run["state"] == "TASK_RUNNING":
            kill(run["pid"])
            self._mark(run, "TASK_KILLED")
        through = self.serving(pod)
        self.place(pod, self.wanted)
        self.faults["crash"] = [p for p in self.faults.get("crash", []) if p != pod]
        if not through:
            self.start(pod, new=True)  # it is made empty all the same: that is what is lost
            return
        self.etcds.drop(through, pod)
        self.etcds.add(through, pod)
        self.start(pod, new=False)

    def scale_up(self) -> bool:
        """Add two members, one after the other; False where one never joined."""
        self.data["options"]["kubernetes"]["high_availability"] = True
        self.data["deployed"] = False
        failing = self.faults.get("scale", 0)
        for pod in PODS[1:]:
            through = self.serving()
            self.place(pod, PODS[: PODS.index(pod) + 1])
            self.etcds.add(through, pod)
            if failing:
                # It is a member now, and its process ends before it ever connects: two voters,
                # one of which is not there.
                self.faults.update(crash=[pod], scale=failing - 1)
                for _attempt in range(3):
                    self.start(pod, new=False)
                return False
            self.start(pod, new=False)
            self._wait_healthy(pod)
        self.data["deployed"] = True
        return True

    def _wait_healthy(self, pod: str) -> None:
        deadline = time.monotonic() + 20
        while not self.etcds.client(pod).is_healthy():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{pod} never served")
            time.sleep(0.05)

    def backup(self, bucket: str, name: str) -> bool:
        """Keep every key, as the API would give it; False where no quorum serves."""
        through = self.serving()
        if not through:
            return False
        folder = self.top / "buckets" / bucket
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(self.etcds.dump(through)))
        return True

    def restore(self, bucket: str, name: str) -> bool:
        """The keys of a backup, into the cluster that serves, else into a new one.

        False where there is no such backup.
        """
        path = self.top / "buckets" / bucket / f"{name}.json"
        if not path.is_file():
            return False
        if not self.serving(wait=1):
            self.faults.pop("crash", None)
            self.destroy()
            self.deploy()
        self.etcds.load(self.serving(), json.loads(path.read_text()))
        self.data["deployed"] = True
        return True
