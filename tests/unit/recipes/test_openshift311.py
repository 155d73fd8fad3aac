"""Plans on OpenShift 3.11: what every remaining host gets, how a master leaves, what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.errors import Refused
from agent.model.facts import Observation
from agent.model.facts.openshift311 import Component, Master311
from agent.model.plan import Plan, Step
from agent.recipes.cluster import Cluster
from agent.recipes.invariants import check_plan
from agent.recipes.replace_member import remove_member
from agent.recipes.retire_master import Retiring, retire_master
from tests.unit.builders import Lab
from tests.unit.recipes.making import NOW, as_text, cluster_of

LB = ("lb", "10.0.0.9")
URLS = tuple(f"10.0.0.{n}" for n in (1, 2, 3))


def master(seen: Observation, first: bool = False) -> Observation:
    """The host as one of OpenShift 3.11, its settings in a file of their own."""
    survey = seen.survey
    if survey is None:
        return seen
    config = survey.config
    assert config is not None
    components = (
        Component("api", "/etc/origin/node/pods/apiserver.yaml", 8443),
        Component("controllers", "/etc/origin/node/pods/controller.yaml", 8444),
    )
    files = ("/etc/origin/master/ca.serial.txt", "/etc/etcd/ca") if first else ()
    had = Master311(True, components, files, "/etc/sysconfig/flanneld", URLS, seen.host)
    config = replace(config, files=(config.definition, "/etc/etcd/etcd.conf"))
    new = replace(survey, platform="openshift311", config=config, master311=had)
    return replace(seen, survey=new)


def masters(*seen: Observation) -> list[Observation]:
    return [master(one, first=number == 0) for number, one in enumerate(seen)]


def sound(plan: Plan, cluster: Cluster) -> str:
    assert check_plan(plan, cluster) == ()
    return as_text(plan)


REMAINING = """\
{0}: set_conf_members
{1}: set_conf_members
{0}: set_flannel_endpoints
{1}: set_flannel_endpoints
{0}: restart_master restart_master
{1}: restart_master restart_master"""


def test_a_lost_master_leaves_every_remaining_one() -> None:
    lab = Lab(3)
    hosts = masters(lab.healthy(0), lab.healthy(1), lab.unreachable(2))
    cluster = cluster_of(hosts, "master-3")
    plan = remove_member(cluster, "master-3", NOW)
    text = sound(plan, cluster)
    acting, _, rest = text.partition("\n")
    assert acting.endswith("member_remove")
    assert rest == REMAINING.format("master-1", "master-2")
    flannel = next(s for s in plan.steps() if s.action == "set_flannel_endpoints")
    assert "10.0.0.3" in flannel.args["gone"]
    assert "10.0.0.1" not in flannel.args["gone"]


def test_a_host_that_does_not_answer_waits_for_resume_and_is_named() -> None:
    lab = Lab(5)
    hosts = masters(*(lab.healthy(n) for n in range(3)), lab.unreachable(3), lab.unreachable(4))
    cluster = cluster_of(hosts, "master-5")
    plan = remove_member(cluster, "master-5", NOW)
    assert check_plan(plan, cluster) == ()
    waiting = [s for s in plan.stages if s.waits_for == ("master-4",)]
    assert [step.action for stage in waiting for step in stage.steps] == ["set_conf_members"]
    assert any(text.startswith("master-4 was not surveyed") for text in plan.losses)


RETIRED = """\
master-1: check_ca_files master-2: install_ca_files
lb: remove_backend
{through}: drain_node
master-1: park_master
{through}: verify_endpoints
master-1: fence {through}: member_remove
""" + REMAINING.format("master-2", "master-3")


def test_a_master_leaves_in_order() -> None:
    lab = Lab(3)
    cluster = cluster_of(masters(*(lab.healthy(n) for n in range(3))))
    plan = retire_master(cluster, "master-1", NOW, Retiring(LB))
    through = next(s.host for s in plan.steps() if s.action == "drain_node")
    assert sound(plan, cluster) == RETIRED.format(through=through)
    assert plan.hosts["lb"] == "10.0.0.9"
    assert plan.promise.voters == ("master-2", "master-3")
    assert plan.losses[0].startswith("2 masters are left")
    final = [s.action for s in plan.steps() if s.final]
    assert final[0] == "member_remove"


def test_its_etcd_may_stay() -> None:
    lab = Lab(3)
    cluster = cluster_of(masters(*(lab.healthy(n) for n in range(3))))
    plan = retire_master(cluster, "master-2", NOW, Retiring(None, keep_etcd=True))
    text = sound(plan, cluster)
    assert "fence" not in text
    assert "remove_backend" not in text
    assert plan.promise.voters == ("master-1", "master-2", "master-3")


def test_what_is_refused() -> None:
    two = Lab(2)
    cluster = cluster_of(masters(two.healthy(0), two.healthy(1)))
    with pytest.raises(Refused, match="2 masters that can be seen"):
        retire_master(cluster, "master-1", NOW, Retiring(LB))
    assert (
        check_plan(retire_master(cluster, "master-1", NOW, Retiring(LB, few=True)), cluster) == ()
    )
    lab = Lab(3)
    hosts = masters(lab.healthy(0), lab.healthy(1), lab.corrupt(2))
    cluster = cluster_of(hosts)
    with pytest.raises(Refused) as error:
        retire_master(cluster, "master-1", NOW, Retiring(LB))
    assert "--keep-etcd" in error.value.next
    assert check_plan(
        retire_master(cluster, "master-1", NOW, Retiring(LB, keep_etcd=True)), cluster
    ) == ()  # fmt: skip
    bare = [
        replace(h, survey=replace(h.survey, master311=Master311(True))) if h.survey else h
        for h in hosts
    ]
    with pytest.raises(Refused, match="neither API nor controllers"):
        retire_master(cluster_of(bare), "master-1", NOW, Retiring(LB))


def _without(plan: Plan, action: str) -> Plan:
    stages = tuple(
        replace(stage, steps=tuple(s for s in stage.steps if s.action != action))
        for stage in plan.stages
    )
    return replace(plan, stages=stages).with_id()


@pytest.mark.parametrize(
    ("action", "broken"),
    [
        ("remove_backend", "to which the load balancer still sends"),
        ("install_ca_files", "before another master has its CA files"),
        ("check_ca_files", "at which nobody looked"),
        ("park_master", "no master was stopped"),
        ("fence", "neither fenced nor declared lost"),
    ],
)
def test_a_plan_without_one_of_its_steps_is_not_sound(action: str, broken: str) -> None:
    lab = Lab(3)
    cluster = cluster_of(masters(*(lab.healthy(n) for n in range(3))))
    plan = retire_master(cluster, "master-1", NOW, Retiring(LB))
    assert any(broken in text for text in check_plan(_without(plan, action), cluster))


def test_flannel_never_loses_a_member() -> None:
    lab = Lab(3)
    cluster = cluster_of(masters(lab.healthy(0), lab.healthy(1), lab.unreachable(2)), "master-3")
    plan = remove_member(cluster, "master-3", NOW)

    def wrong(step: Step) -> Step:
        if step.action != "set_flannel_endpoints":
            return step
        return replace(step, args={"gone": ["10.0.0.3", "master-2"]})

    stages = tuple(replace(s, steps=tuple(map(wrong, s.steps))) for s in plan.stages)
    found = check_plan(replace(plan, stages=stages).with_id(), cluster)
    assert any("which is a member" in text for text in found)
