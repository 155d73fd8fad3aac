"""Members added, promoted and removed: what each may be done in, and what it changes."""

from __future__ import annotations

from agent.diagnosis.quorum import (
    quorum_after_add_learner,
    quorum_after_promote,
    quorum_after_remove,
)
from agent.model.plan import Step
from agent.recipes.rules.common import (
    Broken,
    acts,
    allowed,
    fence_costs_quorum,
    fenced_next,
    healthy,
)
from agent.recipes.rules.looks import names
from agent.recipes.world import Scene, World, text_of, texts_of


def member_remove(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """The dead, by another member, with the quorum before and after."""
    target = scene.ids.get(text_of(step, "id"), "")
    yield from acts(w, step)
    if target not in w.voters | w.learners:
        yield f"removes {text_of(step, 'id') or 'nobody'}, which is no member"
        return
    if target == step.host:
        yield "removes the local member"
    if not set(texts_of(step, "peer_urls")) & scene.urls[target]:
        yield "removes a member by an ID that is not the one at its peer URL"
    if target in w.fenced or target in scene.lost or target not in scene.surveyed:
        pass
    elif not (fence_costs_quorum(w, target) and fenced_next(scene, step, target)):
        yield f"removes {target}, which is neither fenced nor declared lost"
    w.removed.add(text_of(step, "id"))
    if target in w.voters:
        is_healthy = target in w.serving
        yield from allowed(quorum_after_remove(len(w.voters), healthy(w), is_healthy))
    w.voters.discard(target)
    w.learners.discard(target)
    w.serving.discard(target)
    w.runs.discard(target)


def member_add_learner(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """One at a time, of a fenced host without data, whose old member is gone."""
    target = scene.members_at(texts_of(step, "peer_urls"), waits_for)
    yield from acts(w, step)
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
    yield from allowed(quorum_after_add_learner(len(w.voters), healthy(w)))
    w.learners.add(target)


def member_promote(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """A learner that was seen to run under the kubelet, and runs on."""
    target = scene.members_at(texts_of(step, "peer_urls"), waits_for)
    yield from acts(w, step)
    if target not in w.learners:
        yield f"promotes {target or 'nobody'}, which is no learner"
        return
    if target not in w.shown or target not in w.runs:
        yield f"promotes {target} before it was seen to run under the kubelet"
    yield from allowed(quorum_after_promote(len(w.voters), healthy(w), target in w.shown))
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
