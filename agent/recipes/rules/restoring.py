"""The rules of restores: one new cluster, prepared before anything stops, and nobody beside it."""

from __future__ import annotations

from collections.abc import Iterator

from agent.model.plan import Step
from agent.recipes.cluster import pairs
from agent.recipes.rules.looks import names
from agent.recipes.world import Scene, World, text_of, texts_of

Broken = Iterator[str]


def restore_snapshot(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Beside the data, while everything runs as it did; what is served is given up by word only."""
    if w.disturbed:
        yield "restores a snapshot after something was stopped: the outage would wait for it"
    if step.host in scene.surveyed and step.host not in w.preflighted:
        yield "restores on a host that was not prepared"
    if (w.quorate or w.serving) and step.args.get("discard") is not True:
        yield "discards what is served without the operator's word"
    if step.host in w.copied:
        yield "restores over an earlier copy"
    yield from _one_cluster(step, scene)
    w.copied.add(step.host)


def _one_cluster(step: Step, scene: Scene) -> Broken:
    """The same members and the same fresh token on every host that is restored."""
    together = [s for s in scene.plan.steps() if s.action == "restore_snapshot"]
    if not text_of(step, "token"):
        yield "restores without a token of its own: the old members would be taken for its own"
    for word in ("token", "initial_cluster", "sha256", "bump"):
        if len({repr(s.args.get(word)) for s in together}) > 1:
            yield f"restores with a {word} that is not the same on all hosts"
    wanted = [(text_of(s, "name"), url) for s in together for url in texts_of(s, "peer_urls")]
    if pairs(text_of(step, "initial_cluster")) != sorted(wanted):
        yield "restores a membership that is not that of the hosts restored"


def place_definition(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Only on a host that is restored, before anything else is done there."""
    if step.host not in scene.restores:
        yield "puts a definition on a host that is not restored"
    if w.disturbed or step.host in w.copied:
        yield "puts a definition on a host that was worked on already"


def prove_restored(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """A member of its own cluster alone can serve on loopback."""
    if step.host not in w.copied or step.host not in scene.restores:
        yield "starts data that was not restored"
    if len(scene.restores) > 1:
        yield "waits for a member to serve alone that is one of several"
    w.prepared.add(step.host)
    w.cleaned = True


def remove_stale_leases(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Through a member that serves."""
    if step.host not in w.serving or not w.quorate:
        yield "changes keys through a member that does not serve"
    w.cleaned = True


def restart_control_plane(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """An API server that starts before the restored data serves would remember nothing of it."""
    if not (w.born and w.serving):
        yield "restarts the control plane before the restored cluster serves"
    w.renewed.add(step.host)


def alone(w: World, step: Step, scene: Scene) -> Broken:
    """Data that a cluster is restored over is moved once nobody else can go on with the old one."""
    if not scene.restores:
        return
    if w.serving:
        yield f"moves data away while {names(w.serving)} serves"
    others = scene.others(step.host) - w.ours - scene.lost - (scene.restores & w.stopped)
    if others:
        yield f"moves data away with {names(others)} neither fenced nor declared lost"


def restored(w: World, scene: Scene, off: frozenset[str]) -> Broken:
    """What a restore leaves: no stale lease, and nobody with revisions in memory that are gone."""
    if not scene.restores:
        return
    if not w.cleaned:
        yield "at the end: the API server leases of the snapshot are still there"
    steps = [s for s in scene.plan.steps() if s.action == "restore_snapshot"]
    raised = all(s.args.get("bump") for s in steps)
    left = scene.surveyed - w.renewed - off
    if not raised and left:
        yield f"at the end: the control plane of {names(left)} remembers revisions to come"


RESTORES = (
    place_definition,
    restore_snapshot,
    prove_restored,
    remove_stale_leases,
    restart_control_plane,
)
"""The rules of the actions that only restores have."""
