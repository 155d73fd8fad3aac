"""OpenShift's machines: a new one out of an old one, who makes it, and what is refused."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import Refused
from agent.model.facts.openshift4 import REPLACES, ApiFacts, MachineFacts, NodeFacts
from agent.model.plan import Plan, Step
from agent.recipes.invariants import check_plan
from agent.recipes.openshift4_machine import find_place, replace_machine, secrets_of
from agent.recipes.openshift4_new_machine import difference, free_name, mentions, new_machine
from tests.unit.builders import Lab
from tests.unit.recipes.making import NOW, as_text, cluster_of

FIXTURES = Path(__file__).parents[4] / "shared/fixtures/machine-yaml"
Object = dict[str, Any]

OLD: Object = {
    "apiVersion": "machine.openshift.io/v1beta1",
    "kind": "Machine",
    "metadata": {
        "name": "prod-8qw5l-master-1",
        "namespace": "openshift-machine-api",
        "uid": "1f8e",
        "resourceVersion": "140998860",
        "generation": 3,
        "creationTimestamp": "2025-03-13T23:51:45Z",
        "selfLink": "/apis/machine.openshift.io/v1beta1/…",
        "managedFields": [{"manager": "machine-controller"}],
        "finalizers": ["machine.machine.openshift.io"],
        "annotations": {"machine.openshift.io/instance-state": "stopped",
                        "metal3.io/BareMetalHost": "openshift-machine-api/host-1"},
        "labels": {"machine.openshift.io/cluster-api-machine-role": "master", "theirs": "kept"},
    },
    "spec": {
        "lifecycleHooks": {
            "preDrain": [{"name": "EtcdQuorumOperator", "owner": "clusteroperator/etcd"},
                         {"name": "Mine", "owner": "team/storage"}],
        },
        "metadata": {},
        "providerID": "aws:///us-east-1a/i-0fdb85790d76d0c3f",
        "providerSpec": {"value": {"instanceType": "m5.xlarge", "tags": [{"name": "a"}]}},
        "taints": [{"key": "node-role.kubernetes.io/master", "effect": "NoSchedule"}],
    },
    "status": {"phase": "Running", "nodeRef": {"name": "master-1"}},
}  # fmt: skip


# ---- the object --------------------------------------------------------------------------------


def test_a_new_machine_has_nothing_of_the_servers() -> None:
    before = deepcopy(OLD)
    made = new_machine(OLD, "prod-8qw5l-master-3")
    assert before == OLD
    assert made == {
        "apiVersion": "machine.openshift.io/v1beta1",
        "kind": "Machine",
        "metadata": {
            "name": "prod-8qw5l-master-3",
            "namespace": "openshift-machine-api",
            "annotations": {REPLACES: "1f8e"},
            "labels": OLD["metadata"]["labels"],
        },
        "spec": {
            "lifecycleHooks": {"preDrain": [{"name": "Mine", "owner": "team/storage"}]},
            "metadata": {},
            "providerSpec": OLD["spec"]["providerSpec"],
            "taints": OLD["spec"]["taints"],
        },
    }


def real_machines() -> list[Any]:
    """Machines as others have them; what is no whole document is left out."""
    found = []
    for path in sorted(FIXTURES.glob("*")) if FIXTURES.is_dir() else ():
        text = path.read_text()
        if path.suffix != ".txt":
            found.append(json.loads(text) if path.suffix == ".json" else yaml.safe_load(text))
    return found


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="no machines of others here")
def test_machines_of_others_are_made_anew() -> None:
    machines = real_machines()
    assert len(machines) >= 4
    for old in machines:
        name = old["metadata"]["name"]
        taken = [f"{name[:-1]}{n}" for n in range(3)]
        made = new_machine(old, free_name(name, taken))
        assert made["metadata"]["name"] == f"{name[:-1]}3"
        assert set(made) == {"apiVersion", "kind", "metadata", "spec"}
        assert set(made["metadata"]) == {"name", "namespace", "labels", "annotations"}
        assert set(made["metadata"]["annotations"]) == {REPLACES}
        assert not {"providerID", "lifecycleHooks"} & set(made["spec"])
        assert made["spec"]["providerSpec"] == old["spec"]["providerSpec"]
        assert mentions(made, name) == []


@pytest.mark.parametrize("old", [{}, {"kind": "Node", "metadata": {}, "spec": {}},
                                 {"kind": "Machine", "metadata": None, "spec": {}}])  # fmt: skip
def test_what_is_no_machine_is_refused(old: Object) -> None:
    with pytest.raises(Refused):
        new_machine(old, "x")


@pytest.mark.parametrize(
    ("old", "taken", "free"),
    [
        ("c-master-0", ["c-master-0", "c-master-1", "c-master-2"], "c-master-3"),
        ("c-master-0", ["c-master-0", "c-master-3"], "c-master-4"),
        ("c-master-1", ["c-master-1"], "c-master-2"),
        ("c-master-9", ["c-master-9", "c-master-10"], "c-master-11"),
        ("c-master-0", ["c-master-0", "c-masters-7", "d-master-8", "c-master-x"], "c-master-1"),
        ("c-master", ["c-master"], "c-master-0"),
        ("c-master", ["c-master", "c-master-0"], "c-master-1"),
        ("c-master-x7k2p-1", ["c-master-x7k2p-1", "c-master-abcde-2"], "c-master-x7k2p-2"),
    ],
)
def test_the_next_free_number(old: str, taken: list[str], free: str) -> None:
    assert free_name(old, taken) == free


@given(
    st.from_regex(r"[a-z]{1,8}-master-\d{1,3}", fullmatch=True),
    st.lists(st.from_regex(r"[a-z]{1,8}-master-\d{1,3}", fullmatch=True)),
)
def test_a_free_name_is_free(old: str, taken: list[str]) -> None:
    assert free_name(old, taken) not in {old, *taken}


def test_a_name_that_would_be_too_long_is_refused() -> None:
    with pytest.raises(Refused, match="63"):
        free_name(f"{'a' * 61}-9", [])


def test_every_change_is_shown() -> None:
    lines = difference(OLD, new_machine(OLD, "prod-8qw5l-master-3"))
    assert '- metadata.name: "prod-8qw5l-master-1"' in lines
    assert '+ metadata.name: "prod-8qw5l-master-3"' in lines
    assert any(line.startswith("- status: ") for line in lines)
    assert any(line.startswith("- spec.providerID: ") for line in lines)
    assert not any("providerSpec" in line for line in lines)


@given(st.recursive(st.integers() | st.text(max_size=3), lambda inner: st.dictionaries(
    st.text(max_size=3), inner, max_size=3)))  # fmt: skip
def test_the_same_has_no_difference(value: Any) -> None:
    assert difference({"a": value}, {"a": deepcopy(value)}) == []
    assert difference({"a": value}, {"a": [value]}) != []


def test_where_the_old_name_is_still_said_is_told() -> None:
    old = deepcopy(OLD)
    old["spec"]["providerSpec"]["value"]["nics"] = [{"port": "nic-of prod-8qw5l-master-1"}]
    old["spec"]["providerSpec"]["value"]["other"] = "prod-8qw5l-master-10"
    made = new_machine(old, "prod-8qw5l-master-3")
    assert mentions(made, "prod-8qw5l-master-1") == ["spec.providerSpec.value.nics[0].port"]


# ---- whose place, and who fills it -------------------------------------------------------------


def machine(node: str, index: int, **more: Any) -> MachineFacts:
    made = deepcopy(OLD)
    made["metadata"] |= {"name": f"prod-8qw5l-master-{index}", "uid": f"uid-{index}"}
    facts = MachineFacts(f"prod-8qw5l-master-{index}", f"uid-{index}", "Running", node, "master",
                         made)  # fmt: skip
    return replace(facts, **more)


def api(lab: Lab, dead: int = 1, **more: Any) -> ApiFacts:
    names = [lab.host(i) for i in range(lab.size)]
    roles = ("etcd-peer-", "etcd-serving-", "etcd-serving-metrics-")
    facts = ApiFacts(
        machines=tuple(machine(name, i) for i, name in enumerate(names)),
        nodes=tuple(NodeFacts(n, "True" if i != dead else "Unknown", True)
                    for i, n in enumerate(names)),
        secrets=tuple(sorted(role + name for role in roles for name in [*names, f"{names[1]}0"])),
    )  # fmt: skip
    return replace(facts, **more)


def plan_for(lab: Lab, facts: ApiFacts, name: str = "", off: tuple[int, ...] = (1,)) -> Plan:
    cluster = cluster_of(
        [lab.unreachable(i) if i in off else lab.healthy(i) for i in range(lab.size)]
    )
    place = find_place(cluster, facts, name or lab.host(1))
    plan = replace_machine(cluster, facts, place, NOW)
    assert check_plan(plan, cluster) == ()
    return plan


def step(plan: Plan, action: str) -> Step:
    (found,) = [s for s in plan.steps() if s.action == action]
    return found


WHOLE = """\
{acting}: check_api take_backup_set
{acting}: member_remove
{acting}: delete_member_secrets
{acting}: delete_machine
{acting}: apply_machine
{acting}: wait_machine
{acting}: force_redeployment set_quorum_guard wait_etcd_rollout set_quorum_guard"""


@pytest.mark.parametrize("size", [3, 5])
def test_procedure_a(size: int) -> None:
    lab = Lab(size)
    plan = plan_for(lab, api(lab))
    acting = plan.steps()[0].host
    assert as_text(plan) == WHOLE.format(acting=acting)
    assert acting != lab.host(1)
    assert step(plan, "delete_member_secrets").args == {"node": lab.host(1)}
    assert step(plan, "delete_machine").args["uid"] == "uid-1"
    made = step(plan, "apply_machine").args
    assert made["machine"]["metadata"]["name"] == f"prod-8qw5l-master-{size}"
    assert made["replaces"] == "uid-1"
    assert step(plan, "wait_etcd_rollout").args["members"] == size
    assert step(plan, "force_redeployment").args["reason"].startswith("recovery-")
    assert lab.host(1) not in plan.promise.voters


@pytest.mark.parametrize("name", ["prod-8qw5l-master-1", ""])
def test_a_place_has_several_names(name: str) -> None:
    lab = Lab(3)
    cluster = cluster_of([lab.healthy(0), lab.unreachable(1), lab.healthy(2)])
    place = find_place(cluster, api(lab), name or lab.host(1))
    assert place.node == lab.host(1)
    assert place.machine is not None
    assert place.machine.uid == "uid-1"
    with pytest.raises(Refused):
        find_place(cluster, api(lab), "nobody")


def test_a_set_makes_the_machine_itself() -> None:
    lab = Lab(3)
    owned = tuple(replace(m, owners=("ControlPlaneMachineSet/cluster",)) for m in api(lab).machines)
    plan = plan_for(lab, api(lab, machines=owned, sets=("cluster",)))
    actions = [s.action for s in plan.steps()]
    assert "apply_machine" not in actions
    assert actions.index("delete_machine") + 1 == actions.index("wait_machine")
    assert step(plan, "wait_machine").args["known"] == sorted(m.name for m in owned)
    inactive = plan_for(lab, api(lab, machines=owned, sets=()))
    assert "apply_machine" in [s.action for s in inactive.steps()]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"machines": (), "has_machines": False}, "no machine API made"),
        ({"cluster_api": {"capi/m1": "master-1"}, "machines": ()}, "Cluster API manages"),
        ({"manager": "ClusterAPI"}, "Cluster API manages"),
    ],
)
def test_machines_that_are_not_ours_to_make_are_waited_for(more: Object, told: str) -> None:
    lab = Lab(3)
    manager = more.get("manager", "")
    rest = {k: v for k, v in more.items() if k != "manager"}
    if "cluster_api" in rest:
        rest["cluster_api"] = {"capi/m1": lab.host(1)}
    facts = api(lab, **rest)
    facts = replace(facts, machines=tuple(replace(m, manager=manager) for m in facts.machines))
    plan = plan_for(lab, facts)
    assert not {"delete_machine", "apply_machine"} & {s.action for s in plan.steps()}
    assert told in step(plan, "wait_control_plane").args["todo"]
    assert step(plan, "wait_control_plane").args["count"] == 3


def test_secrets_of_a_similar_name_are_not_among_them() -> None:
    lab = Lab(3)
    name = lab.host(1)
    assert secrets_of(api(lab), name) == [
        f"etcd-peer-{name}", f"etcd-serving-{name}", f"etcd-serving-metrics-{name}",
    ]  # fmt: skip


# ---- refusals ----------------------------------------------------------------------------------


def test_a_second_member_that_is_ill_makes_it_refuse() -> None:
    lab = Lab(5)
    with pytest.raises(Refused, match=lab.host(3)) as caught:
        plan_for(lab, api(lab), off=(1, 3))
    assert caught.value.next == f"fab rescue-node {lab.host(3)}"


def test_a_member_that_serves_makes_it_refuse() -> None:
    lab = Lab(3)
    with pytest.raises(Refused, match=lab.host(1)):
        plan_for(lab, api(lab), off=())


def test_a_node_that_is_ready_makes_it_refuse() -> None:
    lab = Lab(3)
    with pytest.raises(Refused, match="its node is ready"):
        plan_for(lab, api(lab, dead=-1))
    stopped = tuple(replace(m, phase="Failed") for m in api(lab).machines)
    plan_for(lab, api(lab, dead=-1, machines=stopped))


def test_a_worker_makes_it_refuse() -> None:
    lab = Lab(3)
    nodes = tuple(replace(n, is_control_plane=False) for n in api(lab).nodes)
    with pytest.raises(Refused, match="no control-plane node"):
        plan_for(lab, api(lab, nodes=nodes))


# ---- the rules ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "args", "told"),
    [
        ("delete_machine", {"uid": ""}, "not named by name and UID"),
        ("delete_machine", {"node": "MEMBER"}, "which is a member"),
        ("apply_machine", {"replaces": "other"}, "was not deleted"),
        ("apply_machine", {"machine": {"kind": "Machine", "metadata": {"uid": "x"}, "spec": {}}},
         "only the server may: uid"),
        ("apply_machine", {"machine": {"kind": "Node"}}, "no machine"),
        ("delete_member_secrets", {"node": "MEMBER"}, "which is a member"),
        ("force_redeployment", {"reason": ""}, "without a reason"),
        ("wait_control_plane", {"count": 0}, "waits for 0"),
    ],
)  # fmt: skip
def test_a_plan_made_by_hand_is_held_to_the_rules(action: str, args: Object, told: str) -> None:
    lab = Lab(3)
    facts = (
        api(lab, machines=(), has_machines=False) if action == "wait_control_plane" else api(lab)
    )
    cluster = cluster_of([lab.healthy(0), lab.unreachable(1), lab.healthy(2)])
    plan = replace_machine(cluster, facts, find_place(cluster, facts, lab.host(1)), NOW)
    args = {k: cluster.name(lab.host(0)) if v == "MEMBER" else v for k, v in args.items()}
    changed = replace(plan, stages=tuple(
        replace(stage, steps=tuple(
            replace(s, args={**s.args, **args}) if s.action == action else s for s in stage.steps
        )) for stage in plan.stages
    ))  # fmt: skip
    assert any(told in text for text in check_plan(changed, cluster))


@pytest.mark.parametrize("left_out", ["take_backup_set", "check_api", "member_remove"])
def test_nothing_may_be_left_out(left_out: str) -> None:
    lab = Lab(3)
    cluster = cluster_of([lab.healthy(0), lab.unreachable(1), lab.healthy(2)])
    facts = api(lab)
    plan = replace_machine(cluster, facts, find_place(cluster, facts, lab.host(1)), NOW)
    changed = replace(plan, stages=tuple(
        replace(stage, steps=tuple(s for s in stage.steps if s.action != left_out))
        for stage in plan.stages
    ))  # fmt: skip
    assert check_plan(changed, cluster)
