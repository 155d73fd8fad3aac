"""OpenShift 4: a member on a host that runs is made anew by the etcd operator; the API's last part.

Procedure B of "Replacing an unhealthy etcd member" in OpenShift's documentation (the etcd pod crash
loops), with a verified backup set first, and the old data kept. After a quorum was lost or a
snapshot restored, the operator has to roll out once, so that its revisions fit what it finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

from agent.errors import Refused
from agent.model.plan import KUBERNETES_API, Plan
from agent.recipes.builder import PlanBuilder
from agent.recipes.cluster import Cluster
from agent.recipes.replace_member import (
    acting_host,
    promise_of,
    require_quorum,
    require_replaceable,
    take_out,
)

BACKUPS = "/var/lib/etcd-rescue/backups"
"""Where backup sets of a rescue lie on the host that took them."""

_GIGA = 1_000_000_000
_NEEDS = ("get secrets", "delete secrets", "get etcds", "patch etcds", "list pods")


def is_openshift4(cluster: Cluster) -> bool:
    """True if a surveyed host is in OpenShift 4's layout."""
    hosts = (o.host for o in cluster.observations)
    surveys = (cluster.survey(host) for host in hosts)
    return any(survey is not None and survey.platform == "openshift4" for survey in surveys)


def stamp_of(created: float) -> str:
    """The timestamp of a set as OpenShift's backup writes it (`date +%F_%H%M%S`), in UTC."""
    return f"{_moment(int(created)):%Y-%m-%d_%H%M%S}"


def reason_of(kind: str, created: float) -> str:
    """A reason for a redeployment that was never used: RFC 3339 with nanoseconds."""
    seconds, rest = divmod(round(created % 1 * 1_000_000_000) + int(created) * _GIGA, _GIGA)
    return f"{kind}-{_moment(seconds):%Y-%m-%dT%H:%M:%S}.{rest:09d}+00:00"


def _moment(seconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=seconds)


def rescue_member(cluster: Cluster, host: str, created: float) -> Plan:
    """Plan procedure B for the member on `host`.

    Raises Refused where the host cannot rejoin, or where a change would cost the quorum.
    """
    verdict = cluster.verdict(host)
    host = verdict.host
    require_replaceable(cluster, verdict)
    acting = acting_host(cluster, host)
    require_quorum(cluster, verdict)
    _require_all_others(cluster, host)
    name, voters = cluster.name(host), sorted([*cluster.serving(), host])
    builder = PlanBuilder("replace-member", f"{host}: {verdict.why}", cluster.addresses)
    builder.stage("See what the API allows, and take a backup", [
        builder.step(acting, "check_api", "a refusal must come before anything is changed",
                     needs=list(_NEEDS)),
        builder.step(host, "preflight", "its old data is kept, and must have room to move",
                     copies=False, binary=False),
        builder.step(acting, "take_backup_set", "there is a way back to how it was",
                     folder=BACKUPS, stamp=stamp_of(created)),
    ])  # fmt: skip
    title = f"Take the old member of {host} out" if verdict.id else f"Fence {host}"
    builder.stage(title, [
        *take_out(builder, cluster, verdict, acting),
        builder.step(host, "relocate_data", "its old data carries the old identity"),
    ])  # fmt: skip
    builder.stage(f"Have the etcd operator bring {host} back", [
        builder.step(acting, "set_quorum_guard", "two members are too few for its own rules",
                     enabled=False),
        builder.step(acting, "delete_member_secrets", "it issues them anew for the new member",
                     node=name),
        builder.step(acting, "force_redeployment", "it writes a new definition to every node",
                     reason=reason_of("single-master-recovery", created)),
        builder.step(host, "await_member", "the operator starts it; only a voter counts"),
        builder.step(acting, "wait_etcd_rollout", "every node must run the same revision",
                     reason=reason_of("single-master-recovery", created),
                     nodes=[cluster.name(h) for h in voters], members=len(voters)),
        builder.step(acting, "set_quorum_guard", "as it was", enabled=True),
        builder.step(host, "lift_fence", "it is a member again"),
    ], waits_for=[KUBERNETES_API, host])  # fmt: skip
    return builder.build(created, promise_of(cluster, tuple(voters)))


def _require_all_others(cluster: Cluster, host: str) -> None:
    """The operator restarts the others one by one: each of them has to be in order."""
    members = [m for m in cluster.diagnosis.members if m.id and m.host != host]
    ill = next((m for m in members if not m.serves or not m.voter), None)
    if ill is not None:
        raise Refused(
            f"{ill.host}: {ill.why}",
            "a redeployment restarts the other members one after the other, and needs them all",
            f"fab rescue-node {ill.host}",
        )


def roll_out(
    builder: PlanBuilder, cluster: Cluster, acting: str, hosts: Sequence[str], created: float
) -> None:
    """Add the API's part behind a rescue with the API down: it waits for it, and for all hosts.

    hosts: of all members at the end. Nothing where the cluster is not OpenShift 4's.
    """
    if not is_openshift4(cluster):
        return
    reason = reason_of("quorum-recovery", created)
    builder.stage("Have the etcd operator take over again", [
        builder.step(acting, "set_quorum_guard", "it must not wait for more members than there are",
                     enabled=False),
        builder.step(acting, "force_redeployment", "its revisions must fit what runs now",
                     reason=reason),
        builder.step(acting, "wait_etcd_rollout", "every node must run the same revision",
                     reason=reason, nodes=[cluster.name(h) for h in hosts], members=len(hosts)),
        builder.step(acting, "set_quorum_guard", "as it was", enabled=True),
    ], waits_for=[KUBERNETES_API, *(host for host in hosts if host != acting)])  # fmt: skip
