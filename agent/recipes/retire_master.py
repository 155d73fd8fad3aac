"""OpenShift 3.11: a master leaves, and nothing that it alone had leaves with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from agent.diagnosis.quorum import quorum_after_remove
from agent.errors import Refused
from agent.model.plan import Plan
from agent.recipes.builder import PlanBuilder
from agent.recipes.cluster import Cluster
from agent.recipes.openshift311 import master_of, names_of, settle_remaining, unseen
from agent.recipes.replace_member import acting_host, promise_of, take_out

_ENOUGH = 3
"""Masters that there must be for one to leave."""


@dataclass(frozen=True)
class Retiring:
    """What the operator said. balancer: (name, address) of the haproxy host; None: by hand.

    few: go below three masters. keep_etcd: its etcd member stays and serves.
    """

    balancer: Optional[tuple[str, str]]
    few: bool = False
    keep_etcd: bool = False


def retire_master(cluster: Cluster, host: str, created: float, wish: Retiring) -> Plan:
    """Plan how a master leaves: load balancer, node, API and controllers, then its etcd.

    Raises Refused for what is no master, below three masters, and where the quorum would not
    survive.
    """
    host = _master_name(cluster, host)
    others = [h for h in _masters(cluster) if h != host]
    _require_masters(cluster, host, others, wish)
    acting = others[0]
    has_etcd = cluster.member_of(host) is not None and not wish.keep_etcd
    if has_etcd:
        acting = acting_host(cluster, host)
        _require_quorum(cluster, host)
    through = acting if acting in others else others[0]
    hosts = dict(cluster.addresses)
    if wish.balancer:
        hosts[wish.balancer[0]] = wish.balancer[1]
    builder = PlanBuilder("retire-master", f"{host} leaves", hosts)
    _duties(builder, cluster, host, others)
    _balancer(builder, cluster, host, wish)
    _stop(builder, cluster, host, through, by_hand=wish.balancer is None)
    serving = [h for h in cluster.serving() if h != host or not has_etcd]
    if has_etcd:
        verdict, why = cluster.verdict(host), f"{host} leaves the cluster"
        builder.stage(
            f"Take the etcd of {host} out", take_out(builder, cluster, verdict, acting, why)
        )
        settle_remaining(builder, cluster, host)
    said = [*_even(others), *(unseen(cluster, host) if has_etcd else ())]
    return builder.build(created, promise_of(cluster, tuple(sorted(serving))), said)


def _even(others: Sequence[str]) -> list[str]:
    """What is said of an even number of masters, which is one more than it is worth."""
    if len(others) % 2:
        return []
    return [f"{len(others)} masters are left: an odd number is advised"]


def _require_quorum(cluster: Cluster, host: str) -> None:
    """Raise Refused where the removal of its member would cost the quorum."""
    verdict, diagnosis = cluster.verdict(host), cluster.diagnosis
    if not verdict.voter:
        return
    change = quorum_after_remove(diagnosis.voters, diagnosis.serving, verdict.serves)
    if not change.is_allowed:
        raise Refused(
            f"{host}: {change.refused}",
            "its etcd would leave with it, and the quorum with that",
            f"fab diagnose; or leave its etcd there: fab retire-master {host} --keep-etcd",
        )


def _master_name(cluster: Cluster, name: str) -> str:
    known = {o.host: o for o in cluster.observations}
    found = name if name in known else ""
    if not found:
        member = cluster.diagnosis.member(name)
        found = member.host if member else ""
    if not found or cluster.survey(found) is None:
        why = known[found].error if found in known else f"known: {', '.join(known) or 'none'}"
        raise Refused(
            f"{name} cannot be looked at",
            f"a master that leaves hands its duties over first ({why})",
            f"gone for good: fab remove-member {name}",
        )
    if not any(c.path for c in master_of(cluster, found).components):
        raise Refused(
            f"{found} has neither API nor controllers in its watched directory",
            "it is no master, or was retired already",
            "fab journal",
        )
    return found


def _masters(cluster: Cluster) -> list[str]:
    """Surveyed hosts whose API is in place."""
    return sorted(
        o.host
        for o in cluster.observations
        if any(c.name == "api" and c.path for c in master_of(cluster, o.host).components)
    )


def _require_masters(cluster: Cluster, host: str, others: Sequence[str], wish: Retiring) -> None:
    if not others:
        raise Refused(f"{host} is the only master", "the cluster would have no API", "fab survey")
    if len(others) + 1 < _ENOUGH and not wish.few:
        raise Refused(
            f"there are {len(others) + 1} masters that can be seen ({host}, {', '.join(others)})",
            f"{_ENOUGH} are what a cluster needs for one to leave; an odd number left is advised",
            f"a new master first; or, if that is meant: fab retire-master {host} --few",
        )


def _duties(builder: PlanBuilder, cluster: Cluster, host: str, others: Sequence[str]) -> None:
    """The first master's files go to the next one, before anything of it stops."""
    if not master_of(cluster, host).ca_files:
        return
    rather = [h for h in others if not master_of(cluster, h).ca_files] or list(others)
    why = "the installer needs them for every node and member that it adds, and only this one has"
    steps = [
        builder.step(host, "check_ca_files", why),
        builder.step(rather[0], "install_ca_files", "the next master has them from now on",
                     source=host),
    ]  # fmt: skip
    builder.stage(f"Hand the CA files of {host} to {rather[0]}", steps)


def _balancer(builder: PlanBuilder, cluster: Cluster, host: str, wish: Retiring) -> None:
    if wish.balancer is None:
        return
    ports = [c.port for c in master_of(cluster, host).components if c.name == "api"]
    step = builder.step(
        wish.balancer[0], "remove_backend", "nobody new is sent there; what is left of it still is",
        master=host, addresses=names_of(cluster, host), api_port=ports[0] if ports else 8443,
    )  # fmt: skip
    builder.stage(f"Take {host} off the load balancer", [step])


def _stop(builder: PlanBuilder, cluster: Cluster, host: str, through: str, by_hand: bool) -> None:
    node = master_of(cluster, host).node
    why = "its pods go elsewhere while its API still answers"
    drain = builder.step(through, "drain_node", why, master=host, node=node)
    builder.stage(f"Drain node {node}", [drain])
    stop = builder.step(
        host, "park_master", "out of the watched directory, so that no restart brings them back",
        by_hand=by_hand,
    )  # fmt: skip
    builder.stage(f"Stop API and controllers of {host}", [stop])
    verify = builder.step(
        through, "verify_endpoints", "clients inside the cluster are sent to its endpoints",
        gone=names_of(cluster, host),
    )  # fmt: skip
    builder.stage("See that service kubernetes names it no more", [verify])
