"""What OpenShift's API says of machines and nodes, as far as a replacement needs it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

REPLACES = "etcd-rescue/replaces"
"""Annotation of a machine that we made: the UID of the one it replaces; a second run knows it."""

ROLE = "machine.openshift.io/cluster-api-machine-role"
"""Label of a machine: master, or another role."""

CONTROL_PLANE = ("node-role.kubernetes.io/master", "node-role.kubernetes.io/control-plane")
"""Labels of nodes, of which either one says so."""


@dataclass(frozen=True)
class MachineFacts:
    """One Machine of machine.openshift.io. object: as the API gave it, whole.

    owners: KIND/NAME of what made it. manager: "ClusterAPI" where Cluster API has the last word on
    it (spec.authoritativeAPI), else empty.
    """

    name: str
    uid: str
    phase: str
    node: str
    role: str
    object: dict[str, Any]
    owners: tuple[str, ...] = ()
    manager: str = ""
    is_deleting: bool = False


@dataclass(frozen=True)
class NodeFacts:
    """One node. ready: True, False or Unknown, as its condition says. machine: NAMESPACE/NAME."""

    name: str
    ready: str
    is_control_plane: bool
    machine: str = ""
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class ApiFacts:
    """What the API says, all read at one time.

    has_machines: there is a machine API at all. sets: names of control plane machine sets that are
    active. cluster_api: NAMESPACE/NAME → node, of Cluster API's own machines. secrets: names of
    those of etcd's members. pods: node → name, of etcd pods that run and are ready.
    """

    machines: tuple[MachineFacts, ...] = ()
    nodes: tuple[NodeFacts, ...] = ()
    has_machines: bool = True
    sets: tuple[str, ...] = ()
    cluster_api: dict[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    pods: dict[str, str] = field(default_factory=dict)
