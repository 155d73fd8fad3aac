"""Members that are merely stopped, with intact data: they are started, and nothing else changes."""

from __future__ import annotations

from collections.abc import Sequence

from agent.diagnosis.reseed import can_start
from agent.errors import Refused
from agent.model.plan import Plan, Promise, Step
from agent.model.verdict import ClusterState, MemberState, MemberVerdict
from agent.recipes.builder import PlanBuilder
from agent.recipes.cluster import Cluster, Definition


def restart_member(cluster: Cluster, host: str, created: float) -> Plan:
    """Plan the start of a stopped member; with the quorum lost, of all that are merely stopped.

    One alone would wait for the others in vain, so all are started before any is waited for.
    Raises Refused where there is nothing to start, or where starting gives no quorum.
    """
    verdict = cluster.verdict(host)
    chosen = [verdict] if _serves(cluster) else _enough(cluster, verdict)
    found = [(m, _startable(cluster, m)) for m in chosen]
    names = " and ".join(m.host for m in chosen)
    summary = f"start {names}: {verdict.why}; intact data"
    builder = PlanBuilder("restart-member", summary, cluster.addresses)
    parallel = len(found) > 1
    starts = [s for m, place in found for s in start(builder, cluster, m.host, place)]
    builder.stage(f"Start etcd on {names}", starts, parallel=parallel)
    proofs = [s for m, _ in found for s in _prove(builder, cluster, m.host)]
    builder.stage(f"See that {names} serve{'' if parallel else 's'}", proofs, parallel=parallel)
    voters = sorted({*cluster.serving(), *(m.host for m in chosen)})
    promise = Promise(tuple(voters), cluster.diagnosis.cluster_id, cluster.revision(voters))
    return builder.build(created, promise)


def _serves(cluster: Cluster) -> bool:
    return cluster.diagnosis.state in (ClusterState.HEALTHY, ClusterState.DEGRADED)


def _enough(cluster: Cluster, verdict: MemberVerdict) -> Sequence[MemberVerdict]:
    """All stopped voters that can be started, `verdict` among them. Raises Refused for too few."""
    diagnosis = cluster.diagnosis
    chosen = can_start(diagnosis)
    if verdict not in chosen:
        _startable(cluster, verdict)
        raise Refused(
            f"{verdict.host}: {verdict.why}; {diagnosis.why}",
            "something beside the missing quorum keeps it from being started",
            "fab diagnose",
        )
    together = {m.host for m in cluster.voters() if m.runs} | {m.host for m in chosen}
    if len(together) < diagnosis.quorum:
        names = ", ".join(sorted(together))
        raise Refused(
            f"{names}: {len(together)} of {diagnosis.voters} voters run or can be started; "
            f"{diagnosis.quorum} are needed",
            "started, they would wait for a quorum that does not come",
            "fab rescue-quorum" if diagnosis.recipe == "reseed" else _first_next(cluster),
        )
    return chosen


def _first_next(cluster: Cluster) -> str:
    told = [r.next for r in cluster.diagnosis.refusals if r.next]
    return told[0] if told else "fab diagnose"


def _startable(cluster: Cluster, verdict: MemberVerdict) -> Definition:
    """Its definition. Raises Refused unless it is a member that only waits to be started."""
    definition = cluster.definition(verdict.host)
    stopped = verdict.state in (MemberState.STOPPED, MemberState.FENCED)
    if not stopped or not verdict.usable or not verdict.voter:
        raise Refused(
            f"{verdict.host}: {verdict.state.value}: {verdict.why}",
            "only a voter that is stopped and has intact data of this cluster is merely started",
            "fab diagnose",
        )
    if definition is None:
        raise Refused(
            f"{verdict.host}: no etcd definition, in place or parked",
            "nothing says how its etcd is meant to run",
            f"put the definition back on {verdict.host}, then: fab diagnose",
        )
    return definition


def start(builder: PlanBuilder, cluster: Cluster, host: str, definition: Definition) -> list[Step]:
    """Put the definition (back) in place, before a kubelet that has nothing against it.

    One that is in place and not run: the kubelet is down, or holds a back-off. It is restarted
    with the definition parked, as always, so that nothing starts half-way.
    """
    file = {"path": definition.path, "sha256": definition.sha256}
    steps = []
    if not definition.is_parked:
        why = "nothing starts it as it is; it is put back right after"
        steps.append(builder.step(host, "park_definition", why, **file))
    if not definition.is_parked or cluster.is_crash_looping(host):
        why = "clears what holds the next start back, like a back-off of up to 5 min"
        steps.append(builder.step(host, "restart_kubelet", why))
    why = "its data is intact and it is still a member"
    steps.append(builder.step(host, "unpark_definition", why, **file))
    return steps


def _prove(builder: PlanBuilder, cluster: Cluster, host: str) -> list[Step]:
    steps = [builder.step(host, "wait_serving", "a member that serves is the proof")]
    if cluster.is_fenced(host):
        steps.append(builder.step(host, "lift_fence", "it is a member again"))
    return steps
