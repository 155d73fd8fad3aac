"""What differs from one kind of control plane to another, as data; nothing else knows it."""

from __future__ import annotations

from dataclasses import dataclass

from agent.host import Host
from agent.model.facts import EtcdConfig, TlsFiles


@dataclass(frozen=True)
class Platform:
    """One kind of control plane. Subclasses give the data, and methods where data is not enough.

    manifest_dir: the directory watched by the kubelet; empty where a service manager runs etcd.
    manifest: the file in it (or elsewhere) that defines etcd. signs: paths of which any one
    proves this platform. client_pairs: (certificate, key) accepted by etcd, the best first.
    ca_key: what `ca` issues with, where it may lie on a host. clients: (role, certificate, key) of
    the client certificates that this platform's own tools keep for etcd. pod_prefix: how the names
    of etcd's static pods begin. definition_kind: what makes etcd run, a
    "manifest", a "sourced" manifest (whose shell reads etcd's variables from files beside it) or a
    "unit"; unit: the name of the unit. restart_with: a program of the host that restarts a part of
    the control plane by its name. Empty container: no container runtime is in
    play; empty kubelet_unit: no kubelet is. image_tool: what mounts an image of the local store,
    "ctr" (containerd) or "podman" (whose store is CRI-O's). api_prefix: what kube-apiserver's keys
    in etcd begin with (its --etcd-prefix). control_plane_namespaces: where its pods are.
    """

    name: str
    title: str
    signs: tuple[str, ...]
    manifest_dir: str
    manifest_name: str
    pki_dir: str
    ca: str
    client_pairs: tuple[tuple[str, str], ...]
    container: str = "etcd"
    namespace: str = "kube-system"
    pod_prefix: str = "etcd-"
    kubelet_unit: str = "kubelet.service"
    ca_key: str = ""
    clients: tuple[tuple[str, str, str], ...] = ()
    definition_kind: str = "manifest"
    unit: str = ""
    restart_with: str = ""
    image_tool: str = "ctr"
    api_prefix: str = "/registry"
    control_plane_namespaces: tuple[str, ...] = ("kube-system",)

    @property
    def manifest(self) -> str:
        """The path of the file that defines etcd; of no meaning where a unit does."""
        return f"{self.manifest_dir}/{self.manifest_name}"

    def check(self, host: Host) -> bool:
        """True if `host` is a control-plane host of this kind, whatever is down or moved away."""
        return any(host.exists(path) for path in self.signs)

    def on(self, host: Host) -> Platform:
        """The platform with the paths that `host` has configured for itself."""
        return self

    def client_tls(self, host: Host, config: EtcdConfig) -> TlsFiles:
        """The files to speak to etcd with: the first pair that exists, then etcd's own ones.

        Empty where etcd serves its clients without TLS.
        """
        server, peer = config.server_tls, config.peer_tls
        if not server.cert:
            return TlsFiles()
        pairs = (*self.client_pairs, (server.cert, server.key), (peer.cert, peer.key))
        ca = self.ca if self.ca and host.exists(self.ca) else server.ca
        for cert, key in pairs:
            if cert and key and host.exists(cert) and host.exists(key):
                return TlsFiles(cert, key, ca)
        return TlsFiles(ca=ca)
