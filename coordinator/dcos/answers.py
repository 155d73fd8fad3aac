"""What the `dcos` command prints, as facts. Pure; each raises UsageError for another shape."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agent.errors import UsageError
from agent.model.codec import parse_json
from coordinator.dcos.model import Agent, EtcdAnswer, PlanStatus, TaskRun

_FIELD = re.compile(rb'"([A-Za-z]+)" : (\d{1,20})')


def agents_of(data: Any) -> tuple[Agent, ...]:
    """`dcos node --json`: rows of agents, and in newer CLIs of masters, which are left out."""
    found = []
    for row in _rows(data, "dcos node"):
        if str(row.get("type", "agent")).startswith("master"):
            continue
        id, active = row.get("id"), row.get("active")
        if not isinstance(id, str) or not isinstance(active, bool):
            raise UsageError("dcos node: a row without id and active", _shown(row))
        found.append(Agent(id, str(row.get("hostname", id)), active))
    return tuple(found)


def runs_of(data: Iterable[Any], service: str, current: Iterable[str]) -> tuple[TaskRun, ...]:
    """`dcos task --json`, of one service, in the order of their last status.

    A task is the service's where its ID begins with SERVICE__, or where the scheduler names it.
    data: the answers of several calls, the same task may be in each. current: those IDs.
    """
    mine, found = set(current), {}
    for answer in data:
        for row in _rows(answer, "dcos task"):
            texts = [row.get(key) for key in ("id", "name", "state")]
            agent = row.get("slave_id", row.get("agent_id", ""))
            if not all(isinstance(text, str) for text in (*texts, agent)):
                raise UsageError("dcos task: a row without id, name, state, slave_id", _shown(row))
            id, name, state = map(str, texts)
            if id.startswith(f"{service}__") or id in mine:
                found[id] = TaskRun(id, name, agent, state, _newest(row.get("statuses")))
    order = sorted(found.values(), key=lambda run: (run.since, run.id in mine))
    return tuple(order)


def _newest(statuses: Any) -> float:
    rows = statuses if isinstance(statuses, list) else []
    times = [row.get("timestamp") for row in rows if isinstance(row, dict)]
    return max([float(t) for t in times if isinstance(t, (int, float))], default=0.0)


def etcd_tasks_of(data: Any) -> dict[str, str]:
    """`pod status --json`: etcd pod → ID of its peer task (empty where it has none yet)."""
    pods = data.get("pods") if isinstance(data, dict) else None
    found = {}
    for kind in _rows(pods, "pod status"):
        if kind.get("name") != "etcd":
            continue
        for pod in _rows(kind.get("instances"), "pod status: instances"):
            name = _text(pod, "name", "pod status")
            tasks = _rows(pod.get("tasks"), "pod status: tasks")
            peer = [t for t in tasks if t.get("name") == f"{name}-peer"]
            found[name] = str(peer[0].get("id", "")) if peer else ""
    return found


def plan_of(name: str, data: Any) -> PlanStatus:
    """`plan status NAME --json`: the status, etcd's steps, and whether others have begun."""
    if not isinstance(data, dict):
        raise UsageError(f"plan status {name}: no object", _shown(data))
    steps = dict[str, str]()
    later = False
    for phase in _rows(data.get("phases"), f"plan status {name}: phases"):
        for step in _rows(phase.get("steps"), f"plan status {name}: steps"):
            step_name, status = _text(step, "name", name), _text(step, "status", name)
            if step_name.startswith("etcd-"):
                steps[step_name] = status
            elif status not in ("PENDING", "WAITING", "DELAYED"):
                later = True
    errors = data.get("errors") or []
    told = tuple(str(error)[:300] for error in errors) if isinstance(errors, list) else ()
    return PlanStatus(name, _text(data, "status", name), tuple(steps.items()), later, told)


def option_of(data: Any) -> bool | None:
    """`describe`: the option kubernetes.high_availability, None where it is not said."""
    options = data.get("kubernetes") if isinstance(data, dict) else None
    value = options.get("high_availability") if isinstance(options, dict) else None
    return value if isinstance(value, bool) else None


def version_of(data: Any, service: str) -> str | None:
    """`package list --json`: the version of the service's package; None where it is not there."""
    for row in _rows(data, "package list"):
        apps = row.get("apps")
        if isinstance(apps, list) and f"/{service}" in apps:
            return str(row.get("version", ""))
    return None


def services_of(data: Any) -> list[str]:
    """`package list --json`: names of the services of the package `kubernetes`."""
    rows = [row for row in _rows(data, "package list") if row.get("name") == "kubernetes"]
    return [str(app).lstrip("/") for row in rows for app in row.get("apps") or []]


def etcd_answer(data: bytes, linearizable: bool) -> EtcdAnswer | None:
    """`etcdctl get … --count-only -w fields`, or None where no such answer is among the lines.

    `find -exec` prints nothing and ends well where it finds no etcdctl, and twice where it finds
    two; so the exit code says nothing, and the last answer counts.
    """
    found = {
        match[1].decode(): int(match[2]) for line in data.splitlines()
        if (match := _FIELD.fullmatch(line.strip()))
    }  # fmt: skip
    if not {"Revision", "Count"} <= set(found):
        return None
    member, cluster = (_id(found.get(name)) for name in ("MemberID", "ClusterID"))
    return EtcdAnswer(linearizable, found["Revision"], found["Count"], member, cluster)


def voters_of(data: bytes) -> int:
    """`etcdctl member list -w json`: how many voters; 0 where no such answer came."""
    for row in reversed(list(_json_lines(data))):
        members = row.get("members")
        if isinstance(members, list):
            return sum(isinstance(m, dict) and not m.get("isLearner") for m in members)
    return 0


def replaced(data: Any, pod: str) -> tuple[str, ...]:
    """`pod replace`'s answer: the tasks of exactly this pod. Raises UsageError for another's."""
    tasks = data.get("tasks") if isinstance(data, dict) else None
    if not isinstance(tasks, list) or data.get("pod") != pod:
        raise UsageError(f"pod replace {pod}: another answer came", _shown(data))
    return tuple(str(task) for task in tasks)


def _json_lines(data: bytes) -> Iterator[Mapping[str, Any]]:
    for line in data.splitlines():
        if line.strip().startswith(b"{"):
            try:
                value = parse_json(line, "etcdctl")
            except UsageError:
                continue
            if isinstance(value, dict):
                yield value


def _id(value: Any) -> str:
    return f"{value:016x}" if isinstance(value, int) and value >= 0 else ""


def _rows(data: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise UsageError(f"{where}: no list of objects", _shown(data))
    return data


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise UsageError(f"{where}: no {key}", _shown(row))
    return value


def _shown(data: Any) -> str:
    return f"came: {str(data)[:200]}"
