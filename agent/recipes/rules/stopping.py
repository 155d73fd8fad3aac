"""Stopping an etcd, keeping it stopped, and starting it again: what each may be done in."""

from __future__ import annotations

from agent.model.plan import Step
from agent.recipes.rules.common import Broken, looked_first, may_start_seed, place, stops
from agent.recipes.world import Scene, World


def park_definition(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """There is something to park, and parking it costs no quorum."""
    if w.definition.get(step.host) != "in-place":
        yield f"parks a definition that is {place(w, step.host)}"
    yield from looked_first(w, step, scene)
    yield from stops(w, step.host, scene)
    w.park(step.host)


def stop_etcd(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Only what nothing starts again is stopped for good."""
    if w.definition.get(step.host) == "in-place":
        yield "stops an etcd whose definition is in place: the kubelet starts it again"
    yield from looked_first(w, step, scene)
    w.disturbed = True
    w.stopped.add(step.host)


def fence(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """A fence may always be raised, but not on the rescued cluster's own seed, nor for a quorum."""
    if step.host == w.seed or step.host in scene.seeds:
        yield "fences the host that the cluster goes on from"
    yield from stops(w, step.host, scene)
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


def restart_kubelet(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Never with a definition in place that may be half-ready."""
    if w.definition.get(step.host) == "in-place":
        yield "restarts the kubelet with etcd's definition in place"
    yield from ()


def unpark_definition(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Only what is parked, and only over data that belongs to the cluster of now."""
    host = step.host
    if w.definition.get(host) != "parked":
        yield f"puts a definition back that is {place(w, host)}"
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
        yield from may_start_seed(w, step, scene)
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


def wait_peer_port(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Of an etcd that was started; that it answers its peers says nothing of a quorum."""
    if w.definition.get(step.host) != "in-place" or step.host not in w.runs:
        yield "waits for an etcd that nothing starts"
