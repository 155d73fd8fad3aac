"""What a master of OpenShift 3.11 has beside its etcd."""

from __future__ import annotations

from dataclasses import dataclass

BALANCER = "haproxy"
"""The platform of a host that is a load balancer, and no part of the cluster."""


@dataclass(frozen=True)
class Component:
    """The API or the controllers. name: api or controllers; path: its definition, empty where it is
    not in the watched directory. port: of its /healthz, on this host.
    """  # noqa: D205

    name: str
    path: str
    port: int


@dataclass(frozen=True)
class Master311:
    """What a master has. is_master: it has API or controllers, in place or set aside by a plan.

    ca_files: paths that exist on one master of a cluster only. flannel: hosts of flannel's etcd
    endpoints, in order; flannel_file: where they stand. node: the name it has in the cluster.
    """

    is_master: bool
    components: tuple[Component, ...] = ()
    ca_files: tuple[str, ...] = ()
    flannel_file: str = ""
    flannel: tuple[str, ...] = ()
    node: str = ""
