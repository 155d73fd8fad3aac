"""The rules of the snapshot timer: it touches no member, on hosts that were looked at."""

from __future__ import annotations

from agent.model.plan import Step
from agent.recipes.rules.common import Broken
from agent.recipes.world import Scene, World


def install_timer(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Where etcd is defined, and is not stopped by this very plan."""
    if step.host not in scene.surveyed:
        yield "puts a timer on a host that was not looked at"
    if step.host in w.stopped | w.ours:
        yield "puts a timer on a host whose etcd the plan has stopped"


def remove_timer(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """On a host that was looked at."""
    if step.host not in scene.surveyed:
        yield "takes a timer off a host that was not looked at"
