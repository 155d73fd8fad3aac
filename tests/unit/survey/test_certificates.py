"""What is wrong with a certificate is found and said, and what is right is left alone."""

from __future__ import annotations

import datetime
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from agent.host import Host
from agent.model.facts import Certificate, EtcdConfig, TlsFiles
from agent.platforms.kubeadm import Kubeadm
from agent.survey.certificates import covers, duration, read_certificates
from tests.unit.etcd_lab import DAY, Pki

HOUR = datetime.timedelta(hours=1)


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path / "pki")


def config(pki: Pki, **changes: TlsFiles) -> EtcdConfig:
    files = {
        "server_tls": pki.issue("server", sans=("m0", "127.0.0.1", "10.0.0.1")),
        "peer_tls": pki.issue("peer", sans=("m0", "127.0.0.1", "10.0.0.1")),
        "client_tls": pki.issue("client", sans=(), usages=(ExtendedKeyUsageOID.CLIENT_AUTH,)),
        **changes,
    }
    return EtcdConfig(
        definition="/etc/kubernetes/manifests/etcd.yaml",
        sha256="",
        name="m0",
        data_dir="/var/lib/etcd",
        advertise_client_urls=("https://10.0.0.1:2379",),
        listen_client_urls=("https://127.0.0.1:2379", "https://10.0.0.1:2379"),
        advertise_peer_urls=("https://10.0.0.1:2380",),
        listen_peer_urls=("https://0.0.0.0:2380",),
        server_tls=files["server_tls"],
        peer_tls=files["peer_tls"],
        client_tls=files["client_tls"],
    )


def read(etcd: EtcdConfig) -> dict[str, Certificate]:
    return {c.role: c for c in read_certificates(Host("/"), etcd, time.time())}


def problem_of_server(pki: Pki, server: TlsFiles) -> str:
    found = read(config(pki, server_tls=server))
    assert all(not c.problems for role, c in found.items() if role != "server")
    (problem,) = found["server"].problems
    return problem


def test_good_certificates_have_no_problem_and_all_their_facts(pki: Pki) -> None:
    found = read(config(pki))
    assert {role: c.problems for role, c in found.items()} == dict.fromkeys(
        ("server", "peer", "client", "ca"), ()
    )
    server = found["server"]
    assert (server.subject, server.issuer) == ("CN=server", "CN=etcd-ca")
    assert server.sans == ("m0", "127.0.0.1", "10.0.0.1")
    assert server.not_before < time.time() < server.not_after
    assert server.path == str(pki.folder / "server.crt")


def test_an_installation_without_tls_has_none(pki: Pki) -> None:
    nothing = TlsFiles()
    assert read(config(pki, server_tls=nothing, peer_tls=nothing, client_tls=nothing)) == {}


@pytest.mark.parametrize(
    ("starts", "ends", "said"),
    [
        (-9 * DAY, -2 * DAY - 3 * HOUR, "expired 2 d 3 h ago"),
        (2 * HOUR, DAY, "not valid before 1 h 59 min from now: is this host's clock right?"),
        (-DAY, 3 * DAY, "warning: expires in 2 d 23 h"),
    ],
)
def test_validity_in_words(
    pki: Pki, starts: datetime.timedelta, ends: datetime.timedelta, said: str
) -> None:
    server = pki.issue("s", sans=("127.0.0.1", "10.0.0.1"), starts=starts, ends=ends)
    assert problem_of_server(pki, server) == said


def test_a_name_that_is_missing_is_named(pki: Pki) -> None:
    said = problem_of_server(pki, pki.issue("s", sans=("127.0.0.1", "m9")))
    assert "do not cover 10.0.0.1" in said
    assert "m9" in said


def test_a_usage_that_is_missing_is_named(pki: Pki) -> None:
    files = pki.issue("p", sans=("10.0.0.1",), usages=(ExtendedKeyUsageOID.SERVER_AUTH,))
    assert read(config(pki, peer_tls=files))["peer"].problems == (
        "its extended key usage lacks clientAuth, needed as peer",
    )
    files = pki.issue("c", sans=(), usages=(ExtendedKeyUsageOID.SERVER_AUTH,))
    assert read(config(pki, client_tls=files))["client"].problems == (
        "its extended key usage lacks clientAuth, needed as client",
    )


def test_no_extended_key_usage_allows_all(pki: Pki) -> None:
    files = pki.issue("p", sans=("10.0.0.1",), usages=())
    assert read(config(pki, peer_tls=files))["peer"].problems == ()


def test_a_key_of_another_certificate_is_found(pki: Pki) -> None:
    server = pki.issue("s", sans=("127.0.0.1", "10.0.0.1"))
    said = problem_of_server(pki, replace(server, key=pki.issue("other").key))
    assert "key does not belong to the certificate" in said


def test_a_missing_key_is_found(pki: Pki) -> None:
    server = pki.issue("s", sans=("127.0.0.1", "10.0.0.1"))
    assert problem_of_server(pki, replace(server, key="/no.key")) == "its key /no.key is missing"


def test_a_wrong_path_is_told_from_a_missing_file(pki: Pki) -> None:
    server = pki.issue("s", sans=("127.0.0.1", "10.0.0.1"))
    wrong = replace(server, cert=str(pki.folder / "serving.crt"))
    assert problem_of_server(pki, wrong) == f"missing; its key belongs to {server.cert}"
    Path(server.cert).unlink()
    assert problem_of_server(pki, wrong) == "missing"


def test_an_encrypted_key_is_refused_without_a_question(pki: Pki) -> None:
    server = pki.issue("s", sans=("127.0.0.1", "10.0.0.1"))
    key = serialization.load_pem_private_key(Path(server.key).read_bytes(), None)
    Path(server.key).write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    assert f"cannot be used with key {server.key}" in problem_of_server(pki, server)


def test_a_certificate_of_another_ca_does_not_chain(pki: Pki, tmp_path: Path) -> None:
    other = Pki(tmp_path / "other", "other-ca").issue("s", sans=("127.0.0.1", "10.0.0.1"))
    said = problem_of_server(pki, replace(other, ca=pki.ca_path))
    assert "does not chain" in said
    assert "issued by CN=other-ca, the CA there is CN=etcd-ca" in said


def test_a_ca_made_anew_under_the_same_name_is_found(pki: Pki, tmp_path: Path) -> None:
    other = Pki(tmp_path / "other").issue("s", sans=("127.0.0.1", "10.0.0.1"))
    said = problem_of_server(pki, replace(other, ca=pki.ca_path))
    assert "another CA of the same name CN=etcd-ca" in said


def test_a_forged_signature_is_found(pki: Pki, tmp_path: Path) -> None:
    """Same issuer, same key IDs, altered contents: only the signature tells."""
    server = pki.issue("s", sans=("127.0.0.1", "10.0.0.1"))
    der = _der(server.cert).replace(b"\x0a\x00\x00\x01", b"\x0a\x00\x00\x02")
    _write_der(server.cert, der)
    etcd = replace(config(pki, server_tls=server), advertise_client_urls=(), listen_client_urls=())
    (said,) = read(etcd)["server"].problems
    assert "signature" in said


def test_an_expired_ca_is_said_at_the_ca(pki: Pki) -> None:
    later = time.time() + 4000 * 86400
    found = {c.role: c for c in read_certificates(Host("/"), config(pki), later)}
    assert any("expired" in p for p in found["ca"].problems)
    assert not any("chain" in p for p in found["server"].problems)


def test_peers_may_have_a_ca_of_their_own(pki: Pki, tmp_path: Path) -> None:
    peers = Pki(tmp_path / "peers", "peer-ca")
    found = read(config(pki, peer_tls=peers.issue("p", sans=("10.0.0.1",))))
    assert found["peer"].problems == ()
    assert found["peer-ca"].subject == "CN=peer-ca"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no PEM block"),
        (b"hello\n", "no PEM block"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "not a certificate"),
        (b"\x00\xff" * 100, "no PEM block"),
        (b"x" * (1024 * 1024 + 1), "larger than"),
    ],
)
def test_what_is_no_certificate_is_called_so(pki: Pki, content: bytes, said: str) -> None:
    server = pki.issue("s")
    Path(server.cert).write_bytes(content)
    assert said in problem_of_server(pki, server)


def test_a_cut_or_flipped_file_never_raises(pki: Pki) -> None:
    server = pki.issue("s", sans=("127.0.0.1", "10.0.0.1"))
    whole = _der(server.cert)
    for at in range(0, len(whole), 7):
        _write_der(server.cert, whole[:at])
        assert read(config(pki, server_tls=server))["server"].problems
        _write_der(server.cert, whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        assert read(config(pki, server_tls=server))["server"].problems


def test_missing_files_are_said(pki: Pki) -> None:
    assert problem_of_server(pki, TlsFiles("/no.crt", "/no.key", pki.ca_path)) == "missing"


def test_paths_are_the_hosts_own_under_a_root_prefix(pki: Pki, tmp_path: Path) -> None:
    inside = {
        f"{name}_tls": TlsFiles(f"/pki/{name}.crt", f"/pki/{name}.key", "/pki/etcd-ca.crt")
        for name in ("server", "peer", "client")
    }
    config(pki)
    found = read_certificates(Host(str(tmp_path)), config(pki, **inside), time.time())
    assert [(c.role, c.problems) for c in found] == [
        (role, ()) for role in ("server", "peer", "client", "ca")
    ]


# ---- what a platform keeps -----------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Host, Path]:
    """A kubeadm host with a CA, its key, and both client certificates."""
    pki = Pki(tmp_path / "etc/kubernetes/pki/etcd", "ca")
    key = pki.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    pki.write("ca.key", key)
    client = (ExtendedKeyUsageOID.CLIENT_AUTH,)
    for name in ("server", "peer"):
        pki.issue(name, sans=("127.0.0.1", "10.0.0.1"))
    pki.issue("healthcheck-client", sans=(), usages=client)
    pki.issue("../apiserver-etcd-client", sans=(), usages=client)
    return Host(str(tmp_path)), tmp_path / "etc/kubernetes"


def of_platform(host: Host, client: str = "etcd/healthcheck-client") -> dict[str, Certificate]:
    base = "/etc/kubernetes/pki"
    files = {
        name: TlsFiles(f"{base}/{stem}.crt", f"{base}/{stem}.key", f"{base}/etcd/ca.crt")
        for name, stem in (("server", "etcd/server"), ("peer", "etcd/peer"), ("client", client))
    }
    etcd = EtcdConfig(
        "/m.yaml", "", "m0", "/d", advertise_client_urls=("https://10.0.0.1:2379",),
        server_tls=files["server"], peer_tls=files["peer"], client_tls=files["client"],
    )  # fmt: skip
    found = read_certificates(host, etcd, time.time(), Kubeadm())
    assert len({c.role for c in found}) == len(found)
    return {c.role: c for c in found}


def test_both_clients_and_the_key_of_the_ca_are_looked_at(kept: tuple[Host, Path]) -> None:
    found = of_platform(kept[0])
    assert set(found) == {"server", "peer", "client", "apiserver-client", "ca"}
    assert all(c.problems == () for c in found.values())
    assert found["ca"].key == "present"
    assert len(found["ca"].fingerprint) == 64
    assert {c.key for role, c in found.items() if role != "ca"} == {""}


def test_a_client_that_is_not_the_one_in_use_is_missed_too(kept: tuple[Host, Path]) -> None:
    (kept[1] / "pki/etcd/healthcheck-client.crt").unlink()
    found = of_platform(kept[0], client="apiserver-etcd-client")
    assert found["client"].problems == ("missing",)
    assert found["apiserver-client"].problems == ()


def test_the_api_servers_is_missed_only_where_there_is_one(kept: tuple[Host, Path]) -> None:
    (kept[1] / "pki/apiserver-etcd-client.crt").unlink()
    assert "apiserver-client" not in of_platform(kept[0])
    (kept[1] / "manifests").mkdir()
    (kept[1] / "manifests/kube-apiserver.yaml").write_text("kind: Pod\n")
    assert of_platform(kept[0])["apiserver-client"].problems == ("missing",)


def test_a_key_of_another_ca_is_told_from_none(kept: tuple[Host, Path], tmp_path: Path) -> None:
    key = kept[1] / "pki/etcd/ca.key"
    other = Pki(tmp_path / "other").issue("x")
    key.write_bytes(Path(other.key).read_bytes())
    assert of_platform(kept[0])["ca"].key == "other"
    key.unlink()
    assert of_platform(kept[0])["ca"].key == "missing"
    (kept[1] / "pki/etcd/ca.crt").unlink()
    assert of_platform(kept[0])["ca"].problems == ("missing",)
    assert of_platform(kept[0])["ca"].key


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"), (59, "59 s"), (60, "1 min"), (3661, "1 h 1 min"), (86400, "1 d"),
        (2 * 86400 + 3 * 3600 + 59, "2 d 3 h"), (86400 + 60, "1 d"),
    ],
)  # fmt: skip
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("san", "host", "expected"),
    [
        ("10.0.0.1", "10.0.0.1", True), ("10.0.0.1", "10.0.0.11", False),
        ("::1", "0:0::1", True), ("fe80::1", "fe80::1%eth0", True),
        ("m0.example.com", "M0.example.com.", True), ("*.example.com", "m0.example.com", True),
        ("*.example.com", "a.m0.example.com", False), ("*.example.com", "example.com", False),
        ("m0", "m00", False),
    ],
)  # fmt: skip
def test_names_cover_hosts(san: str, host: str, expected: bool) -> None:
    assert covers(san, host) is expected


def _der(path: str) -> bytes:
    from asn1crypto import pem

    return bytes(pem.unarmor(Path(path).read_bytes())[2])


def _write_der(path: str, der: bytes) -> None:
    from asn1crypto import pem

    Path(path).write_bytes(pem.armor("CERTIFICATE", der))
