"""The rules of certificates and alarms: what may be done in a cluster that serves, or will."""

from __future__ import annotations

from collections.abc import Iterator

from agent.model.plan import Step
from agent.recipes.rules.looks import names
from agent.recipes.world import Scene, World, text_of, texts_of

Broken = Iterator[str]


def check_authority(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """A look at whose CA will be lent."""
    survey = scene.cluster.survey(step.host)
    seen = {c.fingerprint for c in survey.certificates if c.key == "present"} if survey else set()
    if text_of(step, "fingerprint") not in seen:
        yield "lends another CA than one that was seen there with its key"
    w.lenders.add((step.host, text_of(step, "fingerprint")))


def install_authority(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """The CA of another host, the very one that was looked at right before."""
    source = text_of(step, "source")
    if source == step.host:
        yield "brings a host its own CA"
    if (source, text_of(step, "fingerprint")) not in w.lenders:
        yield f"brings the CA of {source or 'nobody'}, at which nobody looked"
    if step.host not in scene.surveyed:
        yield "brings a CA to a host that was not looked at"


def issue_certificates(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Before its etcd is stopped: a certificate that cannot be made must stop nothing."""
    if step.host not in scene.surveyed:
        yield "issues certificates on a host that was not looked at"
    if step.host in w.stopped | w.ours:
        yield "issues certificates only after etcd was stopped"
    if not texts_of(step, "roles"):
        yield "issues no certificate"


def compact_history(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Through a member that serves, and before anything is rewritten."""
    if step.host not in w.serving:
        yield f"compacts through {step.host}, which does not serve"
    if w.defragmented:
        yield "compacts after a database was rewritten"


def defragment(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """One member at a time, the leader last, each seen to serve before the next."""
    host = step.host
    if w.restarting:
        yield f"rewrites a second database while {names(w.restarting)} is not back"
    if host not in w.serving or host not in w.voters:
        yield "rewrites the database of a host that is not a voter that serves"
    leader = scene.cluster.diagnosis.leader
    if host == leader and (scene.voters & w.serving) - w.defragmented - {host}:
        yield "rewrites the leader's database before the others'"
    w.defragmented.add(host)
    if w.has_quorum(without=host):
        w.serving.discard(host)
        w.restarting.add(host)


def disarm_nospace(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Only once every member's database was rewritten."""
    left = set(w.voters) - w.defragmented
    if left:
        yield f"takes the alarm back before {names(left)} had its database rewritten"
    if w.restarting:
        yield f"takes the alarm back before {names(w.restarting)} was seen to serve"
    if step.host not in w.serving:
        yield f"takes the alarm back through {step.host}, which does not serve"


def clear_removed_alarm(w: World, step: Step, scene: Scene, waits_for: str) -> Broken:
    """Only of a member that is none any more."""
    target = text_of(step, "id")
    if not target:
        yield "takes back the alarm of nobody"
    listed = {m.host for m in scene.cluster.diagnosis.members if m.id == target}
    if listed & (w.voters | w.learners) and target not in w.removed:
        yield f"takes the alarm CORRUPT of {names(listed)} back, which is a member"
    if step.host not in w.serving:
        yield f"takes the alarm back through {step.host}, which does not serve"
