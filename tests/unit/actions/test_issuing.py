"""Certificates that are issued here are those that kubeadm would issue, and no key leaks."""

from __future__ import annotations

import datetime
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.actions.issuing import OpensslIssuer, Wanted, wanted
from agent.host import Host
from agent.host.capture import capture
from agent.model.facts import EtcdConfig, TlsFiles
from agent.platforms.kubeadm import Kubeadm
from tests.lab.kubeadm_build import kubeadm_program

PKI = "etc/kubernetes/pki"
NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl on this machine")


def authority_key(kind: str) -> Any:
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP384R1() if kind == "ec384" else ec.SECP256R1())


def make_authority(root: Path, kind: str = "rsa", days: int = 3650) -> x509.Certificate:
    """A CA as kubeadm makes it, below a root."""
    key = authority_key(kind)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "etcd-ca")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - datetime.timedelta(days=400))
        .not_valid_after(NOW + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    certificate = builder.sign(key, hashes.SHA256())
    folder = root / PKI / "etcd"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ca.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "ca.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    (folder / "ca.key").chmod(0o600)
    return certificate


def config() -> EtcdConfig:
    below = f"/{PKI}/etcd"
    return EtcdConfig(
        definition="/etc/kubernetes/manifests/etcd.yaml", sha256="", name="m0",
        data_dir="/var/lib/etcd",
        advertise_client_urls=("https://10.0.0.1:2379",),
        listen_client_urls=("https://127.0.0.1:2379", "https://10.0.0.1:2379"),
        advertise_peer_urls=("https://10.0.0.1:2380",),
        listen_peer_urls=("https://10.0.0.1:2380",),
        server_tls=TlsFiles(f"{below}/server.crt", f"{below}/server.key", f"{below}/ca.crt"),
        peer_tls=TlsFiles(f"{below}/peer.crt", f"{below}/peer.key", f"{below}/ca.crt"),
    )  # fmt: skip


class InRoot(Host):
    """A host under a prefix whose commands run here, on the prefixed paths: no chroot is needed."""

    def run(self, argv: Any, *args: Any, **words: Any) -> Any:
        inside = [self.root + w if w.startswith(("/var", "/etc")) else w for w in argv]
        return Host("/").run(inside, *args, **words)

    def which(self, name: str) -> str:
        return shutil.which(name) or "" if name == "openssl" else ""


def issuer(root: Path) -> OpensslIssuer:
    host = InRoot(str(root))
    (root / "var/lib").mkdir(parents=True, exist_ok=True)
    host.makedirs("/var/lib/etcd-rescue/work/p")
    ca = f"/{PKI}/etcd/ca"
    return OpensslIssuer(host, "openssl", f"{ca}.crt", f"{ca}.key", "/var/lib/etcd-rescue/work/p")


def issue(root: Path, want: Wanted) -> tuple[x509.Certificate, Any]:
    certificate, key = issuer(root).issue(want, NOW.timestamp())
    return (
        x509.load_pem_x509_certificate(certificate),
        serialization.load_pem_private_key(key, None),
    )


def want_of(root: Path, role: str) -> Wanted:
    return wanted(InRoot(str(root)), config(), Kubeadm(), role)


def subject(certificate: x509.Certificate) -> list[tuple[str, str]]:
    return [(a.rfc4514_attribute_name, str(a.value)) for a in certificate.subject]


@pytest.mark.parametrize("kind", ["rsa", "ec256", "ec384"])
@pytest.mark.parametrize("role", ["server", "peer", "client", "apiserver-client"])
def test_it_is_what_kubeadm_makes(tmp_path: Path, role: str, kind: str) -> None:
    ca = make_authority(tmp_path, kind)
    made, key = issue(tmp_path, want_of(tmp_path, role))
    made.verify_directly_issued_by(ca)
    assert made.public_key() == key.public_key()
    is_rsa = kind == "rsa"
    assert isinstance(key, rsa.RSAPrivateKey if is_rsa else ec.EllipticCurvePrivateKey)
    assert (key.key_size, made.version) == (2048 if is_rsa else 256, x509.Version.v3)
    assert made.not_valid_before_utc == ca.not_valid_before_utc
    assert made.not_valid_after_utc == NOW + datetime.timedelta(days=365)
    assert 1 <= made.serial_number < 2**63
    both = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    usages = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    is_member = role in ("server", "peer")
    assert set(usages.value) == (both if is_member else {ExtendedKeyUsageOID.CLIENT_AUTH})
    assert subject(made) == [("CN", {"server": "m0", "peer": "m0"}.get(role, "kube-" + {
        "client": "etcd-healthcheck-client", "apiserver-client": "apiserver-etcd-client",
    }.get(role, "")))]  # fmt: skip
    usage = made.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert usage.value.key_encipherment
    assert not usage.value.key_cert_sign
    constraints = made.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca) == (True, False)
    identifier = made.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    own = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    assert identifier.value.key_identifier == own.value.digest
    if not is_member:
        with pytest.raises(x509.ExtensionNotFound):
            made.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "m0"]
    found = [str(a) for a in names.get_values_for_type(x509.IPAddress)]
    assert found == ["10.0.0.1", "127.0.0.1", "::1"]


def test_what_the_old_one_had_beside_is_kept(tmp_path: Path) -> None:
    make_authority(tmp_path)
    first = replace(
        want_of(tmp_path, "server"), names=("etcd.example.com", "localhost", "m0"),
        common_name="node-0", addresses=("10.0.0.1", "127.0.0.1", "::1", "192.168.7.7"),
        key_kind="rsa:3072",
    )  # fmt: skip
    certificate, _key = issuer(tmp_path).issue(first, NOW.timestamp())
    (tmp_path / PKI / "etcd/server.crt").write_bytes(certificate)
    again = want_of(tmp_path, "server")
    assert again.common_name == "node-0"
    assert again.names == ("etcd.example.com", "localhost", "m0")
    assert set(again.addresses) == {"10.0.0.1", "127.0.0.1", "::1", "192.168.7.7"}
    assert again.key_kind == "rsa:3072"


def test_a_client_of_an_older_kubeadm_keeps_its_group(tmp_path: Path) -> None:
    make_authority(tmp_path)
    old = replace(want_of(tmp_path, "client"), organizations=("system:masters",))
    certificate, _key = issuer(tmp_path).issue(old, NOW.timestamp())
    (tmp_path / PKI / "etcd/healthcheck-client.crt").write_bytes(certificate)
    made, _ = issue(tmp_path, want_of(tmp_path, "client"))
    assert subject(made) == [("O", "system:masters"), ("CN", "kube-etcd-healthcheck-client")]


def test_no_certificate_outlives_its_ca(tmp_path: Path) -> None:
    ca = make_authority(tmp_path, days=100)
    made, _ = issue(tmp_path, want_of(tmp_path, "peer"))
    assert made.not_valid_after_utc == ca.not_valid_after_utc


@pytest.mark.reliability(
    "Secrets", "the keys of a certificate and of its CA are in no argument list and in no open file"
)
def test_keys_are_in_no_argument_and_in_no_open_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_authority(tmp_path)
    seen: list[list[str]] = []

    def spy(argv: Any, *args: Any) -> Any:
        seen.append(list(argv))
        return capture(argv, *args)

    monkeypatch.setattr("agent.host.processes.capture", spy)
    old = os.umask(0o022)
    try:
        _certificate, key = issuer(tmp_path).issue(want_of(tmp_path, "server"), NOW.timestamp())
    finally:
        os.umask(old)
    said = "\n".join(word for argv in seen for word in argv)
    own = (tmp_path / PKI / "etcd/ca.key").read_text().splitlines()[1:-1]
    assert seen
    assert not [line for line in (*own, *key.decode().splitlines()[1:-1]) if line in said]
    work = tmp_path / "var/lib/etcd-rescue/work/p"
    assert {p.name for p in work.iterdir() if p.stat().st_mode & 0o077} <= {"server.sig"}


@pytest.mark.skipif(not kubeadm_program(), reason="no kubeadm was built, and KUBEADM names none")
@pytest.mark.parametrize("role", ["server", "peer", "client", "apiserver-client"])
def test_against_kubeadm_itself(tmp_path: Path, role: str) -> None:
    """All but serial number, key, signature and start is the same, byte for byte.

    From 1.31 on kubeadm lets them begin five minutes ago, before that with the CA, as it is here.
    """
    from agent.actions.kubeadm_certs import KubeadmIssuer

    make_authority(tmp_path)
    plain = Host("/")
    below = f"{tmp_path}/{PKI}"
    platform = replace(Kubeadm(), ca=f"{below}/etcd/ca.crt", ca_key=f"{below}/etcd/ca.key")
    work = f"{tmp_path}/work"
    os.mkdir(work, 0o700)
    want = want_of(tmp_path, role)
    theirs = KubeadmIssuer(plain, kubeadm_program(), config(), platform)
    certificate, key = theirs.issue([want], work)[role]
    ours, our_key = issue(tmp_path, want)
    other = x509.load_pem_x509_certificate(certificate)
    for attribute in ("subject", "issuer", "version"):
        assert getattr(ours, attribute) == getattr(other, attribute), attribute
    assert list(ours.extensions) == list(other.extensions)
    assert [e.oid for e in ours.extensions] == [e.oid for e in other.extensions]
    assert ours.subject.public_bytes() == other.subject.public_bytes()
    assert ours.signature_algorithm_oid == other.signature_algorithm_oid
    told = abs(ours.not_valid_after_utc - other.not_valid_after_utc)
    assert told < datetime.timedelta(minutes=5)
    head = b"-----BEGIN RSA PRIVATE KEY-----"
    assert key.startswith(head)
    assert issuer(tmp_path).issue(want, NOW.timestamp())[1].startswith(head)
    assert our_key.key_size == 2048
