"""Looks at a service: its option, pods, tasks, agents, and each running etcd; changes nothing."""

from __future__ import annotations

import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from agent.errors import RescueError, UsageError
from coordinator.dcos import answers
from coordinator.dcos.cli import Dcos
from coordinator.dcos.model import EtcdAnswer, PlanStatus, TaskRun, View

PROBE = 5
"""Seconds for a read through the quorum. One that serves answers in milliseconds; but a disk that
is slow must not be taken for a lost quorum. As long, members that are enough for a quorum may take
to elect a leader."""

ELECTION = 1
"""Seconds: etcd's default --election-timeout, which DC/OS leaves as it is."""

_COUNT = ("get", "/", "--prefix", "--count-only", "-w", "fields")


def look(dcos: Dcos) -> View:
    """Everything that the diagnosis rests on. Raises UsageError, Unreachable, CommandFailed.

    One call of `dcos` takes a second or two: those that need nothing of each other go at once.
    """
    with ThreadPoolExecutor(8) as pool:
        url = pool.submit(dcos.run, "config", "show", "core.dcos_url")
        packages = pool.submit(dcos.json, "package", "list", "--json")
        option = pool.submit(_option, dcos)
        pods = pool.submit(dcos.kubernetes_json, "pod", "status", "--json")
        lists = [pool.submit(dcos.json, "task", *more, "--json") for more in ((), ("--completed",))]
        nodes = pool.submit(dcos.json, "node", "--json")
        plans = [pool.submit(_plan, dcos, name) for name in ("deploy", "recovery")]
    cluster = url.result().decode(errors="replace").strip()
    version = _version(dcos, cluster, packages.result())
    tasks = answers.etcd_tasks_of(pods.result())
    runs = answers.runs_of([one.result() for one in lists], dcos.service, tasks.values())
    peers = tuple(r for r in runs if r.name.startswith("etcd-") and r.name.endswith("-peer"))
    agents, deploy, recovery = answers.agents_of(nodes.result()), *(one.result() for one in plans)
    asked = _ask_all(dcos, peers)
    return View(
        cluster, dcos.service, version, option.result(), tuple(sorted(tasks)), peers, agents,
        asked, deploy, recovery, _voters(dcos, peers, asked),
        api_ran=any(run.name.startswith("kube-apiserver-") for run in runs),
    )  # fmt: skip


def _version(dcos: Dcos, cluster: str, packages: Any) -> str:
    version = answers.version_of(packages, dcos.service)
    if version is None:
        there = ", ".join(answers.services_of(packages)) or "none"
        raise UsageError(
            f"no service {dcos.service!r} on {cluster}", f"Kubernetes services there: {there}",
            "--service NAME; or, where it was never installed: dcos package install kubernetes",
        )  # fmt: skip
    return version


def etcdctl(service: str, run: TaskRun, *words: str) -> list[str]:
    """The documented way to run a task's own etcdctl, with its certificates, in its sandbox."""
    return [
        "task", "exec", run.id, "find", ".", "-name", "etcdctl", "-exec", "{}",
        "--endpoints", f"https://{run.name}.{service}.mesos:2379",
        "--cacert", "ca-crt.pem", "--cert", "etcd-crt.pem", "--key", "etcd-key.pem",
        *words, ";",
    ]  # fmt: skip


def _option(dcos: Dcos) -> bool | None:
    """The HA option; only DC/OS Enterprise keeps it (`describe` says so elsewhere)."""
    try:
        return answers.option_of(dcos.kubernetes_json("describe"))
    except UsageError as error:
        if "is not available for service" in error.why:
            return None
        raise


def _plan(dcos: Dcos, name: str) -> PlanStatus:
    return answers.plan_of(name, dcos.kubernetes_json("plan", "status", name, "--json"))


def _ask_all(dcos: Dcos, peers: tuple[TaskRun, ...]) -> dict[str, EtcdAnswer]:
    newest = {run.name.removesuffix("-peer"): run for run in peers}
    running = {pod: run for pod, run in newest.items() if run.state == "TASK_RUNNING"}
    asked = _ask_each(dcos, running)
    deadline = time.monotonic() + PROBE
    while _may_be_electing(asked, newest) and time.monotonic() < deadline:
        time.sleep(ELECTION / 4)
        asked = _ask_each(dcos, running)
    return asked


def _ask_each(dcos: Dcos, running: dict[str, TaskRun]) -> dict[str, EtcdAnswer]:
    with ThreadPoolExecutor(max(1, len(running))) as pool:
        found = zip(running, pool.map(lambda run: ask(dcos, run), running.values()), strict=True)
        return {pod: answer for pod, answer in found if answer is not None}


def _may_be_electing(asked: dict[str, EtcdAnswer], members: Collection[str]) -> bool:
    """A majority answers, but only alone: right after a leader went, that is no lost quorum yet."""
    serves = any(answer.linearizable for answer in asked.values())
    return not serves and len(asked) > len(members) // 2


def ask(dcos: Dcos, run: TaskRun) -> EtcdAnswer | None:
    """What a running task's etcd says, through the quorum or else alone; None for no answer.

    That it does not answer is a fact here, and no error.
    """
    for consistency in ("l", "s"):
        limits = (f"--command-timeout={PROBE}s", f"--consistency={consistency}")
        with suppress(RescueError):
            data = dcos.run(*etcdctl(dcos.service, run, *_COUNT, *limits), timeout=30)
            answer = answers.etcd_answer(data, consistency == "l")
            if answer is not None:
                return answer
    return None


def _voters(dcos: Dcos, peers: tuple[TaskRun, ...], asked: dict[str, EtcdAnswer]) -> int:
    for run in reversed(peers):
        answer = asked.get(run.name.removesuffix("-peer"))
        if run.state == "TASK_RUNNING" and answer is not None and answer.linearizable:
            with suppress(RescueError):
                words = etcdctl(dcos.service, run, "member", "list", "-w", "json")
                return answers.voters_of(dcos.run(*words, timeout=30))
    return 0
