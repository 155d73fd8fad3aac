"""What the API says of machines, nodes and etcd's pods, read in one go."""

from __future__ import annotations

from typing import Any

from agent.kube.client import Kube, Object
from agent.kube.objects import at, condition, is_control_plane, ready_pods, text_at
from agent.kube.paths import (
    CLUSTER_API_MACHINES,
    MACHINE_SETS,
    MACHINES,
    NODES,
    SECRETS,
)
from agent.model.facts.openshift4 import ROLE, ApiFacts, MachineFacts, NodeFacts

_MACHINE_OF_NODE = "machine.openshift.io/machine"


def look_at_machines(kube: Kube) -> ApiFacts:
    """Read it all. Raises ApiUnavailable where the API does not answer, Paused where it refuses."""
    machines = kube.list(MACHINES)
    sets = kube.list(MACHINE_SETS) or []
    others = kube.list(CLUSTER_API_MACHINES) or []
    return ApiFacts(
        machines=tuple(_machine(m) for m in machines or ()),
        nodes=tuple(_node(n) for n in kube.list(NODES) or ()),
        has_machines=machines is not None,
        sets=tuple(
            text_at(s, "metadata", "name") for s in sets if text_at(s, "spec", "state") == "Active"
        ),
        cluster_api={
            f"{text_at(m, 'metadata', 'namespace')}/{text_at(m, 'metadata', 'name')}": text_at(
                m, "status", "nodeRef", "name"
            )
            for m in others
        },
        secrets=kube.names(SECRETS),
        pods={node: text_at(p, "metadata", "name") for node, p in ready_pods(kube).items()},
    )


def _machine(machine: Object) -> MachineFacts:
    owners = at(machine, "metadata", "ownerReferences") or ()
    authority = text_at(machine, "spec", "authoritativeAPI")
    return MachineFacts(
        name=text_at(machine, "metadata", "name"),
        uid=text_at(machine, "metadata", "uid"),
        phase=text_at(machine, "status", "phase"),
        node=text_at(machine, "status", "nodeRef", "name"),
        role=text_at(machine, "metadata", "labels", ROLE),
        object=machine,
        owners=tuple(f"{text_at(o, 'kind')}/{text_at(o, 'name')}" for o in owners),
        manager=authority if authority == "ClusterAPI" else "",
        is_deleting=bool(at(machine, "metadata", "deletionTimestamp")),
    )


def _node(node: Object) -> NodeFacts:
    rows: Any = at(node, "status", "addresses")
    return NodeFacts(
        name=text_at(node, "metadata", "name"),
        ready=condition(node, "Ready") or "Unknown",
        is_control_plane=is_control_plane(node),
        machine=text_at(node, "metadata", "annotations", _MACHINE_OF_NODE),
        addresses=tuple(filter(None, (text_at(row, "address") for row in rows or ()))),
    )
