"""Certificates as kubeadm makes them: two authorities, and four leaves on every host."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from cryptography.x509.oid import NameOID

from tests.lab import cache, names, recipe

_YEAR = datetime.timedelta(days=365)
_KEY_COUNT = 3 + 5 * names.MAX_HOSTS


def ensure_keys() -> Path:
    """Make the lab's RSA keys once: they take long, the certificates around them do not."""

    def build(target: Path) -> None:
        for index in range(_KEY_COUNT):
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            (target / f"{index}.key").write_bytes(_private_pem(key))

    return cache.ensure(recipe.keys_dir(), build)


def _private_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def _stored_key(index: int) -> rsa.RSAPrivateKey:
    pem = (recipe.keys_dir() / f"{index}.key").read_bytes()
    key = serialization.load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


@dataclass(frozen=True)
class Credential:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey

    def write(self, stem: Path) -> None:
        """Write STEM.crt (0644) and STEM.key (0600), as kubeadm does."""
        stem.parent.mkdir(parents=True, exist_ok=True)
        certificate = stem.with_name(stem.name + ".crt")
        certificate.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        certificate.chmod(0o644)
        key = stem.with_name(stem.name + ".key")
        key.touch(mode=0o600)
        key.write_bytes(_private_pem(self.key))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: rsa.RSAPrivateKey, years: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + years * _YEAR)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        key_cert_sign=signs_certificates,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(common_name: str, organization: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)] if organization else []
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def make_authority(common_name: str, key_index: int) -> Credential:
    """A self-signed authority with kubeadm's ten years."""
    key = _stored_key(key_index)
    subject = _subject(common_name)
    builder = _builder(subject, subject, key, 10)
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    alternative = x509.SubjectAlternativeName([x509.DNSName(common_name)])
    builder = builder.add_extension(alternative, critical=False)
    return Credential(builder.sign(key, hashes.SHA256()), key)


def make_leaf(
    authority: Credential,
    subject: x509.Name,
    key_index: int,
    usages: list[x509.ObjectIdentifier],
    alternative_names: list[x509.GeneralName] | None = None,
) -> Credential:
    """A leaf with kubeadm's one year."""
    key = _stored_key(key_index)
    builder = _builder(subject, authority.certificate.subject, key, 1)
    builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    builder = builder.add_extension(
        x509.BasicConstraints(ca=False, path_length=None), critical=True
    )
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    if alternative_names:
        names_ = x509.SubjectAlternativeName(alternative_names)
        builder = builder.add_extension(names_, critical=False)
    return Credential(builder.sign(authority.key, hashes.SHA256()), key)


@dataclass(frozen=True)
class Authorities:
    """The two authorities that all hosts of one cluster share."""

    kubernetes: Credential
    etcd: Credential

    @classmethod
    def make(cls) -> Authorities:
        """Fresh authorities, over ready-made keys."""
        return cls(make_authority("kubernetes", 0), make_authority("etcd-ca", 1))

    def write_host(self, pki: Path, index: int) -> None:
        """Fill a host's /etc/kubernetes/pki."""
        name = names.host_name(index)
        address = ipaddress.ip_address(names.host_address(index))
        san: list[x509.GeneralName] = [x509.DNSName(name), x509.DNSName("localhost")]
        san += [x509.IPAddress(address)]
        san += [x509.IPAddress(ipaddress.ip_address(text)) for text in ("127.0.0.1", "::1")]
        both = [Usage.SERVER_AUTH, Usage.CLIENT_AUTH]
        first = 3 + 5 * index
        client = _subject("kube-etcd-healthcheck-client", "system:masters")
        api = _subject("kube-apiserver-etcd-client", "system:masters")
        self.kubernetes.write(pki / "ca")
        self.etcd.write(pki / "etcd/ca")
        make_leaf(self.etcd, _subject(name), first, both, san).write(pki / "etcd/server")
        make_leaf(self.etcd, _subject(name), first + 1, both, san).write(pki / "etcd/peer")
        only_client = [Usage.CLIENT_AUTH]
        healthcheck = make_leaf(self.etcd, client, first + 2, only_client)
        healthcheck.write(pki / "etcd/healthcheck-client")
        make_leaf(self.etcd, api, first + 3, only_client).write(pki / "apiserver-etcd-client")

    def write_api_server(self, stem: Path, index: int) -> None:
        """Write the serving certificate of a host's API server; it names the load balancer too."""
        hosts = (index, names.LB_INDEX)
        san: list[x509.GeneralName] = [x509.DNSName(names.host_name(i)) for i in hosts]
        san += [x509.IPAddress(ipaddress.ip_address(names.host_address(i))) for i in hosts]
        san += [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        subject = _subject(names.host_name(index))
        usages = [Usage.SERVER_AUTH]
        make_leaf(self.kubernetes, subject, 7 + 5 * index, usages, san).write(stem)
