"""What kubelets report: whether their node is ready, and how its etcd pod is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.lab.host import Host
from tests.lab.openshift4.layout import MANIFEST

if TYPE_CHECKING:
    from tests.lab.openshift4.actor.cluster import Actor

_SPACE = "openshift-etcd"


def turn(actor: Actor) -> None:
    """Bring nodes and etcd's mirror pods up to date."""
    for node in actor.list("nodes"):
        name = node["metadata"]["name"]
        host = actor.lab.hosts[name]
        ready = "True" if host.is_listening(22) else "Unknown"
        actor.status("nodes", name, "", conditions=[{"type": "Ready", "status": ready}])
        _report_pod(actor, host, ready)


def revision_on(host: Host) -> int:
    """The revision of the definition in place on a host; 0 where there is none."""
    try:
        pod = json.loads(host.read(MANIFEST))
    except (OSError, ValueError):
        return 0
    return int(pod["metadata"]["labels"]["revision"])


def _report_pod(actor: Actor, host: Host, ready: str) -> None:
    """A mirror pod is there as long as its definition is; of a silent node it is as it was."""
    name, revision = f"etcd-{host.name}", revision_on(host)
    pod = actor.get("pods", name, _SPACE)
    if ready != "True":
        if pod is not None:
            _set(actor, name, "Running", False)
        return
    if not revision:
        if pod is not None:
            actor.drop("pods", name, _SPACE)
        return
    labels = {"app": "etcd", "etcd": "true", "k8s-app": "etcd", "revision": str(revision)}
    if pod is None or pod["metadata"]["labels"] != labels:
        actor.drop("pods", name, _SPACE)
        spec = {"nodeName": host.name, "containers": [{"name": "etcd"}]}
        actor.make("pods", name, _SPACE, metadata={"labels": labels}, spec=spec)
    _set(actor, name, "Running", actor.lab.is_healthy(host))


def _set(actor: Actor, name: str, phase: str, ready: bool) -> None:
    told = "True" if ready else "False"
    containers: list[Any] = [{"name": "etcd", "ready": ready}]
    actor.status("pods", name, _SPACE, phase=phase, containerStatuses=containers,
                 conditions=[{"type": "Ready", "status": told}])  # fmt: skip
