"""What each action may be done in, and what it changes: one rule an action, thought and not done.

A rule yields what it breaks, in words, and brings the world forward as if it had been done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from agent.diagnosis.quorum import (
    Change,
    quorum_after_add_learner,
    quorum_after_promote,
    quorum_after_remove,
)
from agent.model.plan import Step
from agent.recipes.looks import guard_peers, names, peers_silent, preflight, unguard_peers
from agent.recipes.restoring import RESTORES, alone
from agent.recipes.upkeep import (
    check_authority,
    clear_removed_alarm,
    compact_history,
    defragment,
    disarm_nospace,
    install_authority,
    issue_certificates,
)
from agent.recipes.world import Scene, World, text_of, texts_of

Broken = Iterator[str]
Rule = Callable[[World, Step, Scene, str], Broken]
"""World, step, scene, and the host that the stage waits for (or nothing) → what is broken."""


def park_definition(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """There is something to park, and parking it costs no quorum."""
    if w.definition.get(step.host) != "in-place":
        yield f"parks a definition that is {_place(w, step.host)}"
    yield from _looked_first(w, step, scene)
    yield from _stops(w, step.host, scene)
    w.park(step.host)


def stop_etcd(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Only what nothing starts again is stopped for good."""
    if w.definition.get(step.host) == "in-place":
        yield "stops an etcd whose definition is in place: the kubelet starts it again"
    yield from _looked_first(w, step, scene)
    w.disturbed = True
    w.stopped.add(step.host)


def fence(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """A fence may always be raised, but not on the rescued cluster's own seed, nor for a quorum."""
    if step.host == w.seed or step.host in scene.seeds:
        yield "fences the host that the cluster goes on from"
    yield from _stops(w, step.host, scene)
    w.park(step.host)
    w.fenced.add(step.host)
    w.ours.add(step.host)
    w.stopped.add(step.host)


def lift_fence(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Only over a member that serves."""
    if step.host not in w.fenced:
        yield "lifts a fence that does not stand"
    if step.host not in w.serving or step.host not in w.voters:
        yield "lifts the fence of a host that is not a member that serves"
    if step.host in w.unproved:
        yield "lifts the fence of a voter before it was seen to serve"
    w.fenced.discard(step.host)


def copy_data(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Of a stopped etcd, of the original, and once: a second copy would discard the first."""
    yield from _needs_stopped(w, step.host)
    yield from _needs_preflight(w, step.host, scene)
    if w.data.get(step.host, "original") != "original":
        yield f"copies data that is {w.data[step.host]}"
    if step.host in w.copied:
        yield "copies over an earlier copy"
    w.copied.add(step.host)


def seed_cluster(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """--force-new-cluster: once, on one host, on a copy, with every other voter kept away."""
    yield from _needs_stopped(w, step.host)
    yield from _may_force(w, step, scene)
    if step.host not in w.copied:
        yield "rewrites the membership in the only data there is: nothing was copied"
    if w.data.get(step.host, "original") != "original":
        yield "rewrites the membership after the data was moved"
    w.prepared.add(step.host)
    w.seed = step.host


def relocate_data(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Of a stopped etcd; the seed's after its copy is ready, another's once the seed serves."""
    host = step.host
    yield from _needs_stopped(w, host)
    yield from _needs_preflight(w, host, scene)
    if w.data.get(host, "original") != "original":
        yield f"moves data away that is {w.data[host]}"
    if host in scene.seeds:
        if host not in w.copied:
            yield "moves the survivor's data away with no copy of it"
        yield from alone(w, step, scene)
    elif scene.reseeds and not (w.born and w.serving):
        yield "moves another member's data away before the rescued cluster serves"
    elif host not in w.fenced:
        yield "moves the data of a host away that is not fenced"
    elif host in w.voters | w.learners:
        yield "moves the data of a member away that was not removed"
    w.data[host] = "relocated"


def install_data(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Only what was finished, and only where nothing lies any more."""
    host = step.host
    yield from _needs_stopped(w, host)
    if w.data.get(host, "original") != "relocated":
        yield f"puts data in place where the {w.data.get(host, 'original')} one is"
    is_plain = step.args.get("scratch", True) is False
    if host not in (w.copied if is_plain else w.prepared):
        yield "puts data in place that was not prepared"
    w.data[host] = "installed"
    w.prepared.discard(host)


def seed_in_manifest(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """The same as a scratch seed and a start, in one step."""
    yield from _may_force(w, step, scene)
    if step.host not in w.copied or w.data.get(step.host) != "installed":
        yield "rewrites the membership in data that is not the copy"
    w.seed = step.host
    yield from unpark_definition(w, step, scene, waits_for)


def prejoin(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """A fenced host without data, added as a learner, to a cluster that serves."""
    host = step.host
    yield from _needs_stopped(w, host)
    yield from _needs_preflight(w, host, scene)
    if w.guarded:
        yield f"lets a host join while {w.guarded}'s peer port is guarded"
    if host not in w.ours:
        yield "lets a host join that this plan did not fence"
    if w.data.get(host) != "relocated":
        yield "lets a host join with its old data in place"
    if host not in w.learners:
        yield "lets a host join that was not added as a learner"
    if not (w.quorate and w.serving):
        yield "lets a host join a cluster that does not serve"
    if host in w.prepared:
        yield "lets a host join that has joined already"
    w.prepared.add(host)


def restart_kubelet(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Never with a definition in place that may be half-ready."""
    if w.definition.get(step.host) == "in-place":
        yield "restarts the kubelet with etcd's definition in place"
    yield from ()


def unpark_definition(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Only what is parked, and only over data that belongs to the cluster of now."""
    host = step.host
    if w.definition.get(host) != "parked":
        yield f"puts a definition back that is {_place(w, host)}"
    data = w.data.get(host, "original")
    if data == "relocated":
        yield "starts etcd without data: it would found a cluster of its own, or loop"
    if data == "original" and (scene.reseeds or host in w.ours):
        yield "starts etcd with its old identity: a rival"
    if data == "original" and host not in w.voters:
        yield "starts etcd on a host that is no voter, with the data it has"
    if host in scene.restores and not step.final:
        yield "passes the point of no return without saying so"
    if not w.born and (host in scene.restores or host == w.seed):
        yield from _may_start_seed(w, step, scene)
        w.voters, w.learners, w.serving, w.runs = {*(scene.restores or {host})}, set(), set(), set()
        w.born, w.quorate = True, False
    w.definition[host] = "in-place"
    w.runs.add(host)
    w.stopped.discard(host)


def wait_serving(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Only for what can come: a quorum of started voters, or a learner that was started."""
    host = step.host
    if w.definition.get(host) != "in-place" or host not in w.runs:
        yield "waits for an etcd that nothing starts"
    if step.args.get("learner", False):
        if host not in w.learners:
            yield "waits for a learner that is none"
        w.shown.add(host)
        return
    if host not in w.voters:
        yield "waits for a voter that is none"
    elif not w.quorate and len(w.runs & w.voters) < len(w.voters) // 2 + 1:
        yield (
            f"waits for a quorum that cannot come: {len(w.runs & w.voters)} of "
            f"{len(w.voters)} voters run"
        )
    w.serving.add(host)
    w.restarting.discard(host)
    w.unproved.discard(host)
    # Members that were restored together are waited for one after the other.
    w.quorate = w.quorate or not scene.restores or w.has_quorum()


def member_remove(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """The dead, by another member, with the quorum before and after."""
    target = scene.ids.get(text_of(step, "id"), "")
    yield from _acts(w, step)
    if target not in w.voters | w.learners:
        yield f"removes {text_of(step, 'id') or 'nobody'}, which is no member"
        return
    if target == step.host:
        yield "removes the local member"
    if not set(texts_of(step, "peer_urls")) & scene.urls[target]:
        yield "removes a member by an ID that is not the one at its peer URL"
    if target in w.fenced or target in scene.lost or target not in scene.surveyed:
        pass
    elif not (_fence_costs_quorum(w, target) and _fenced_next(scene, step, target)):
        yield f"removes {target}, which is neither fenced nor declared lost"
    w.removed.add(text_of(step, "id"))
    if target in w.voters:
        is_healthy = target in w.serving
        yield from _allowed(quorum_after_remove(len(w.voters), _healthy(w), is_healthy))
    w.voters.discard(target)
    w.learners.discard(target)
    w.serving.discard(target)
    w.runs.discard(target)


def member_add_learner(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """One at a time, of a fenced host without data, whose old member is gone."""
    target = scene.members_at(texts_of(step, "peer_urls"), waits_for)
    yield from _acts(w, step)
    if not target:
        yield "adds a member at a peer URL that no host has"
        return
    if w.learners:
        yield f"adds a learner while {names(w.learners)} is one"
    if target in w.voters:
        yield f"adds {target}, whose old member is still there"
    if target not in w.ours or target not in w.stopped:
        yield f"adds {target}, which this plan has not fenced"
    if w.data.get(target) != "relocated":
        yield f"adds {target} with its old data in place"
    yield from _allowed(quorum_after_add_learner(len(w.voters), _healthy(w)))
    w.learners.add(target)


def member_promote(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """A learner that was seen to run under the kubelet, and runs on."""
    target = scene.members_at(texts_of(step, "peer_urls"), waits_for)
    yield from _acts(w, step)
    if target not in w.learners:
        yield f"promotes {target or 'nobody'}, which is no learner"
        return
    if target not in w.shown or target not in w.runs:
        yield f"promotes {target} before it was seen to run under the kubelet"
    yield from _allowed(quorum_after_promote(len(w.voters), _healthy(w), target in w.shown))
    w.learners.discard(target)
    w.shown.discard(target)
    w.unproved.add(target)
    w.voters.add(target)
    w.serving.add(target)


def set_initial_cluster(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """One at a time, with the others holding the quorum; the step itself leaves it else."""
    if w.restarting | w.unproved:
        yield f"restarts a second member while {names(w.restarting | w.unproved)} is not back"
    if step.host not in w.serving or step.host not in w.voters:
        yield "restarts a host that is not a voter that serves"
    if text_of(step, "state") != "existing":
        yield "would let an empty member found a cluster of its own"
    if not scene.cluster.restarts_when_changed(step.host):
        return
    if w.has_quorum(without=step.host):
        w.serving.discard(step.host)
        w.restarting.add(step.host)
    elif scene.voters and not (set(scene.plan.promise.voters) - w.voters):
        yield "restarts a member whose restart costs the quorum"


# ---- what several rules need ---------------------------------------------------------------------


def _place(w: World, host: str) -> str:
    return w.definition.get(host) or "not known to be anywhere"


def _healthy(w: World) -> int:
    return len(w.serving & w.voters)


def _allowed(change: Change) -> Broken:
    if not change.is_allowed:
        yield change.refused


def _acts(w: World, step: Step) -> Broken:
    if w.unproved:
        yield f"changes the membership before {names(w.unproved)} was seen to serve"
    if step.host not in w.serving or step.host not in w.voters:
        yield f"changes the membership through {step.host}, which does not serve"
    if w.definition.get(step.host) == "missing":
        yield f"changes the membership through {step.host}, whose definition is missing"


def _stops(w: World, host: str, scene: Scene) -> Broken:
    """Stopping a voter that serves must leave a quorum."""
    if scene.discards:
        return
    if host in w.serving & w.voters and w.has_quorum() and not w.has_quorum(without=host):
        yield "stops a voter that the quorum needs"


def _needs_stopped(w: World, host: str) -> Broken:
    if host not in w.stopped or w.definition.get(host) == "in-place":
        yield "touches the data of an etcd that was not proved stopped"


def _needs_preflight(w: World, host: str, scene: Scene) -> Broken:
    if host not in w.preflighted:
        yield "touches the data of a host that was not prepared before anything stopped"


def _may_force(w: World, step: Step, scene: Scene) -> Broken:
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


def _may_start_seed(w: World, step: Step, scene: Scene) -> Broken:
    """The point of no return: right after a last look, on the finished copy."""
    if w.looked != step.host and w.looked not in scene.restores:
        yield "passes the point of no return without a last look right before it"
    if not step.final:
        yield "passes the point of no return without saying so"
    if w.data.get(step.host) != "installed":
        yield "starts the survivor on data that is not the finished copy"


def _looked_first(w: World, step: Step, scene: Scene) -> Broken:
    """The survivor is stopped only where nobody else is seen to serve."""
    others = scene.others(step.host) - scene.restores
    if step.host in scene.seeds and {h for h in others if scene.urls[h]} - w.silent:
        yield "stops the survivor before it was seen that no other member answers"


def _fence_costs_quorum(w: World, target: str) -> bool:
    return target in w.serving and w.has_quorum() and not w.has_quorum(without=target)


def _fenced_next(scene: Scene, step: Step, target: str) -> bool:
    """The step right after this one fences the target."""
    steps = scene.plan.steps()
    after = steps[steps.index(step) + 1 :] if step in steps else ()
    return bool(after) and after[0].action == "fence" and after[0].host == target


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        preflight, peers_silent, guard_peers, unguard_peers,
        park_definition, unpark_definition, stop_etcd, fence, lift_fence,
        copy_data, relocate_data, install_data, seed_cluster, seed_in_manifest, prejoin,
        check_authority, install_authority, issue_certificates, compact_history, defragment,
        disarm_nospace, clear_removed_alarm,
        restart_kubelet, wait_serving, member_remove, member_add_learner, member_promote,
        set_initial_cluster,
        *RESTORES,
    )
}  # fmt: skip
"""Action → rule. What has none (the flag by itself, data brought back) is no part of a recipe."""
