"""What several rules ask of the world, in the same words."""

from __future__ import annotations

from collections.abc import Iterator

from agent.diagnosis.quorum import Change
from agent.model.plan import Step
from agent.recipes.rules.looks import names
from agent.recipes.world import Scene, World

Broken = Iterator[str]


def place(w: World, host: str) -> str:
    """Where the definition is, in words."""
    return w.definition.get(host) or "not known to be anywhere"


def healthy(w: World) -> int:
    """How many voters serve."""
    return len(w.serving & w.voters)


def allowed(change: Change) -> Broken:
    """Nothing, or why quorum arithmetic forbids the change."""
    if not change.is_allowed:
        yield change.refused


def acts(w: World, step: Step) -> Broken:
    """The membership is changed by a member that serves, once all that should serve was seen to."""
    if w.unproved:
        yield f"changes the membership before {names(w.unproved)} was seen to serve"
    if step.host not in w.serving or step.host not in w.voters:
        yield f"changes the membership through {step.host}, which does not serve"
    if w.definition.get(step.host) == "missing":
        yield f"changes the membership through {step.host}, whose definition is missing"


def stops(w: World, host: str, scene: Scene) -> Broken:
    """Stopping a voter that serves must leave a quorum."""
    if scene.discards:
        return
    if host in w.serving & w.voters and w.has_quorum() and not w.has_quorum(without=host):
        yield "stops a voter that the quorum needs"


def needs_stopped(w: World, host: str) -> Broken:
    """Data is touched only under an etcd that was proved stopped and cannot start."""
    if host not in w.stopped or w.definition.get(host) == "in-place":
        yield "touches the data of an etcd that was not proved stopped"


def needs_preflight(w: World, host: str, scene: Scene) -> Broken:
    """Data is touched only on a host that was looked at before anything stopped."""
    if host not in w.preflighted:
        yield "touches the data of a host that was not prepared before anything stopped"


def may_force(w: World, step: Step, scene: Scene) -> Broken:
    """What must hold before --force-new-cluster, wherever it is set."""
    if w.quorate or w.serving:
        yield "forces a new cluster while reads are answered"
    if w.seed:
        yield f"forces a new cluster a second time, after {w.seed}"
    if step.host != scene.cluster.diagnosis.target:
        yield "forces a new cluster from a host that is not the best survivor"
    alive = scene.others(step.host) - w.ours - scene.lost
    if alive:
        yield f"forces a new cluster with {names(alive)} neither fenced nor declared lost"
    if {h for h in scene.others(step.host) if scene.urls[h]} - w.silent:
        yield "forces a new cluster before it was seen that no other member answers"


def may_start_seed(w: World, step: Step, scene: Scene) -> Broken:
    """The point of no return: right after a last look, on the finished copy."""
    if w.looked != step.host and w.looked not in scene.restores:
        yield "passes the point of no return without a last look right before it"
    if not step.final:
        yield "passes the point of no return without saying so"
    if w.data.get(step.host) != "installed":
        yield "starts the survivor on data that is not the finished copy"


def looked_first(w: World, step: Step, scene: Scene) -> Broken:
    """The survivor is stopped only where nobody else is seen to serve."""
    others = scene.others(step.host) - scene.restores
    if step.host in scene.seeds and {h for h in others if scene.urls[h]} - w.silent:
        yield "stops the survivor before it was seen that no other member answers"


def fence_costs_quorum(w: World, target: str) -> bool:
    """Whether the cluster has a quorum with this host and none without it."""
    return target in w.serving and w.has_quorum() and not w.has_quorum(without=target)


def fenced_next(scene: Scene, step: Step, target: str) -> bool:
    """The step right after this one fences the target."""
    steps = scene.plan.steps()
    after = steps[steps.index(step) + 1 :] if step in steps else ()
    return bool(after) and after[0].action == "fence" and after[0].host == target
