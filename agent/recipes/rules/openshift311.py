"""The rules of what only OpenShift 3.11 has: a master leaves, and the others take notice."""

from __future__ import annotations

from collections.abc import Iterator

from agent.model.facts.openshift311 import Master311
from agent.model.plan import Step
from agent.recipes.world import Scene, World, text_of, texts_of

Broken = Iterator[str]
CA_FILES = "ca-files"


def _master(scene: Scene, host: str) -> Master311:
    survey = scene.cluster.survey(host)
    return (survey.master311 if survey else None) or Master311(False)


def set_conf_members(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """A file is changed and nothing restarts; on every host that stays a member."""
    if scene.cluster.restarts_when_changed(step.host) and step.host in scene.surveyed:
        yield "changes a definition that would restart etcd"
    if step.host not in w.voters:
        yield "writes the members into the etcd.conf of a host that is no voter"
    if text_of(step, "state") != "existing":
        yield "would let an empty member found a cluster of its own"


def set_flannel_endpoints(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Only URLs of a member that is gone."""
    gone = set(texts_of(step, "gone"))
    if not gone:
        yield "takes nobody out of flannel's endpoints"
    for host in w.voters:
        known = {host, scene.cluster.name(host), scene.cluster.addresses.get(host, "")}
        if known & gone:
            yield f"takes {host} out of flannel's endpoints, which is a member"


def restart_master(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """One component at a time, of a master that stays."""
    if step.host in w.retired:
        yield f"restarts what was stopped for good on {step.host}"
    if text_of(step, "component") not in ("api", "controllers"):
        yield "restarts neither API nor controllers"


def check_ca_files(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """A look at what will be lent."""
    w.lenders.add((step.host, CA_FILES))
    yield from ()


def install_ca_files(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """From the host that was looked at, to another master that stays."""
    source = text_of(step, "source")
    if source == step.host:
        yield "brings a host its own files"
    if (source, CA_FILES) not in w.lenders:
        yield f"brings the CA files of {source or 'nobody'}, at which nobody looked"
    if not _master(scene, step.host).is_master:
        yield f"brings CA files to {step.host}, which is no master"
    w.holders.add(step.host)


def remove_backend(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """While the API still answers there: connections end, and none is refused."""
    master = text_of(step, "master")
    if master in w.retired:
        yield f"takes {master} off the load balancer after its API was stopped"
    if not texts_of(step, "addresses"):
        yield "takes a server off the load balancer without its addresses"
    w.balanced.add(master)


def drain_node(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Through a master that stays."""
    if step.host == text_of(step, "master") or step.host in w.retired:
        yield "drains a master through itself"


def park_master(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Off the load balancer first; never the last one; never with the only CA files."""
    host = step.host
    if host not in w.balanced and step.args.get("by_hand") is not True:
        yield f"stops the API of {host}, to which the load balancer still sends"
    others = {h for h in scene.surveyed - w.retired - {host} if _serves(_master(scene, h))}
    if not others:
        yield f"stops the API of {host}, and no other master has one"
    if _master(scene, host).ca_files and not w.holders - {host}:
        yield f"stops {host} before another master has its CA files"
    w.retired.add(host)


def _serves(master: Master311) -> bool:
    return any(c.name == "api" and c.path for c in master.components)


def verify_endpoints(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Of masters that were stopped, seen from one that was not."""
    if step.host in w.retired:
        yield f"asks {step.host}, whose API was stopped"
    if not w.retired:
        yield "looks for endpoints that went, and no master was stopped"


def place_master_file(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """One file of the host's own backup."""
    if not text_of(step, "path").startswith("/etc/"):
        yield f"puts back {text_of(step, 'path') or 'nothing'}, which no backup of a master has"
    yield from ()


OPENSHIFT311 = (
    set_conf_members, set_flannel_endpoints, restart_master, check_ca_files, install_ca_files,
    remove_backend, drain_node, park_master, verify_endpoints, place_master_file,
)  # fmt: skip
"""The rules of the actions that only OpenShift 3.11 has."""
