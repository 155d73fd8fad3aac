"""Makes certificates of etcd by kubeadm itself, in a directory of ours, from a config of ours.

Without a config kubeadm would take the address of the default route for the advertise address, and
ask the internet for a version; and in the real directory it writes over nothing, and not atomically
(cmd/kubeadm/app/cmd/phases/init/certs.go).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

import yaml

from agent.actions.issuing import Wanted
from agent.errors import Refused, RescueError
from agent.host import Host
from agent.model.facts import EtcdConfig
from agent.platforms.base import Platform
from agent.platforms.kubeadm import KUBEADM_PHASES

_APIS = ("kubeadm.k8s.io/v1beta4", "kubeadm.k8s.io/v1beta3", "kubeadm.k8s.io/v1beta2")
"""What a kubeadm of 1.15 or later may read, the newest first; one that it does not know it names
in its own defaults."""


class KubeadmIssuer:
    """Runs `kubeadm init phase certs` for one role at a time."""

    def __init__(self, host: Host, kubeadm: str, config: EtcdConfig, platform: Platform) -> None:
        self._host, self._kubeadm = host, kubeadm
        self._config, self._platform = config, platform
        self.version = host.run([kubeadm, "version", "-o", "short"], timeout=20).stdout.strip()

    def can_issue(self, want: Wanted) -> bool:
        """True if what kubeadm gives is what is wanted: it knows IP addresses and RSA 2048."""
        return want.role in KUBEADM_PHASES and want.key_kind == "rsa:2048"

    def issue(self, wishes: Sequence[Wanted], work: str) -> dict[str, tuple[bytes, bytes]]:
        """Role → (certificate, key) as PEM. Raises RescueError where kubeadm will not.

        work: a directory of ours; the CA is copied into it, below `pki`, as kubeadm wants it.
        """
        pki = f"{work}/pki"
        self._host.makedirs(f"{pki}/etcd")
        self._host.copy_file(self._platform.ca, f"{pki}/etcd/ca.crt")
        self._host.copy_file(self._platform.ca_key, f"{pki}/etcd/ca.key")
        config = f"{work}/kubeadm.yaml"
        self._host.write_atomic(config, self._text(wishes, pki).encode())
        made: dict[str, tuple[bytes, bytes]] = {}
        for want in wishes:
            phase, stem = KUBEADM_PHASES[want.role]
            argv = [self._kubeadm, "init", "phase", "certs", phase, "--config", config]
            self._host.run(argv, timeout=60)
            certificate, key = f"{pki}/{stem}.crt", f"{pki}/{stem}.key"
            made[want.role] = (self._host.read_bytes(certificate), self._host.read_bytes(key))
        return made

    def _text(self, wishes: Sequence[Wanted], pki: str) -> str:
        version = api_version(self._host, self._kubeadm, "init")
        node = next((w.common_name for w in wishes if not w.organizations and w.names), "")
        etcd: dict[str, Any] = {"dataDir": self._config.data_dir or "/var/lib/etcd"}
        for want in wishes:
            if want.role in ("server", "peer"):
                etcd[f"{want.role}CertSANs"] = [*want.names, *want.addresses]
        init = {
            "apiVersion": version,
            "kind": "InitConfiguration",
            "localAPIEndpoint": {"advertiseAddress": _address(wishes)},
            "nodeRegistration": {
                "name": node or self._config.name,
                # Any: with two runtimes on the host kubeadm would want to be told, for no use here.
                "criSocket": "unix:///run/containerd/containerd.sock",
            },
        }
        cluster = {
            "apiVersion": version,
            "kind": "ClusterConfiguration",
            "kubernetesVersion": self.version,
            "certificatesDir": self._host.realpath(pki),
            "etcd": {"local": etcd},
        }
        return yaml.safe_dump_all([init, cluster], sort_keys=False)


def api_version(host: Host, kubeadm: str, kind: str) -> str:
    """The newest API version that this kubeadm reads a config in. kind: init or join.

    Raises Refused where it names none that is known here.
    """
    said = host.run([kubeadm, "config", "print", f"{kind}-defaults"], timeout=20)
    known = [api for api in _APIS if f"apiVersion: {api}\n" in said.stdout]
    if not known:
        raise Refused(f"{kubeadm} reads none of {', '.join(_APIS)}", next=f"{kubeadm} version")
    return known[0]


def _address(wishes: Sequence[Wanted]) -> str:
    """An address that is no loopback; kubeadm refuses to do without, though clients carry none.

    Raises Refused where the member is known by names alone.
    """
    found = [a for w in wishes for a in w.addresses if not ipaddress.ip_address(a).is_loopback]
    if not found and any(w.addresses for w in wishes):
        raise Refused("the member has no IP address among its names, and kubeadm wants one")
    return found[0] if found else "192.0.2.1"  # TEST-NET-1: client certificates carry no address


def explain(error: RescueError) -> str:
    """What kubeadm said, in one line."""
    return " ".join(error.seen.split())[-400:]
