"""The etcd operator: certificates for every node, revisions of the pod, members one at a time.

It does what cluster-etcd-operator's controllers do (EtcdCertSigner, target config, revision,
installer, cluster member, machine deletion hooks), each turn one small part: whatever dies in the
middle is met again by the next turn.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage

from tests.lab import pki
from tests.lab.etcd_client import EtcdUnavailable, Member
from tests.lab.host import Host
from tests.lab.openshift4 import layout
from tests.lab.openshift4.actor.reports import revision_on
from tests.lab.openshift4.api.kinds import Object, at, condition
from tests.lab.openshift4.pod import etcd_pod

if TYPE_CHECKING:
    from tests.lab.openshift4.actor.cluster import Actor

_SPACE = "openshift-etcd"
_ETCD = "etcds.operator.openshift.io"
_ROLES = {"peer": 1, "serving": 0, "serving-metrics": 0}
"""Secret → which of a host's ready-made keys it has."""

_OVERRIDE = "useUnsupportedUnsafeNonHANonProductionUnstableEtcd"


def make_secrets(actor: Actor, node: str) -> None:
    """Issue what is missing of a member's certificates, by etcd's CA."""
    host = actor.lab.hosts[node]
    there = {s["metadata"]["name"] for s in actor.list("secrets", _SPACE)}
    for role, key in _ROLES.items():
        name = f"etcd-{role}-{node}"
        if name not in there:
            cert, private = _issue(host, key)
            data = {"tls.crt": _b64(cert), "tls.key": _b64(private)}
            actor.make("secrets", name, _SPACE, type="kubernetes.io/tls", data=data)


def _issue(host: Host, key: int) -> tuple[bytes, bytes]:
    folder = host.disk.pki / "etcd"
    certificate = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    ca_key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    assert isinstance(ca_key, rsa.RSAPrivateKey)
    san: list[x509.GeneralName] = [x509.DNSName(host.name), x509.DNSName("localhost")]
    san += [x509.IPAddress(ipaddress.ip_address(a)) for a in (host.address, "127.0.0.1", "::1")]
    leaf = pki.make_leaf(
        pki.Credential(certificate, ca_key), pki._subject(host.name, "system:etcd"),
        3 + 5 * host.index + key, [Usage.SERVER_AUTH, Usage.CLIENT_AUTH], san,
    )  # fmt: skip
    return leaf.certificate.public_bytes(serialization.Encoding.PEM), pki._private_pem(leaf.key)


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _secrets(actor: Actor) -> dict[str, Object]:
    nodes = {n["metadata"]["name"] for n in actor.list("nodes")}
    wanted = {f"etcd-{role}-{node}" for role in _ROLES for node in nodes}
    found = {s["metadata"]["name"]: s for s in actor.list("secrets", _SPACE)}
    return {name: found[name] for name in sorted(wanted & set(found))}


def certs_of(actor: Actor) -> str:
    """What changes whenever a member's certificate does: all nodes get all of them."""
    uids = [f"{n}={s['metadata']['uid']}" for n, s in _secrets(actor).items()]
    return hashlib.sha256("\n".join(uids).encode()).hexdigest()


class EtcdOperator:
    """One turn after the other, each from what is there."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._former: dict[str, set[int]] = {}
        self._through = next(iter(actor.lab.hosts.values()))

    def turn(self) -> None:
        """Do the next small part of whatever is to be done."""
        actor = self._actor
        nodes = sorted(n["metadata"]["name"] for n in actor.list("nodes"))
        for node in nodes:
            make_secrets(actor, node)
        members = self._members()
        self._let_machines_go({m.name for m in members})
        etcd = actor.get(_ETCD, "cluster")
        if etcd is None:
            return
        latest = int(etcd["status"]["latestAvailableRevision"])
        if self._needs_revision(etcd, latest):
            if not self._is_held(etcd, members):
                self._make_revision(etcd, latest + 1, nodes)
            return
        self._install_next(etcd, latest, members)

    def _members(self) -> list[Member]:
        """By the first member that answers a linearizable request."""
        hosts = [h for h in self._actor.lab.hosts.values() if h.is_up]
        serving = next(filter(self._actor.lab.is_healthy, hosts), None)
        if serving is None:
            raise EtcdUnavailable("no member answers")
        self._through = serving
        return self._actor.lab.members(serving)

    def _let_machines_go(self, members: set[str]) -> None:
        """Take the hook off a machine that is to go, once its member is out."""
        name = "machines.machine.openshift.io"
        for machine in self._actor.list(name, "openshift-machine-api"):
            hooks = at(machine, "spec.lifecycleHooks.preDrain")
            is_leaving = at(machine, "metadata.deletionTimestamp")
            if hooks and is_leaving and at(machine, "status.nodeRef.name") not in members:
                self._actor.change(
                    name, machine["metadata"]["name"], "openshift-machine-api",
                    lambda o: {**o, "spec": {**o["spec"], "lifecycleHooks": {}}},
                )  # fmt: skip

    # ---- revisions -------------------------------------------------------------------------------

    def _needs_revision(self, etcd: Object, latest: int) -> bool:
        config = self._actor.get("configmaps", f"etcd-pod-{latest}", _SPACE) or {}
        reason = at(etcd, "spec.forceRedeploymentReason")
        data = config.get("data") or {}
        return (data.get("forceRedeploymentReason"), data.get("certs")) != (
            reason, certs_of(self._actor),
        )  # fmt: skip

    def _is_held(self, etcd: Object, members: list[Member]) -> bool:
        """The quorum guard: no new revision with fewer than three voters, unless told otherwise."""
        overrides = at(etcd, "spec.unsupportedConfigOverrides") or {}
        voters = sum(not m.is_learner for m in members)
        return self._actor.guard and voters < 3 and overrides.get(_OVERRIDE) is not True

    def _make_revision(self, etcd: Object, revision: int, nodes: list[str]) -> None:
        data = {"forceRedeploymentReason": at(etcd, "spec.forceRedeploymentReason"),
                "certs": certs_of(self._actor)}  # fmt: skip
        if self._actor.get("configmaps", f"etcd-pod-{revision}", _SPACE) is None:
            self._actor.make("configmaps", f"etcd-pod-{revision}", _SPACE, data=data)
        known = {r["nodeName"]: r for r in etcd["status"]["nodeStatuses"]}
        fresh = {"currentRevision": 0, "targetRevision": 0}
        rows = [known.get(n, {"nodeName": n, **fresh}) for n in nodes]
        self._actor.status(_ETCD, "cluster", "", latestAvailableRevision=revision,
                           nodeStatuses=rows)  # fmt: skip

    # ---- nodes, one at a time --------------------------------------------------------------------

    def _install_next(self, etcd: Object, latest: int, members: list[Member]) -> None:
        """Bring one node to the newest revision: a node without a member before all others."""
        rows = etcd["status"]["nodeStatuses"]
        behind = [r["nodeName"] for r in rows if r["currentRevision"] != latest]
        names = {m.name for m in members if not m.is_learner}
        started = [r["nodeName"] for r in rows if r["targetRevision"] == latest]
        ready = [n for n in behind if self._is_ready(n)]
        chosen = next(iter([n for n in started if n in ready]), None) or next(
            iter(sorted(ready, key=lambda n: (n in names, n))), None
        )
        if chosen is None:
            return
        host = self._actor.lab.hosts[chosen]
        if chosen not in started:
            self._note(etcd, chosen, targetRevision=latest)
            self._write(host, latest)
        elif revision_on(host) != latest:
            self._write(host, latest)
        elif self._is_member(host, members) and self._runs_anew(host):
            self._note(etcd, chosen, currentRevision=latest, targetRevision=0)

    def _is_ready(self, node: str) -> bool:
        found = self._actor.get("nodes", node)
        return found is not None and condition(found, "Ready") == "True"

    def _note(self, etcd: Object, node: str, **change: int) -> None:
        rows = [
            {**row, **change} if row["nodeName"] == node else row
            for row in etcd["status"]["nodeStatuses"]
        ]
        self._actor.status(_ETCD, "cluster", "", nodeStatuses=rows)

    def _write(self, host: Host, revision: int) -> None:
        """What installer pods do: the revision's files, then the old definition out, the new in."""
        hosts = len(self._actor.lab.hosts)
        folder = f"{layout.RESOURCES}/etcd-certs/secrets/etcd-all-certs"
        for name, secret in _secrets(self._actor).items():
            for kind, suffix in (("tls.crt", "crt"), ("tls.key", "key")):
                host.write(f"{folder}/{name}.{suffix}", base64.b64decode(secret["data"][kind]))
        ca = (host.disk.pki / "etcd/ca.crt").read_bytes()
        for bundle in ("server", "metrics"):
            where = f"{layout.RESOURCES}/etcd-certs/configmaps/etcd-all-bundles"
            host.write(f"{where}/{bundle}-ca-bundle.crt", ca)
        scripts = f"{layout.RESOURCES}/etcd-certs/configmaps/etcd-scripts"
        host.write(f"{scripts}/etcd.env", layout.env_file(host.index, hosts), 0o644)
        host.write(f"{scripts}/cluster-backup.sh", layout.BACKUP_SCRIPT, 0o755)
        for path, text in layout.revision_files(host.index, hosts, revision).items():
            host.write(path, text)
        self._former[host.name] = set(host.etcd_pids())
        Path(host.path(layout.MANIFEST)).unlink(missing_ok=True)
        host.write(layout.MANIFEST, etcd_pod(host.index, hosts, revision))

    def _is_member(self, host: Host, members: list[Member]) -> bool:
        """Add it as a learner, and promote it once it has started; True for a voter."""
        url = f"https://{host.address}:2380"
        found = next((m for m in members if url in m.peer_urls), None)
        client = self._actor.lab.client(self._through)
        if found is None:
            if not any(m.is_learner for m in members):
                client.add_learner(url)
            return False
        if found.is_learner and found.name:
            client.promote(found.id)
        return not found.is_learner

    def _runs_anew(self, host: Host) -> bool:
        """An etcd that was not there before the new definition serves."""
        pids = set(host.etcd_pids())
        is_new = bool(pids) and not pids & self._former.get(host.name, set())
        return is_new and self._actor.lab.is_healthy(host)
