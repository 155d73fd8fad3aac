"""Data copied, moved and seeded: what each may be done in, and what it changes."""

from __future__ import annotations

from agent.model.plan import Step
from agent.recipes.rules.common import Broken, may_force, needs_preflight, needs_stopped
from agent.recipes.rules.restoring import alone
from agent.recipes.rules.stopping import unpark_definition
from agent.recipes.world import Scene, World


def copy_data(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Of a stopped etcd, of the original, and once: a second copy would discard the first."""
    yield from needs_stopped(w, step.host)
    yield from needs_preflight(w, step.host, scene)
    if w.data.get(step.host, "original") != "original":
        yield f"copies data that is {w.data[step.host]}"
    if step.host in w.copied:
        yield "copies over an earlier copy"
    w.copied.add(step.host)


def seed_cluster(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """--force-new-cluster: once, on one host, on a copy, with every other voter kept away."""
    yield from needs_stopped(w, step.host)
    yield from may_force(w, step, scene)
    if step.host not in w.copied:
        yield "rewrites the membership in the only data there is: nothing was copied"
    if w.data.get(step.host, "original") != "original":
        yield "rewrites the membership after the data was moved"
    w.prepared.add(step.host)
    w.seed = step.host


def relocate_data(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Of a stopped etcd; the seed's after its copy is ready, another's once the seed serves."""
    host = step.host
    yield from needs_stopped(w, host)
    yield from needs_preflight(w, host, scene)
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
    yield from needs_stopped(w, host)
    if w.data.get(host, "original") != "relocated":
        yield f"puts data in place where the {w.data.get(host, 'original')} one is"
    is_plain = step.args.get("scratch", True) is False
    if host not in (w.copied if is_plain else w.prepared):
        yield "puts data in place that was not prepared"
    w.data[host] = "installed"
    w.prepared.discard(host)


def seed_in_manifest(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """The same as a scratch seed and a start, in one step."""
    yield from may_force(w, step, scene)
    if step.host not in w.copied or w.data.get(step.host) != "installed":
        yield "rewrites the membership in data that is not the copy"
    w.seed = step.host
    yield from unpark_definition(w, step, scene, waits_for)


def prejoin(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """A fenced host without data, added as a learner, to a cluster that serves."""
    host = step.host
    yield from needs_stopped(w, host)
    yield from needs_preflight(w, host, scene)
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
