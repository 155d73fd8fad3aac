"""kubeadm with a stacked etcd: a static pod, certificates below /etc/kubernetes/pki."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, replace

import yaml

from agent.errors import Damaged
from agent.host import Host
from agent.platforms.base import Platform

KUBELET_CONFIG = "/var/lib/kubelet/config.yaml"
_PKI = "/etc/kubernetes/pki"
KUBEADM_PHASES = {
    "server": ("etcd-server", "etcd/server"),
    "peer": ("etcd-peer", "etcd/peer"),
    "client": ("etcd-healthcheck-client", "etcd/healthcheck-client"),
    "apiserver-client": ("apiserver-etcd-client", "apiserver-etcd-client"),
}
"""Role → (phase of `kubeadm init phase certs`, file below the certificate directory)."""

_PAIRS = ("etcd/healthcheck-client", "apiserver-etcd-client", "etcd/server", "etcd/peer")


@dataclass(frozen=True)
class Kubeadm(Platform):
    """Paths of kubeadm's constants (cmd/kubeadm/app/constants); the kubelet may watch elsewhere."""

    name: str = "kubeadm"
    title: str = "kubeadm (stacked etcd)"
    signs: tuple[str, ...] = (
        "/etc/kubernetes/manifests/etcd.yaml",
        f"{_PKI}/etcd/ca.crt",
        "/etc/kubernetes/manifests/kube-apiserver.yaml",
    )
    manifest_dir: str = "/etc/kubernetes/manifests"
    manifest_name: str = "etcd.yaml"
    pki_dir: str = f"{_PKI}/etcd"
    ca: str = f"{_PKI}/etcd/ca.crt"
    ca_key: str = f"{_PKI}/etcd/ca.key"
    clients: tuple[tuple[str, str, str], ...] = (
        ("client", f"{_PKI}/etcd/healthcheck-client.crt", f"{_PKI}/etcd/healthcheck-client.key"),
        ("apiserver-client", f"{_PKI}/apiserver-etcd-client.crt",
         f"{_PKI}/apiserver-etcd-client.key"),
    )  # fmt: skip
    client_pairs: tuple[tuple[str, str], ...] = tuple(
        (f"{_PKI}/{pair}.crt", f"{_PKI}/{pair}.key") for pair in _PAIRS
    )

    def check(self, host: Host) -> bool:
        """True if a sign is there, or an etcd manifest where this host's kubelet looks for it."""
        return super().check(host) or host.exists(self.on(host).manifest)

    def on(self, host: Host) -> Platform:
        """With the `staticPodPath` of the kubelet's own configuration."""
        return replace(self, manifest_dir=_static_pod_path(host) or self.manifest_dir)


def _static_pod_path(host: Host) -> str:
    """The staticPodPath (KubeletConfiguration, kubelet.config.k8s.io/v1beta1), or an empty string.

    An unreadable file says nothing: the kubelet would not start with it either.
    """
    try:
        text = host.read_text(KUBELET_CONFIG, 1024 * 1024)
        config = yaml.safe_load(text)
    except (OSError, Damaged, yaml.YAMLError, RecursionError, ValueError):
        return ""
    path = config.get("staticPodPath") if isinstance(config, dict) else None
    if not isinstance(path, str) or not path.startswith("/"):
        return ""
    return posixpath.normpath(path)
