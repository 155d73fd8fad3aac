"""The rules of OpenShift 4's host side: backups first, and members that its operator brings."""

from __future__ import annotations

from collections.abc import Iterator

from agent.diagnosis.quorum import quorum_after_add_learner, quorum_after_promote
from agent.model.plan import Step
from agent.recipes.rules.common import allowed, healthy
from agent.recipes.world import Scene, World, text_of

Broken = Iterator[str]


def take_backup_set(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Of a cluster that serves, before anything of it was stopped."""
    if w.disturbed:
        yield "takes a backup after something was stopped already"
    if step.host not in w.serving:
        yield f"takes a backup on {step.host}, whose etcd does not serve"
    if not text_of(step, "folder") or not text_of(step, "stamp"):
        yield "takes a backup to a place that is not named"


def await_member(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """A fenced host whose member and data are gone, once the operator was told to roll out."""
    host = step.host
    if host not in w.ours or host not in w.stopped:
        yield f"waits for a member on {host}, which this plan has not fenced"
    if w.data.get(host) != "relocated":
        yield f"waits for a new member on {host} with its old data in place"
    if host in w.voters | w.learners:
        yield f"waits for a new member on {host} whose old one is still there"
    if not _before(step, scene, "force_redeployment"):
        yield "waits for an operator that nobody told anything"
    if not _before(step, scene, "take_backup_set"):
        yield "leaves a member to the operator before a backup was taken"
    yield from allowed(quorum_after_add_learner(len(w.voters), healthy(w)))
    yield from allowed(quorum_after_promote(len(w.voters), healthy(w), True))
    w.voters.add(host)
    w.serving.add(host)
    w.runs.add(host)
    w.stopped.discard(host)
    w.definition[host], w.data[host] = "in-place", "installed"


def _before(step: Step, scene: Scene, action: str) -> bool:
    steps = scene.plan.steps()
    before = steps[: steps.index(step)] if step in steps else ()
    return any(each.action == action for each in before)


def restore_static_resources(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """On a host that is restored; nothing that is there is touched."""
    if step.host not in scene.restores:
        yield "puts resources of a backup on a host that is not restored from it"
    if not text_of(step, "archive") or len(text_of(step, "sha256")) != 64:
        yield "puts resources back from an archive that is not named by its hash"


HOST_RULES = (take_backup_set, await_member, restore_static_resources)
