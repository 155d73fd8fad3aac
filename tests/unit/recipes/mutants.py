"""Plans with one thing wrong, and what would come of them: a small simulator that knows no rule.

`mutants` changes a sound plan in one place. `disasters` carries a plan out on a model of hosts, as
blindly as if no agent refused anything, and tells what goes wrong on the way. It is written apart
from agent/recipes/rules/ on purpose: it knows what etcd and the kubelet do, and not what a plan
may do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from agent.diagnosis.quorum import quorum
from agent.model.plan import Plan, Step
from agent.model.verdict import ClusterState, MemberState
from agent.recipes.cluster import Cluster

KINDS = ("drop", "swap", "host", "early", "argument")


def mutants(plan: Plan) -> Iterator[tuple[str, str, Plan]]:
    """(kind, what was done, the plan with it) for every single change of each kind."""
    for kind, what, make in changes(plan):
        yield kind, what, make()


def changes(plan: Plan) -> Iterator[tuple[str, str, Callable[[], Plan]]]:
    """The same, each plan made only where it is asked for."""
    steps = plan.steps()
    for at, step in enumerate(steps):
        name = f"{step.id} {step.action} on {step.host}"
        yield "drop", f"without {name}", partial(_with, plan, at, None)
        if at + 1 < len(steps):
            yield "swap", f"{name} after {steps[at + 1].id}", partial(_swapped, plan, at)
        for host in plan.hosts:
            if host != step.host:
                yield "host", f"{name} done on {host}", partial(_other, plan, at, host=host)
        if at > 1:
            yield "early", f"{name} first", partial(_first, plan, at)
        for what, args in _other_arguments(plan, step):
            yield "argument", f"{name} with {what}", partial(_other, plan, at, args=args)


def _with(plan: Plan, at: int, step: Step | None) -> Plan:
    """The plan with another step, or none, in the place of the one of that number."""
    stages, count = [], 0
    for stage in plan.stages:
        row = list(stage.steps)
        if count <= at < count + len(row):
            row[at - count : at - count + 1] = [step] if step else []
        count += len(stage.steps)
        if row:
            stages.append(replace(stage, steps=tuple(row)))
    return replace(plan, stages=tuple(stages))


def _other(plan: Plan, at: int, **fields: Any) -> Plan:
    return _with(plan, at, replace(plan.steps()[at], **fields))


def _swapped(plan: Plan, at: int) -> Plan:
    step, after = plan.steps()[at : at + 2]
    return _with(_with(plan, at, after), at + 1, step)


def _first(plan: Plan, at: int) -> Plan:
    step, rest = plan.steps()[at], _with(plan, at, None)
    first = rest.stages[0]
    return replace(rest, stages=(replace(first, steps=(step, *first.steps)), *rest.stages[1:]))


def _other_arguments(plan: Plan, step: Step) -> Iterator[tuple[str, dict[str, Any]]]:
    """Arguments that are wrong in one place; what has no meaning for safety is left alone."""
    args, elsewhere = step.args, ["https://10.9.9.9:2380"]
    wrong: list[tuple[str, Any]] = [
        *((key, f"{args[key]}x") for key in ("path", "sha256", "data_dir") if args.get(key)),
        *((key, elsewhere) for key in ("peer_urls", "sources") if args.get(key)),
        ("endpoints", []),
        ("endpoints", [[row[0], "127.0.0.1", 1] for row in args.get("endpoints", ())]),
        ("id", "0123456789abcdef"),
        ("learner", False),
        ("members", "m=https://10.9.9.9:2380"),
        ("state", "new"),
        ("scratch", False),
    ]
    for key, value in wrong:
        if args.get(key) not in (None, value, False):
            yield f"{key} {value!r}", {**args, key: value}
    if args.get("endpoints"):
        yield "no time to answer", {**args, "timeout": 0.0}


# ---- what would come of it -----------------------------------------------------------------------


@dataclass
class Sim:
    """Hosts and one membership, as they are. data: host → original, copy, joined, none.

    placed: definition in place. up: etcd runs. work: host → the prepared directory, what is in it.
    members: host → voter or learner, of the cluster that goes on. forced: made by the flag.
    """

    members: dict[str, str]
    up: set[str]
    placed: set[str]
    data: dict[str, str]
    started: bool
    work: dict[str, str] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    parked_now: set[str] = field(default_factory=set)
    fenced: set[str] = field(default_factory=set)
    forced: str = ""

    def voters(self) -> set[str]:
        return {host for host, role in self.members.items() if role == "voter"}

    def has_quorum(self) -> bool:
        voters = self.voters()
        return bool(voters) and len(voters & self.up) >= quorum(len(voters))


def disasters(plan: Plan, cluster: Cluster, lost: tuple[str, ...]) -> list[str]:
    """What goes wrong when a plan is carried out blindly, with every host that it waits for."""
    sim = _sim(cluster)
    was_steady, found = sim.has_quorum(), list[str]()
    for step in plan.steps():
        found += [f"{step.id}: {told}" for told in _do(sim, step, cluster, set(lost))]
        if was_steady and not sim.forced and not sim.has_quorum():
            found.append(f"{step.id}: the quorum is gone")
    return list(dict.fromkeys(found))


def _sim(cluster: Cluster) -> Sim:
    members = cluster.diagnosis.members
    gone = (MemberState.UNREACHABLE, MemberState.GHOST)
    return Sim(
        members={m.host: "voter" if m.voter else "learner" for m in members if m.id},
        up={m.host for m in members if m.serves},
        placed={m.host for m in members if m.definition == "in-place" or m.state in gone},
        data={
            m.host: "none" if m.state is MemberState.NO_DATA else "original" for m in members
        },
        started=cluster.diagnosis.state in (ClusterState.HEALTHY, ClusterState.DEGRADED),
    )  # fmt: skip


def _do(sim: Sim, step: Step, cluster: Cluster, lost: set[str]) -> Iterator[str]:
    act = _ACTS.get(step.action)
    if act is not None:
        yield from act(sim, step, cluster, lost)


def _stop(sim: Sim, step: Step, cluster: Cluster, lost: set[str]) -> Iterator[str]:
    sim.placed.discard(step.host)
    sim.parked_now.add(step.host)
    sim.up.discard(step.host)
    if step.action == "fence":
        sim.fenced.add(step.host)
    yield from ()


def _copy(sim: Sim, step: Step, cluster: Cluster, lost: set[str]) -> Iterator[str]:
    if step.host in sim.placed:
        yield "copies files that an etcd may be writing to"
    sim.work[step.host] = "copy"


def _seed(sim: Sim, step: Step, cluster: Cluster, lost: set[str]) -> Iterator[str]:
    host = step.host
    if step.action == "seed_cluster" and sim.work.get(host) != "copy":
        yield "rewrites the membership with no copy to do it on"
    if step.action == "seed_in_manifest" and sim.data.get(host) != "copy":
        yield "rewrites the membership in the only data there is"
    if sim.started:
        yield "forces a new cluster beside one that serves"
    if sim.forced:
        yield "forces a second cluster"
    alive = {m for m in sim.voters() - {host} - lost if m in sim.placed}
    if alive:
        yield f"forces a new cluster while {', '.join(sorted(alive))} can start by itself"
    sim.forced = host
    sim.work[host] = "seeded"
    if step.action == "seed_in_manifest":
        sim.data[host] = "copy"
        yield from _start(sim, step, cluster, lost)


def _relocate(sim: Sim, step: Step, cluster: Cluster, lost: set[str]) -> Iterator[str]:
    host = step.host
    if host in sim.placed:
        yield "moves data that an etcd has open, or will found a cluster without"
    if host in sim.members and host != sim.forced and host not in sim.work:
        yield "takes the data of a member away that still counts"
    sim.kept.add(host)
    sim.data[host] = "none"


def _install(sim: Sim, step: Step, cluster: Cluster, lost: set[str]) -> Iterator[str]:
    if sim.data.get(step.host) != "none":
        yield "puts data over other data"
    if step.host not in sim.work:
        yield "puts data in place that there is not"
    sim.data[step.host] = sim.work.pop(step.host, "none")
    if sim.data[step.host] == "seeded":
        sim.data[step.host] = "copy"


def _start(sim: Sim, step: Step, cluster: Cluster, lost: set[str]) -> Iterator[str]:
    host, data = step.host, sim.data.get(step.host, "original")
    if data == "none":
        yield "starts an etcd without data: it founds a cluster, or loops"
    if data == "original" and (sim.forced or host not in sim.members):
        yield "starts an old member beside the cluster that goes on"
    sim.placed.add(host)
    if host == sim.forced:
        sim.members, sim.up, sim.started = {host: "voter"}, {host}, True
    elif data in ("joined", "copy") or (not sim.forced and host in sim.members):
        sim.up.add(host)


def _remove(sim: Sim, step: Step, cluster: Cluster, lost: set[str]) -> Iterator[str]:
    ids = {m.id: m.host for m in cluster.diagnosis.members if m.id}
    target = ids.get(str(step.args.get("id")), "")
    if target == step.host:
        yield "removes the member that it asks"
    if sim.voters() == {target}:
        yield "removes the last voter"
    sim.members.pop(target, None)
    sim.up.discard(target)


def _add(sim: Sim, step: Step, cluster: Cluster, lost: set[str]) -> Iterator[str]:
    if "learner" in sim.members.values():
        yield "adds a second learner"
    if step.host not in sim.up:
        yield "changes the membership through an etcd that does not serve"
    urls = set(step.args.get("peer_urls", ()))
    hosts = [m.host for m in cluster.diagnosis.members]
    target = next((h for h in hosts if urls & set(cluster.all_peer_urls(h))), "")
    if not target:
        yield "adds a member that is nowhere"
    elif sim.members.get(target) == "voter":
        yield "adds a member that there is"
    sim.members[target] = "learner"


def _join(sim: Sim, step: Step, cluster: Cluster, lost: set[str]) -> Iterator[str]:
    if step.host in sim.placed:
        yield "runs a second etcd beside the kubelet's"
    if sim.members.get(step.host) != "learner":
        yield "joins without having been added"
    if sim.data.get(step.host) != "none":
        yield "joins beside its old data"
    sim.work[step.host] = "joined"


def _promote(sim: Sim, step: Step, cluster: Cluster, lost: set[str]) -> Iterator[str]:
    urls = set(step.args.get("peer_urls", ()))
    hosts = [m.host for m in cluster.diagnosis.members]
    target = next((h for h in hosts if urls & set(cluster.all_peer_urls(h))), "")
    if sim.members.get(target) != "learner":
        yield "promotes what is no learner"
    elif target not in sim.up:
        yield "promotes a member that does not run: it counts, and does not vote"
    sim.members[target] = "voter"


_ACTS = {
    "park_definition": _stop, "fence": _stop, "copy_data": _copy, "seed_cluster": _seed,
    "seed_in_manifest": _seed, "relocate_data": _relocate, "install_data": _install,
    "unpark_definition": _start, "member_remove": _remove, "member_add_learner": _add,
    "prejoin": _join, "member_promote": _promote,
}  # fmt: skip
