"""Which kind of control plane a host has; each kind's paths, names and oddities."""

from __future__ import annotations

from agent.errors import Refused
from agent.host import Host
from agent.platforms.base import Platform
from agent.platforms.kubeadm import Kubeadm
from agent.platforms.load_balancer import LoadBalancer
from agent.platforms.openshift4 import OpenShift4
from agent.platforms.openshift311 import OpenShift311
from agent.platforms.systemd import SystemdEtcd

PLATFORMS: tuple[Platform, ...] = (
    OpenShift4(), OpenShift311(), SystemdEtcd(), Kubeadm(), LoadBalancer(),
)  # fmt: skip
"""Every kind known, the most particular first: the first whose check holds is the one."""


def detect(host: Host) -> Platform:
    """The platform of `host`, with the paths that this host has configured.

    Works with etcd, kubelet, runtime and API down. Raises Refused where none is recognised.
    """
    for platform in PLATFORMS:
        if platform.check(host):
            return platform.on(host)
    raise Refused(
        f"no known control plane found on {host.hostname()}",
        "looked for " + "; ".join(f"{p.title}: {', '.join(p.signs)}" for p in PLATFORMS),
        "run this on a control-plane host",
    )
