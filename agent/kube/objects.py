"""Values inside objects of the API, whatever shape they come in."""

from __future__ import annotations

from typing import Any

from agent.kube.client import Kube, Object
from agent.kube.paths import NODES, PODS
from agent.model.facts.openshift4 import CONTROL_PLANE

POD_LABEL = "etcd=true"
"""Of cluster-etcd-operator's bindata/etcd/pod.yaml; guard pods have another one."""


def at(item: Any, *path: str) -> Any:
    """A value inside an object of the API; None where any part of the way is missing."""
    for part in path:
        item = item.get(part) if isinstance(item, dict) else None
    return item


def text_at(item: Any, *path: str) -> str:
    """The same as a text; empty for anything that is none."""
    found = at(item, *path)
    return found if isinstance(found, str) else ""


def condition(item: Any, kind: str) -> str:
    """The status of one of its conditions: True, False, Unknown; empty for none."""
    rows = at(item, "status", "conditions")
    for row in rows if isinstance(rows, list) else ():
        if text_at(row, "type") == kind:
            return text_at(row, "status")
    return ""


def is_control_plane(node: Object) -> bool:
    """Whether a node carries one of the two labels that say so."""
    labels = at(node, "metadata", "labels")
    return isinstance(labels, dict) and any(label in labels for label in CONTROL_PLANE)


def ready_nodes(kube: Kube) -> list[str]:
    """Names of control-plane nodes that are ready, sorted."""
    return sorted(
        text_at(node, "metadata", "name")
        for node in kube.list(NODES) or ()
        if is_control_plane(node) and condition(node, "Ready") == "True"
    )


def ready_pods(kube: Kube) -> dict[str, Object]:
    """Node → its etcd pod, of those that run and are ready."""
    pods = [p for p in kube.list(PODS, POD_LABEL) or () if _is_ready(p)]
    return {text_at(pod, "spec", "nodeName"): pod for pod in pods}


def _is_ready(pod: Object) -> bool:
    return (
        text_at(pod, "status", "phase") == "Running"
        and condition(pod, "Ready") == "True"
        and not at(pod, "metadata", "deletionTimestamp")
    )
