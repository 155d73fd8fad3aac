"""etcd run by systemd beside Kubernetes: kubespray, distribution packages, units made by hand."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from agent.errors import Damaged
from agent.host import STATE_DIR, Host
from agent.model.facts import EtcdConfig, TlsFiles
from agent.platforms.base import Platform
from agent.platforms.kubeadm import Kubeadm

UNIT_DIRS = (
    "/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system", "/lib/systemd/system",
)  # fmt: skip
_RUNS_ETCD = re.compile(
    r"^\s*ExecStart=(?:.*\\\r?\n)*.*(?:/|[\s\"'])etcd(?:[\s\"'\\]|$)", re.MULTILINE
)
_KUBESPRAY = "/etc/ssl/etcd/ssl"
_AUTHORITIES = (
    (f"{_KUBESPRAY}/ca.pem", f"{_KUBESPRAY}/ca-key.pem"),
    ("/etc/etcd/ca.crt", "/etc/etcd/ca.key"),
    ("/etc/etcd/ca.pem", "/etc/etcd/ca-key.pem"),
    ("/etc/etcd/pki/ca.crt", "/etc/etcd/pki/ca.key"),
    ("/etc/etcd/ssl/ca.pem", "/etc/etcd/ssl/ca-key.pem"),
)
"""Where kubespray, and people by the well-known guides, have the CA of etcd and its key."""
_STACKED = "/etc/kubernetes/pki/etcd/ca.crt"
_LINKS = ("multi-user.target.wants", "default.target.wants", "kubelet.service.wants")


@dataclass(frozen=True)
class SystemdEtcd(Platform):
    """A unit defines etcd. Settings lie where the distribution puts them, and the unit says where.

    Signs: kubespray's /etc/etcd.env, Red Hat's /etc/etcd/etcd.conf, Debian's /etc/default/etcd.
    """

    name: str = "systemd"
    title: str = "etcd under systemd"
    signs: tuple[str, ...] = ("/etc/etcd.env", "/etc/etcd/etcd.conf", "/etc/default/etcd")
    manifest_dir: str = ""
    manifest_name: str = ""
    pki_dir: str = "/etc/etcd"
    ca: str = ""
    client_pairs: tuple[tuple[str, str], ...] = (
        ("/etc/kubernetes/pki/apiserver-etcd-client.crt",
         "/etc/kubernetes/pki/apiserver-etcd-client.key"),
    )  # fmt: skip
    container: str = ""
    pod_prefix: str = ""
    kubelet_unit: str = ""
    definition_kind: str = "unit"
    unit: str = "etcd.service"

    def check(self, host: Host) -> bool:
        """True if a unit runs etcd here and no static pod does, whatever is down or moved away.

        kubespray's hosts have kubeadm's API server with an etcd of this kind beside it; a host with
        kubeadm's etcd may have a package's idle unit.
        """
        kubeadm = Kubeadm().on(host)
        parked = host.listdir(f"{STATE_DIR}/parked")
        if host.exists(kubeadm.manifest) or any(n.endswith(kubeadm.manifest_name) for n in parked):
            return False
        name = _find(host)
        if not host.exists(_STACKED):
            return bool(name) or super().check(host)
        return bool(name) and _is_pulled_in(host, name)

    def on(self, host: Host) -> Platform:
        """With the name of this host's unit, its CA, and the clients that kubespray makes."""
        found = [pair for pair in _AUTHORITIES if host.exists(pair[0])]
        ca, ca_key = next((p for p in found if host.exists(p[1])), (*found, ("", ""))[0])
        clients = tuple(("client", *pair) for pair in _admin_pairs(host)[:1])
        return replace(self, unit=_find(host) or self.unit, ca=ca, ca_key=ca_key, clients=clients)

    def client_tls(self, host: Host, config: EtcdConfig) -> TlsFiles:
        """The admin pair that kubespray gives this host, the API server's, then etcd's own ones."""
        if not config.server_tls.cert:
            return TlsFiles()
        found = tuple(_admin_pairs(host))
        return Platform.client_tls(
            replace(self, client_pairs=found + self.client_pairs), host, config
        )


def _admin_pairs(host: Host) -> list[tuple[str, str]]:
    """(certificate, key) of kubespray's admins, this host's own one first."""
    own = f"admin-{host.hostname()}.pem"
    names = sorted(host.listdir(_KUBESPRAY), key=lambda n: (n != own, n))
    return [
        (f"{_KUBESPRAY}/{n}", f"{_KUBESPRAY}/{n[:-4]}-key.pem")
        for n in names
        if n.startswith("admin-") and n.endswith(".pem") and not n.endswith("-key.pem")
    ]


def _find(host: Host) -> str:
    """The name of the unit that runs etcd: etcd.service rather than another; or nothing."""
    names = {
        name
        for directory in UNIT_DIRS
        for name in host.listdir(directory)
        if name.endswith(".service") and "etcd" in name
    }
    for name in sorted(names, key=lambda n: (n != "etcd.service", n)):
        if any(_is_etcd(host, f"{directory}/{name}", name) for directory in UNIT_DIRS):
            return name
    return ""


def _is_etcd(host: Host, path: str, name: str) -> bool:
    """True if the unit starts etcd, or is a masked etcd.service."""
    if host.is_link(path) and host.realpath(path) == "/dev/null":
        return name == "etcd.service"
    try:
        text = host.read_bytes(path, 1024 * 1024).decode("utf-8", "replace")
    except (OSError, Damaged):
        return False
    return name == "etcd.service" or bool(_RUNS_ETCD.search(text))


def _is_pulled_in(host: Host, name: str) -> bool:
    """True if the unit is enabled, as far as links say."""
    return any(
        host.is_link(f"{directory}/{links}/{name}") for directory in UNIT_DIRS for links in _LINKS
    )
