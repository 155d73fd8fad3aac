"""What `dcos` prints: documented shapes, and any other."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import UsageError
from coordinator.dcos import answers
from coordinator.dcos.model import Agent

NODES = [
    {"TASK_RUNNING": 3, "active": True, "attributes": {}, "hostname": "dcos-01", "id": "S0"},
    {"type": "agent", "active": False, "hostname": "dcos-02", "id": "S1"},
    {"type": "master (leader)", "hostname": "master.mesos.", "ip": "192.0.2.1"},
]
TASKS: list[dict[str, Any]] = [
    {"id": "kubernetes__etcd-0-peer__1", "name": "etcd-0-peer", "slave_id": "S0",
     "state": "TASK_RUNNING", "statuses": [{"state": "TASK_RUNNING", "timestamp": 5.5}]},
    {"id": "etcd-1-peer__2", "name": "etcd-1-peer", "slave_id": "S1", "state": "TASK_FAILED",
     "statuses": []},
    {"id": "other__etcd-0-peer__1", "name": "etcd-0-peer", "slave_id": "S0",
     "state": "TASK_RUNNING"},
]  # fmt: skip
PODS = {
    "service": "kubernetes",
    "pods": [
        {"name": "etcd", "instances": [
            {"name": "etcd-0", "tasks": [{"name": "etcd-0-peer", "id": "kubernetes__etcd-0-peer__1",
                                          "status": "RUNNING"}]},
            {"name": "etcd-1", "tasks": [{"name": "etcd-1-recover", "id": "x", "status": "ONCE"},
                                         {"name": "etcd-1-peer", "id": "etcd-1-peer__2"}]},
            {"name": "etcd-2", "tasks": []},
        ]},
        {"name": "kube-apiserver", "instances": []},
    ],
}  # fmt: skip
PLAN = {
    "phases": [
        {"name": "etcd", "steps": [{"name": "etcd-0:[peer]", "status": "COMPLETE"}]},
        {"name": "apiserver", "steps": [{"name": "kube-apiserver-0:[instance]",
                                         "status": "PENDING"}]},
    ],
    "errors": [], "status": "IN_PROGRESS", "strategy": "serial",
}  # fmt: skip


def test_documented_answers() -> None:
    assert answers.agents_of(NODES) == (
        Agent("S0", "dcos-01", True), Agent("S1", "dcos-02", False),
    )  # fmt: skip
    tasks = answers.etcd_tasks_of(PODS)
    assert tasks == {
        "etcd-0": "kubernetes__etcd-0-peer__1", "etcd-1": "etcd-1-peer__2", "etcd-2": "",
    }  # fmt: skip
    runs = answers.runs_of([TASKS, TASKS[:1]], "kubernetes", tasks.values())
    assert {run.id for run in runs} == {TASKS[0]["id"], TASKS[1]["id"]}, "another service's, twice"
    plan = answers.plan_of("deploy", PLAN)
    assert (plan.status, plan.etcd, plan.later) == (
        "IN_PROGRESS", (("etcd-0:[peer]", "COMPLETE"),), False,
    )  # fmt: skip
    assert answers.option_of({"kubernetes": {"high_availability": True}}) is True
    assert answers.option_of({"kubernetes": {}}) is None
    listed = [{"apps": ["/kubernetes"], "name": "kubernetes", "version": "1.3.0"}]
    assert answers.version_of(listed, "kubernetes") == "1.3.0"
    assert answers.version_of(listed, "other") is None
    assert answers.replaced({"pod": "etcd-1", "tasks": ["etcd-1-peer"]}, "etcd-1")


def test_etcd_answers_among_other_lines() -> None:
    said = (
        b'noise\n"ClusterID" : 1\n"MemberID" : 255\n"Revision" : 7\n"More" : false\n"Count" : 3\n'
    )
    found = answers.etcd_answer(said, True)
    assert found is not None
    assert (found.revision, found.keys, found.member_id) == (7, 3, "00000000000000ff")
    assert answers.etcd_answer(b"", True) is None
    assert answers.etcd_answer(b"Error: context deadline exceeded", True) is None
    members = {"header": {}, "members": [{"ID": 1}, {"ID": 2}, {"ID": 3, "isLearner": True}]}
    assert answers.voters_of(b"x\n" + json.dumps(members).encode()) == 2
    assert answers.voters_of(b"Error") == 0


@pytest.mark.parametrize(
    ("read", "data"),
    [
        (answers.agents_of, {}), (answers.agents_of, [{"id": "x"}]),
        (answers.agents_of, [{"id": "x", "active": "yes"}]), (answers.etcd_tasks_of, []),
        (answers.etcd_tasks_of, {"pods": [{"name": "etcd"}]}),
        (lambda d: answers.runs_of([d], "s", ()), [{"id": "s__x", "name": 3}]),
        (lambda d: answers.plan_of("deploy", d), {"phases": [{}], "status": "COMPLETE"}),
        (lambda d: answers.plan_of("deploy", d), {"phases": []}),
        (lambda d: answers.replaced(d, "etcd-1"), {"pod": "etcd-0", "tasks": []}),
    ],
)  # fmt: skip
def test_other_shapes_are_refused(read: Any, data: Any) -> None:
    with pytest.raises(UsageError) as caught:
        read(data)
    assert "came" in caught.value.why


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(("id", "name", "pods", "instances", "tasks", "phases", "steps", "status",
                         "statuses", "apps", "active", "kubernetes")), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(JSON)
def test_any_json_is_read_or_refused(data: Any) -> None:
    for read in (
        answers.agents_of, answers.etcd_tasks_of, lambda d: answers.plan_of("deploy", d),
        lambda d: answers.runs_of([d], "s", ()), lambda d: answers.version_of(d, "s"),
        answers.services_of, answers.option_of,
    ):  # fmt: skip
        with contextlib.suppress(UsageError):
            read(data)
