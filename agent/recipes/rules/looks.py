"""The rules of what only looks, or guards for the time of a look: nothing on the disk changes."""

from __future__ import annotations

from collections.abc import Iterator

from agent.model.plan import Step
from agent.recipes.world import Scene, World

Broken = Iterator[str]


def names(hosts: set[str] | frozenset[str]) -> str:
    """Give host names as a text, sorted."""
    return ", ".join(sorted(hosts))


def preflight(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Before anything stops; on a host that was off then, once it is fenced."""
    if w.disturbed and (step.host in scene.surveyed or step.host not in w.ours):
        yield "looks after something was stopped already"
    w.preflighted.add(step.host)


def peers_silent(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Every other member that there was must be looked for."""
    endpoints = step.args.get("endpoints", ())
    w.silent = {str(e[0]) for e in endpoints if isinstance(e, (list, tuple)) and e}
    others = scene.others(step.host) - scene.restores  # which this plan stops itself
    rivals = others - w.ours - scene.lost
    if scene.reseeds and rivals:
        yield f"looks for silence before {names(rivals)} were fenced"
    left_out = {h for h in others if scene.urls[h]} - w.silent
    if left_out:
        yield f"does not look for {names(left_out)}"
    yield from ()


def guard_peers(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """The guard answers in the survivor's place: only right after a look that found nobody."""
    if scene.restores or step.host not in scene.seeds:
        yield "turns members away that were not removed"
    if w.looked != step.host:
        yield "guards the peer port without a last look right before it"
    w.guarded = step.host


def unguard_peers(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Etcd must answer for itself before the guard goes."""
    if w.guarded != step.host:
        yield "takes a guard away that is not there"
    if step.host not in w.serving:
        yield "takes the guard away before etcd was seen to serve"
    w.guarded = ""
