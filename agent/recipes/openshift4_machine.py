"""OpenShift 4: a member whose machine or node is gone; the machine is made anew under a new name.

Procedure A of "Replacing an unhealthy etcd member" in OpenShift's documentation. Who makes the new
machine decides how it ends: we do, from the old object; an active control plane machine set does,
once the old machine is deleted; or somebody else has to, whom the plan waits for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from agent.diagnosis.quorum import quorum_after_remove
from agent.errors import Refused
from agent.model.facts.openshift4 import ApiFacts, MachineFacts, NodeFacts
from agent.model.plan import Plan, Promise, Step
from agent.model.verdict import MemberVerdict
from agent.recipes.builder import PlanBuilder
from agent.recipes.cluster import Cluster
from agent.recipes.openshift4 import BACKUPS, reason_of, stamp_of
from agent.recipes.openshift4_new_machine import Object, free_name, new_machine
from agent.recipes.replace_member import acting_host

RECIPE = "replace-machine"
_SECRETS = ("etcd-peer-", "etcd-serving-", "etcd-serving-metrics-")


@dataclass(frozen=True)
class Place:
    """Whose place is to be filled again.

    node: its name, which is the member's. verdict: of its member; None where etcd has none (any
    more). machine: None where no machine API made it. owner: what makes the new machine: "" for us,
    "set", "cluster-api", or "nobody" for somebody with a screwdriver.
    """

    node: str
    verdict: Optional[MemberVerdict]
    machine: Optional[MachineFacts]
    owner: str


def find_place(cluster: Cluster, api: ApiFacts, name: str) -> Place:
    """The place meant by the name of a node, host, member or machine. Raises Refused for none."""
    machine = next((m for m in api.machines if name in (m.name, m.node)), None)
    node = machine.node if machine and machine.node else name
    known = {n.name for n in api.nodes}
    try:
        verdict: Optional[MemberVerdict] = cluster.verdict(node)
    except Refused:
        if node not in known and machine is None:
            raise
        verdict = None
    if verdict is not None and node not in known:
        node = verdict.name or verdict.host
        machine = machine or next((m for m in api.machines if m.node == node), None)
    machine = machine or _by_annotation(api, node)
    return Place(node, verdict, machine, _owner(api, node, machine))


def _by_annotation(api: ApiFacts, node: str) -> Optional[MachineFacts]:
    """The machine that the node says it is, where the machine does not say so itself."""
    told = next((n.machine for n in api.nodes if n.name == node), "").rpartition("/")[2]
    return next((m for m in api.machines if told and m.name == told), None)


def _owner(api: ApiFacts, node: str, machine: Optional[MachineFacts]) -> str:
    """Who makes the next machine for a place."""
    if (machine and machine.manager == "ClusterAPI") or node in api.cluster_api.values():
        return "cluster-api"
    if machine is None:
        return "nobody"
    if any(owner.startswith("ControlPlaneMachineSet/") for owner in machine.owners) and api.sets:
        return "set"
    return ""


def made_from(api: ApiFacts, machine: MachineFacts) -> Object:
    """The Machine to make in place of one, under a name that no machine and no node has."""
    taken = [m.name for m in api.machines] + [n.name for n in api.nodes]
    return new_machine(machine.object, free_name(machine.name, taken))


def secrets_of(api: ApiFacts, node: str) -> list[str]:
    """Those of the three secrets of a member that there are, by their exact names."""
    return [f"{prefix}{node}" for prefix in _SECRETS if f"{prefix}{node}" in api.secrets]


def replace_machine(cluster: Cluster, api: ApiFacts, place: Place, created: float) -> Plan:
    """Plan procedure A for a place. Raises Refused where it does not fit, or costs the quorum."""
    _require_dead(cluster, api, place)
    others = _require_all_others(cluster, place)
    acting = acting_host(cluster, but=place.verdict.host if place.verdict else "")
    machine = place.machine.name if place.machine else "no machine that is known"
    why = place.verdict.why if place.verdict else "etcd has no member there any more"
    builder = PlanBuilder(RECIPE, f"{place.node} ({machine}): {why}", cluster.addresses)
    builder.stage("See what the API allows, and take a backup", [
        builder.step(acting, "check_api", "a refusal must come before anything is changed",
                     needs=_needs(place)),
        builder.step(acting, "take_backup_set", "there is a way back to how it was",
                     folder=BACKUPS, stamp=stamp_of(created)),
    ])  # fmt: skip
    builder.stage(
        f"Take the member of {place.node} out", _take_out(builder, cluster, place, acting)
    )
    builder.stage(f"Delete the certificates of {place.node}", [
        builder.step(acting, "delete_member_secrets",
                     "the etcd operator issues them anew for members, and keeps those of others",
                     node=place.node),
    ])  # fmt: skip
    _bring_machine(builder, api, place, acting, others + 1)
    _bring_member(builder, acting, reason_of("recovery", created), others + 1)
    promise = Promise(
        tuple(sorted(cluster.serving())),
        cluster.diagnosis.cluster_id,
        cluster.revision(cluster.serving()),
    )
    return builder.build(created, promise)


def _needs(place: Place) -> list[str]:
    needs = ["get secrets", "delete secrets", "get etcds", "patch etcds", "list pods", "list nodes"]
    if place.owner in ("", "set"):
        needs += ["list machines", "delete machines"]
    return [*needs, "create machines"] if place.owner == "" else needs


def _take_out(builder: PlanBuilder, cluster: Cluster, place: Place, acting: str) -> list[Step]:
    verdict = place.verdict
    steps = []
    if verdict is not None and cluster.survey(verdict.host) is not None:
        reason = f"the machine of {place.node} is being replaced: {verdict.why}"
        why = "its etcd must not come back while its machine goes"
        steps.append(builder.step(verdict.host, "fence", why, reason=reason))
    member = cluster.member_of(verdict.host) if verdict else None
    if member is not None:
        steps.append(builder.step(
            acting, "member_remove", "the dead leave before the new one comes",
            id=member.id, name=member.name, peer_urls=member.peer_urls,
        ))  # fmt: skip
    return steps


def _bring_machine(
    builder: PlanBuilder, api: ApiFacts, place: Place, acting: str, count: int
) -> None:
    """Have the machine made anew by whoever makes it."""
    machine = place.machine
    if machine is None or place.owner in ("nobody", "cluster-api"):
        builder.stage("Wait until its host is back", [
            builder.step(acting, "wait_control_plane", "no machine of ours to make",
                         count=count, todo=_todo(place)),
        ])  # fmt: skip
        return
    known = sorted(m.name for m in api.machines)
    builder.stage(f"Delete machine {machine.name}", [
        builder.step(acting, "delete_machine", "its place, disks and addresses become free",
                     name=machine.name, uid=machine.uid, node=place.node),
    ])  # fmt: skip
    name = ""
    if place.owner == "":
        made = made_from(api, machine)
        name = made["metadata"]["name"]
        builder.stage(f"Make machine {name}", [
            builder.step(acting, "apply_machine",
                         f"as {machine.name} was, under the next free name",
                         machine=made, replaces=machine.uid),
        ])  # fmt: skip
    why = "a member needs its node" if name else "the control plane machine set makes it by itself"
    builder.stage("Wait for the new node", [
        builder.step(acting, "wait_machine", why, name=name, known=[] if name else known),
    ])  # fmt: skip


def _todo(place: Place) -> str:
    if place.owner == "cluster-api":
        name = f" {place.machine.name}" if place.machine else ""
        return (
            f"Cluster API manages this machine: delete it there (oc delete "
            f"machines.cluster.x-k8s.io{name}); its owner then makes the new one"
        )
    return (
        f"no machine API made {place.node}: reinstall its host by the method it was made with "
        "(the installer's ISO, PXE, or a clone of a template), under the same name or another"
    )


def _bring_member(builder: PlanBuilder, acting: str, reason: str, count: int) -> None:
    by_itself = f"only where {count} etcd pods do not come by themselves"
    builder.stage("Bring etcd there", [
        builder.step(acting, "force_redeployment", by_itself, reason=reason, unless_pods=count),
        builder.step(acting, "set_quorum_guard", by_itself, enabled=False, unless_pods=count),
        builder.step(acting, "wait_etcd_rollout", f"{count} members must serve in the end",
                     reason="", nodes=[], members=count),
        builder.step(acting, "set_quorum_guard", "as it was", enabled=True),
    ])  # fmt: skip


# ---- what it is refused for ----------------------------------------------------------------------


def _require_all_others(cluster: Cluster, place: Place) -> int:
    """How many other voters there are. Raises Refused where one of them does not serve."""
    host = place.verdict.host if place.verdict else ""
    members = [m for m in cluster.diagnosis.members if m.id and m.host != host]
    ill = next((m for m in members if not m.serves or not m.voter), None)
    if ill is not None:
        what = ill.why if ill.voter else f"it is a learner: {ill.why}"
        raise Refused(
            f"{ill.host}: {what}",
            f"the machine of {place.node} is replaced only where every other member is healthy",
            f"fab rescue-node {ill.host}",
        )
    verdict = place.verdict
    if verdict is not None and verdict.id and verdict.voter:
        diagnosis = cluster.diagnosis
        change = quorum_after_remove(diagnosis.voters, diagnosis.serving, verdict.serves)
        if not change.is_allowed:
            raise Refused(
                f"{verdict.host}: {change.refused}",
                "a member is removed only where the quorum holds before and after",
                "fab diagnose",
            )
    return len(members)


def _require_dead(cluster: Cluster, api: ApiFacts, place: Place) -> None:
    """Raise Refused for a member that serves, and for a machine and node that are in order."""
    verdict = place.verdict
    if verdict is not None and verdict.serves:
        raise Refused(
            f"{place.node}: {verdict.why}",
            "a member that serves needs no new machine",
            "fab diagnose",
        )
    node = next((n for n in api.nodes if n.name == place.node), None)
    if node is not None and node.ready == "True" and _is_running(place):
        raise Refused(
            f"{place.node}: its machine runs and its node is ready; only its etcd is ill",
            "a machine is replaced where it does not run, or its node is not ready",
            f"fab rescue-node {place.node}",
        )
    _require_control_plane(node, place)


def _is_running(place: Place) -> bool:
    machine = place.machine
    return machine is None or (machine.phase == "Running" and not machine.is_deleting)


def _require_control_plane(node: Optional[NodeFacts], place: Place) -> None:
    machine = place.machine
    if node is not None and not node.is_control_plane:
        what = f"{place.node} is no control-plane node"
    elif machine is not None and machine.role not in ("master", ""):
        what = f"machine {machine.name} has the role {machine.role}"
    else:
        return
    raise Refused(what, "no member of etcd lives there", "oc get machines -n openshift-machine-api")
