"""Real etcd processes on loopback with a PKI of their own, for tests of what talks to them."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.etcd.client import EtcdClient, EtcdError
from agent.etcd.transport import real_files
from agent.host import Host
from agent.model.facts import EtcdConfig, TlsFiles
from tests.lab.etcd_versions import VERSIONS
from tests.lab.recipe import etcd_dir

DAY = datetime.timedelta(days=1)


def etcd_binaries() -> list[str]:
    """Every etcd to test with: ETCD_BIN_DIR's (colon-separated), else the lab's, else PATH's.

    The lab's are there once `make lab` has run; `make test` runs it first where it can.
    """
    folders = [Path(d) for d in os.environ.get("ETCD_BIN_DIR", "").split(":") if d]
    folders = folders or [etcd_dir(version) / "bin" for version in VERSIONS]
    found = [str(folder / "etcd") for folder in folders if (folder / "etcd").exists()]
    on_path = shutil.which("etcd")
    return found or ([on_path] if on_path else [])


def needs_etcd() -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        not etcd_binaries(), reason="no etcd: run `make lab` or set ETCD_BIN_DIR"
    )


@dataclass
class Pki:
    """One CA in a folder, and certificates made by it."""

    folder: Path
    name: str = "etcd-ca"
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        now = datetime.datetime.now(datetime.timezone.utc)
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        self.ca = (
            x509.CertificateBuilder()
            .subject_name(self.subject)
            .issuer_name(self.subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 400 * DAY)
            .not_valid_after(now + 3650 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False
            )
            .sign(self.key, hashes.SHA256())
        )
        self.write(f"{self.name}.crt", self.ca.public_bytes(serialization.Encoding.PEM))

    @property
    def ca_path(self) -> str:
        return str(self.folder / f"{self.name}.crt")

    def write(self, name: str, data: bytes) -> str:
        path = self.folder / name
        path.write_bytes(data)
        return str(path)

    def issue(
        self,
        name: str,
        sans: Sequence[str] = ("127.0.0.1",),
        usages: Sequence[x509.ObjectIdentifier] = (
            ExtendedKeyUsageOID.SERVER_AUTH,
            ExtendedKeyUsageOID.CLIENT_AUTH,
        ),
        starts: datetime.timedelta = -DAY,
        ends: datetime.timedelta = 365 * DAY,
    ) -> TlsFiles:
        """A certificate; `starts` and `ends` count from now."""
        now = datetime.datetime.now(datetime.timezone.utc)
        key = ec.generate_private_key(ec.SECP256R1())
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + starts)
            .not_valid_after(now + ends)
            .add_extension(authority, critical=False)
        )
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if sans:
            names = x509.SubjectAlternativeName([_general_name(san) for san in sans])
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        pem = serialization.Encoding.PEM
        key_pem = key.private_bytes(
            pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        return TlsFiles(
            cert=self.write(f"{name}.crt", certificate.public_bytes(pem)),
            key=self.write(f"{name}.key", key_pem),
            ca=self.ca_path,
        )


def _general_name(san: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(san))
    except ValueError:
        return x509.DNSName(san)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass
class Node:
    """One etcd: its configuration as the survey would read it, and its process."""

    binary: str
    config: EtcdConfig
    extra: tuple[str, ...] = ()
    process: Optional[subprocess.Popen[bytes]] = None

    @property
    def endpoint(self) -> str:
        return self.config.listen_client_urls[0]

    @property
    def peer_url(self) -> str:
        return self.config.listen_peer_urls[0]

    def client(self, timeout: float = 3.0) -> EtcdClient:
        return EtcdClient(self.endpoint, real_files(Host(), self.config.client_tls), timeout)

    def argv(self) -> list[str]:
        c = self.config
        argv = [
            self.binary, f"--name={c.name}", f"--data-dir={c.data_dir}",
            f"--listen-client-urls={','.join(c.listen_client_urls)}",
            f"--advertise-client-urls={','.join(c.advertise_client_urls)}",
            f"--listen-peer-urls={','.join(c.listen_peer_urls)}",
            f"--initial-advertise-peer-urls={','.join(c.advertise_peer_urls)}",
            f"--initial-cluster={','.join(f'{n}={u}' for n, u in c.initial_cluster)}",
            f"--initial-cluster-state={c.initial_cluster_state}",
        ]  # fmt: skip
        if c.server_tls.cert:
            argv += [
                f"--cert-file={c.server_tls.cert}", f"--key-file={c.server_tls.key}",
                f"--trusted-ca-file={c.server_tls.ca}", "--client-cert-auth=true",
                f"--peer-cert-file={c.peer_tls.cert}", f"--peer-key-file={c.peer_tls.key}",
                f"--peer-trusted-ca-file={c.peer_tls.ca}", "--peer-client-cert-auth=true",
            ]  # fmt: skip
        return [*argv, *self.extra]

    def start(self) -> None:
        with open(f"{self.config.data_dir}.log", "ab") as log:
            self.process = subprocess.Popen(self.argv(), stdout=log, stderr=log)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def wait_healthy(self, timeout: float = 20.0) -> None:
        deadline = time.monotonic() + timeout
        while True:
            with contextlib.suppress(EtcdError), self.client(1.0) as client:
                if client.linearizable_read():
                    return
            if time.monotonic() > deadline:
                log = Path(f"{self.config.data_dir}.log").read_text()[-3000:]
                raise AssertionError(f"{self.config.name} did not become healthy: {log}")
            time.sleep(0.1)


@dataclass(frozen=True)
class Plain:
    """What a test wants of a cluster."""

    size: int = 1
    tls: bool = True
    extra: tuple[str, ...] = ()


def make_nodes(folder: Path, binary: str, wish: Plain) -> list[Node]:
    """Nodes that are configured and not started."""
    folder.mkdir(parents=True, exist_ok=True)
    pki = Pki(folder / "pki")
    scheme = "https" if wish.tls else "http"
    peers = [(f"m{i}", f"{scheme}://127.0.0.1:{free_port()}") for i in range(wish.size)]
    client = pki.issue("healthcheck-client", sans=()) if wish.tls else TlsFiles()
    return [
        Node(binary, _config(folder, pki, peers, i, scheme, client), wish.extra)
        for i in range(wish.size)
    ]


def _config(
    folder: Path, pki: Pki, peers: list[tuple[str, str]], i: int, scheme: str, client: TlsFiles
) -> EtcdConfig:
    name, peer_url = peers[i]
    url = f"{scheme}://127.0.0.1:{free_port()}"
    is_tls = scheme == "https"
    return EtcdConfig(
        definition=str(folder / f"{name}.yaml"),
        sha256="",
        name=name,
        data_dir=str(folder / name),
        advertise_peer_urls=(peer_url,),
        listen_peer_urls=(peer_url,),
        advertise_client_urls=(url,),
        listen_client_urls=(url,),
        initial_cluster=tuple(peers),
        server_tls=pki.issue(f"{name}-server") if is_tls else TlsFiles(),
        peer_tls=pki.issue(f"{name}-peer") if is_tls else TlsFiles(),
        client_tls=client,
    )


@contextlib.contextmanager
def running(folder: Path, binary: str, wish: Plain) -> Iterator[list[Node]]:
    """A healthy cluster that ends with the block."""
    nodes = make_nodes(folder, binary, wish)
    try:
        for node in nodes:
            node.start()
        for node in nodes:
            node.wait_healthy()
        yield nodes
    finally:
        for node in nodes:
            node.stop()


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never says anything, as an etcd without quorum does."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(16)
        yield int(sock.getsockname()[1])
