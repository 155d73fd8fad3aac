"""Plans on OpenShift 4: the operator brings members back, and the API's part can wait."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.errors import Refused
from agent.model.facts import Container, EtcdConfig, Runtime, Survey
from agent.model.plan import KUBERNETES_API, Plan
from agent.recipes.choosing import plan_of
from agent.recipes.cluster import Cluster
from agent.recipes.invariants import check_plan
from agent.recipes.openshift4 import is_openshift4, reason_of, rescue_member, stamp_of
from agent.recipes.reseed import reseed
from tests.unit.builders import Lab
from tests.unit.recipes.making import NOW, as_text, cluster_of


class OpenShiftLab(Lab):
    """The same hosts in OpenShift's layout."""

    def config(self, number: int, **given: Any) -> EtcdConfig:
        manifest = "/etc/kubernetes/manifests/etcd-pod.yaml"
        values = {"definition": manifest, "scripted": True, "initial_cluster": (), **given}
        return super().config(number, **values)

    def survey(self, number: int, **given: Any) -> Survey:
        return super().survey(number, **{"platform": "openshift4", **given})


LAB = OpenShiftLab(3)


def one_corrupt() -> Cluster:
    return cluster_of([LAB.healthy(0), LAB.healthy(1), LAB.corrupt(2)])


def args_of(plan: Plan, action: str, number: int = 0) -> dict[str, object]:
    return [s.args for s in plan.steps() if s.action == action][number]


def test_a_crash_looping_member_is_brought_back_by_the_operator() -> None:
    cluster = one_corrupt()
    plan = rescue_member(cluster, "master-3", NOW)
    assert check_plan(plan, cluster) == ()
    assert as_text(plan) == "\n".join(
        [
            "master-1: check_api master-3: preflight master-1: take_backup_set",
            "master-3: fence master-1: member_remove master-3: relocate_data",
            "master-1: set_quorum_guard delete_member_secrets force_redeployment "
            "master-3: await_member master-1: wait_etcd_rollout set_quorum_guard "
            "master-3: lift_fence",
        ]
    )
    assert plan.stages[2].waits_for == (KUBERNETES_API, "master-3")
    assert args_of(plan, "delete_member_secrets") == {"node": "master-3"}
    rollout = args_of(plan, "wait_etcd_rollout")
    assert (rollout["nodes"], rollout["members"]) == (["master-1", "master-2", "master-3"], 3)
    assert rollout["reason"] == args_of(plan, "force_redeployment")["reason"]
    assert [args_of(plan, "set_quorum_guard", n)["enabled"] for n in (0, 1)] == [False, True]
    assert plan.promise.voters == ("master-1", "master-2", "master-3")


def test_rescue_node_takes_this_way_there_and_only_there() -> None:
    cluster = one_corrupt()
    plan = plan_of(cluster.observations, "replace-member", "master-3", NOW)
    assert "await_member" in as_text(plan)
    kubeadm = Lab(3)
    hosts = [kubeadm.healthy(0), kubeadm.healthy(1), kubeadm.corrupt(2)]
    assert not is_openshift4(cluster_of(hosts))
    assert "prejoin" in as_text(plan_of(hosts, "replace-member", "master-3", NOW))


def test_a_second_ill_member_is_repaired_first() -> None:
    five = OpenShiftLab(5)
    hosts = [five.healthy(n) for n in range(3)] + [five.corrupt(3), five.corrupt(4)]
    with pytest.raises(Refused, match="master-4") as error:
        rescue_member(cluster_of(hosts), "master-5", NOW)
    assert error.value.next == "fab rescue-node master-4"


def test_each_reason_is_new_and_says_when() -> None:
    assert reason_of("recovery", 1790000000.25) == "recovery-2026-09-21T14:13:20.250000000+00:00"
    assert reason_of("a", NOW) != reason_of("a", NOW + 1e-6)
    assert stamp_of(1790000000.9) == "2026-09-21_141320"


def test_a_lost_quorum_ends_with_a_part_that_waits_for_the_api() -> None:
    hosts = [LAB.no_quorum(0), LAB.wiped(1), LAB.corrupt(2)]
    cluster = cluster_of(hosts)
    plan = reseed(cluster, NOW)
    assert check_plan(plan, cluster) == ()
    last = plan.stages[-1]
    assert [s.action for s in last.steps] == [
        "set_quorum_guard", "force_redeployment", "wait_etcd_rollout", "set_quorum_guard",
    ]  # fmt: skip
    assert last.waits_for == (KUBERNETES_API, "master-2", "master-3")
    assert last.without_api() == (KUBERNETES_API,)
    assert "set_initial_cluster" not in as_text(plan)  # the script finds its members itself


def test_no_flag_is_written_into_a_script() -> None:
    cluster = cluster_of([LAB.no_quorum(0), LAB.wiped(1), LAB.corrupt(2)])
    with pytest.raises(Refused, match="shell script"):
        reseed(cluster, NOW, in_manifest=True)


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("take_backup_set", "before a backup was taken"),
        ("fence", "which this plan has not fenced"),
        ("relocate_data", "with its old data in place"),
        ("member_remove", "whose old one is still there"),
        ("force_redeployment", "nobody told anything"),
        ("await_member", "is promised and is no voter"),
        ("lift_fence", "is not lifted"),
    ],
)
def test_what_is_left_out_is_missed(action: str, said: str) -> None:
    cluster = one_corrupt()
    plan = rescue_member(cluster, "master-3", NOW)
    stages = tuple(
        replace(stage, steps=tuple(s for s in stage.steps if s.action != action))
        for stage in plan.stages
    )
    broken = "; ".join(check_plan(replace(plan, stages=stages).with_id(), cluster))
    assert said in broken


def test_a_container_that_only_waits_is_no_etcd_that_runs() -> None:
    waiting = Runtime(True, (Container("c", "s", "running", created=NOW - 5),), 1)
    hosts = [LAB.no_quorum(0), LAB.wiped(1, runtime=waiting), LAB.corrupt(2, runtime=waiting)]
    assert cluster_of(hosts).diagnosis.recipe == "reseed"
    kubeadm = Lab(3)
    hosts = [kubeadm.no_quorum(0), kubeadm.corrupt(1, runtime=waiting), kubeadm.corrupt(2)]
    second = cluster_of(hosts).diagnosis.member("master-2")
    assert second is not None
    assert second.runs
