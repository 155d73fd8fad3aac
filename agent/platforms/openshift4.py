"""OpenShift 4: etcd as a static pod of several containers that the etcd operator writes."""

from __future__ import annotations

from dataclasses import dataclass

from agent.host import Host
from agent.model.facts import EtcdConfig, TlsFiles
from agent.platforms.base import Platform

RESOURCES = "/etc/kubernetes/static-pod-resources"
CERTS = f"{RESOURCES}/etcd-certs"
LOCAL_KUBECONFIG = f"{RESOURCES}/kube-apiserver-certs/secrets/node-kubeconfigs/localhost.kubeconfig"
"""The node's own kubeconfig: it speaks to the API server of this very node."""


@dataclass(frozen=True)
class OpenShift4(Platform):
    """Paths of cluster-etcd-operator (bindata/etcd/pod.gotpl.yaml, etcd-common-tools).

    The operator installs /etc/kubernetes/manifests/etcd-pod.yaml as one line of JSON, mode 0600,
    and takes the old file away before it writes the new one. Pods `etcd-guard-…` of the same
    namespace are no etcd: they are no static pods. No host holds etcd's CA with its key; the
    operator issues certificates.
    """

    name: str = "openshift4"
    title: str = "OpenShift 4"
    signs: tuple[str, ...] = (
        "/etc/kubernetes/manifests/etcd-pod.yaml",
        CERTS,
        f"{RESOURCES}/kube-apiserver-certs",
    )
    manifest_dir: str = "/etc/kubernetes/manifests"
    manifest_name: str = "etcd-pod.yaml"
    pki_dir: str = CERTS
    ca: str = ""
    client_pairs: tuple[tuple[str, str], ...] = ()
    namespace: str = "openshift-etcd"
    image_tool: str = "podman"
    api_prefix: str = "/kubernetes.io"
    control_plane_namespaces: tuple[str, ...] = (
        "openshift-kube-apiserver", "openshift-kube-controller-manager", "openshift-kube-scheduler",
    )  # fmt: skip

    def client_tls(self, host: Host, config: EtcdConfig) -> TlsFiles:
        """The peer's pair, which etcdctl uses there (ETCDCTL_CERT), with the servers' CA bundle."""
        server, peer = config.server_tls, config.peer_tls
        if not server.cert:
            return TlsFiles()
        for cert, key in ((peer.cert, peer.key), (server.cert, server.key)):
            if cert and key and host.exists(cert) and host.exists(key):
                return TlsFiles(cert, key, server.ca)
        return TlsFiles(ca=server.ca)
