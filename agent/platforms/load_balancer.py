"""A host that is a load balancer and nothing else: it has steps in plans, and no etcd."""

from __future__ import annotations

from dataclasses import dataclass

from agent.model.facts.openshift311 import BALANCER
from agent.platforms.base import Platform


@dataclass(frozen=True)
class LoadBalancer(Platform):
    """haproxy under systemd; the last that is looked for."""

    name: str = BALANCER
    title: str = "haproxy"
    signs: tuple[str, ...] = ("/etc/haproxy/haproxy.cfg",)
    manifest_dir: str = ""
    manifest_name: str = ""
    pki_dir: str = ""
    ca: str = ""
    client_pairs: tuple[tuple[str, str], ...] = ()
    container: str = ""
    pod_prefix: str = ""
    kubelet_unit: str = ""
    definition_kind: str = "none"
