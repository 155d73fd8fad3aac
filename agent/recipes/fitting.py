"""Whether a plan that was made before still fits what the hosts are like now."""

from __future__ import annotations

from agent.diagnosis.cluster import diagnose_host
from agent.errors import Refused
from agent.model.plan import Plan
from agent.recipes.cluster import Cluster
from agent.recipes.invariants import check_plan

_DIAGNOSED = ("reseed", "restart-member", "replace-member", "remove-member")
"""What a diagnosis offers; other recipes are an operator's wish, and judged by their steps."""
_NEW_CLUSTER, _RESEED = "restore", "reseed"
_SEEDS = ("seed_cluster", "seed_in_manifest")
_AGAIN = "fab plan --save FILE makes one for the state of now"


def require_fit(plan: Plan, cluster: Cluster) -> None:
    """Raise Refused where the world is no more what the plan was made for, or it is not safe."""
    unknown = sorted({*plan.hosts, *(s.host for s in plan.steps())} - {*cluster.addresses})
    if unknown:
        raise moved_on(plan, f"{', '.join(unknown)}: no such host here")
    _require_cluster(plan, cluster)
    _require_offered(plan, cluster)
    _require_no_more_lost(plan, cluster)
    broken = check_plan(plan, cluster)
    if broken:
        raise moved_on(plan, f"it is not safe as the hosts are now: {'; '.join(broken[:3])}")


def require_still_fit(plan: Plan, cluster: Cluster) -> None:
    """Raise Refused where a plan that was begun on other hosts may not go on, on one more.

    What it changed there fits no plan any more. But its cluster must be the same one, nothing more
    may be lost, and a reseed ends where another one is offered, or none: where reads are served.
    """
    _require_cluster(plan, cluster)
    diagnosis = cluster.diagnosis
    if plan.recipe == _RESEED and diagnosis.recipe != _RESEED:
        raise moved_on(plan, f"{plan.recipe} does not fit any more; {diagnosis.why}")
    seeds = {step.host for step in plan.steps() if step.action in _SEEDS}
    if plan.recipe == _RESEED and diagnosis.target not in seeds:
        raise moved_on(plan, f"{diagnosis.target} is the best survivor now")
    _require_no_more_lost(plan, cluster)


def _require_cluster(plan: Plan, cluster: Cluster) -> None:
    diagnosis = cluster.diagnosis
    if plan.promise.cluster_id != diagnosis.cluster_id and plan.recipe != _NEW_CLUSTER:
        ids = f"{plan.promise.cluster_id or 'none'}, and this one has {diagnosis.cluster_id}"
        raise moved_on(plan, f"it is for the cluster with the ID {ids}")


def _require_offered(plan: Plan, cluster: Cluster) -> None:
    diagnosis, members = cluster.diagnosis, {m.host for m in cluster.diagnosis.members}
    offered = {diagnosis.recipe} | {
        diagnose_host(diagnosis, host, plan.declared_lost)[0] for host in members
    }
    if plan.recipe in _DIAGNOSED and plan.recipe not in offered:
        fits = ", ".join(sorted(offered - {""})) or "nothing"
        raise moved_on(plan, f"{plan.recipe} does not fit any more; what fits: {fits}")


def _require_no_more_lost(plan: Plan, cluster: Cluster) -> None:
    diagnosis = cluster.diagnosis
    more = [loss for loss in diagnosis.losses if loss not in plan.losses]
    if plan.recipe == diagnosis.recipe and more:
        raise moved_on(plan, f"nobody agreed to this: {more[0]}")


def moved_on(plan: Plan, seen: str) -> Refused:
    """The error for a plan that does not fit."""
    return Refused(
        f"plan {plan.short_id} does not fit: {seen}",
        "a plan is carried out only in the state that it was made for",
        _AGAIN,
    )
