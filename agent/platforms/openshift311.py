"""OpenShift 3.11 (OKD, Origin): a static pod that sources etcd.conf, or the older etcd.service."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, replace

import yaml

from agent.errors import Damaged
from agent.host import STATE_DIR, Host
from agent.platforms.base import Platform
from agent.platforms.systemd import UNIT_DIRS

NODE_CONFIG = "/etc/origin/node/node-config.yaml"
ETCD_CONF = "/etc/etcd/etcd.conf"
MASTER_CONFIG = "/etc/origin/master/master-config.yaml"
ADMIN_KUBECONFIG = "/etc/origin/master/admin.kubeconfig"
NODE_UNITS = ("origin-node.service", "atomic-openshift-node.service")
MASTER_PODS = {"api": "apiserver.yaml", "controllers": "controller.yaml"}
"""Name of the container, and of `master-restart`'s argument → its file in the watched directory."""

CA_HOST_FILES = ("/etc/origin/master/ca.serial.txt",)
CA_HOST_DIRS = ("/etc/etcd/ca", "/etc/etcd/generated_certs")
"""On one master only: what its installer needs to add nodes and etcd members."""

BACKED_UP = (
    "/etc/origin", "/etc/sysconfig", "/etc/etcd", "/etc/cni", "/etc/dnsmasq.conf",
    "/etc/dnsmasq.d", "/etc/pki/ca-trust/source/anchors",
)  # fmt: skip
"""What the documentation backs up of a master; the named files below these are in sources.py."""


@dataclass(frozen=True)
class OpenShift311(Platform):
    """Paths of openshift-ansible release-3.11 (roles/etcd, roles/openshift_control_plane)."""

    name: str = "openshift311"
    title: str = "OpenShift 3.11"
    signs: tuple[str, ...] = (MASTER_CONFIG, "/etc/origin/node/pods/etcd.yaml", NODE_CONFIG)
    manifest_dir: str = "/etc/origin/node/pods"
    manifest_name: str = "etcd.yaml"
    pki_dir: str = "/etc/etcd"
    ca: str = "/etc/etcd/ca.crt"
    ca_key: str = "/etc/etcd/ca/ca.key"
    client_pairs: tuple[tuple[str, str], ...] = (
        ("/etc/etcd/peer.crt", "/etc/etcd/peer.key"),
        ("/etc/origin/master/master.etcd-client.crt", "/etc/origin/master/master.etcd-client.key"),
    )
    pod_prefix: str = "master-etcd-"
    kubelet_unit: str = "origin-node.service"
    definition_kind: str = "sourced"
    restart_with: str = "master-restart"
    api_prefix: str = "/kubernetes.io"

    def on(self, host: Host) -> Platform:
        """With this host's watched directory and unit; a unit where no static pod is, or was."""
        here = replace(self, manifest_dir=_pod_path(host) or self.manifest_dir)
        names = {n for directory in UNIT_DIRS for n in host.listdir(directory)}
        node = next((n for n in NODE_UNITS if n in names), self.kubelet_unit)
        here = replace(here, kubelet_unit=node)
        parked = host.listdir(f"{STATE_DIR}/parked")
        is_pod = host.exists(here.manifest) or any(n.endswith("-etcd.yaml") for n in parked)
        if is_pod or "etcd.service" not in names:
            return here
        return replace(
            here, manifest_dir="", manifest_name="", container="", pod_prefix="",
            kubelet_unit="", definition_kind="unit", unit="etcd.service",
        )  # fmt: skip


def pods_dir(host: Host) -> str:
    """The directory of static pods on this host, whatever runs its etcd."""
    return _pod_path(host) or OpenShift311().manifest_dir


def _pod_path(host: Host) -> str:
    """The node configuration's pod-manifest-path (kubeletArguments), or an empty string."""
    try:
        config = yaml.safe_load(host.read_text(NODE_CONFIG, 1024 * 1024))
    except (OSError, Damaged, yaml.YAMLError, RecursionError, ValueError):
        return ""
    arguments = config.get("kubeletArguments") if isinstance(config, dict) else None
    found = arguments.get("pod-manifest-path") if isinstance(arguments, dict) else None
    path = found[0] if isinstance(found, list) and found else None
    if not isinstance(path, str) or not path.startswith("/"):
        return ""
    return posixpath.normpath(path)
