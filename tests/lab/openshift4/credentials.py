"""The API's certificates, and kubeconfigs with them in the form of OpenShift's."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage

from tests.lab import names, pki

_SERVER_KEY, _CLIENT_KEY = 2, 4 + 5 * (names.MAX_HOSTS - 1)
"""Of the ready-made keys, two that etcd's certificates leave free."""


@dataclass(frozen=True)
class ApiCredentials:
    """A CA for the API server and its clients, and who they are."""

    authority: pki.Credential
    server: pki.Credential
    admin: pki.Credential

    @classmethod
    def make(cls) -> ApiCredentials:
        """Fresh ones; the server's name is every host's, and localhost."""
        pki.ensure_keys()
        authority = pki.make_authority("kube-apiserver-lb-signer", 0)
        addresses = ["127.0.0.1", "::1", *names.all_hosts().values(), names.OPERATOR_ADDRESS]
        san: list[x509.GeneralName] = [x509.DNSName(n) for n in ("localhost", *names.all_hosts())]
        san += [x509.IPAddress(ipaddress.ip_address(a)) for a in addresses]
        both = [Usage.SERVER_AUTH, Usage.CLIENT_AUTH]
        server = pki.make_leaf(authority, pki._subject("kube-apiserver"), _SERVER_KEY, both, san)
        subject = pki._subject("system:admin", "system:masters")
        admin = pki.make_leaf(authority, subject, _CLIENT_KEY, [Usage.CLIENT_AUTH])
        return cls(authority, server, admin)

    def write(self, folder: Path) -> None:
        """Write ca, server and admin as .crt and .key into a directory."""
        for name, credential in (
            ("ca", self.authority), ("server", self.server), ("admin", self.admin),
        ):  # fmt: skip
            credential.write(folder / name)

    def kubeconfig(self, folder: str, server: str = "https://localhost:6443") -> str:
        """A kubeconfig as OpenShift leaves it on its nodes: the paths of files in `folder`."""
        return yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config",
            "clusters": [{"name": "lb", "cluster": {
                "certificate-authority": f"{folder}/ca.crt", "server": server}}],
            "contexts": [{"name": "system:admin", "context": {
                "cluster": "lb", "user": "system:admin"}}],
            "current-context": "system:admin", "preferences": {},
            "users": [{"name": "system:admin", "user": {
                "client-certificate": f"{folder}/admin.crt",
                "client-key": f"{folder}/admin.key"}}],
        })  # fmt: skip

    def pem(self, which: pki.Credential) -> tuple[str, str]:
        """(certificate, key) as PEM."""
        certificate = which.certificate.public_bytes(serialization.Encoding.PEM).decode()
        return certificate, pki._private_pem(which.key).decode()
