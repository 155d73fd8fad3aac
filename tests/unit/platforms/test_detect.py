"""Detection of the control plane and the paths that come with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import Refused
from agent.host import Host
from agent.model.facts import EtcdConfig, TlsFiles
from agent.platforms import detect

PKI = "/etc/kubernetes/pki"


def make(root: Path, *paths: str, text: str = "x") -> Host:
    for path in paths:
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return Host(str(root))


@pytest.mark.parametrize(
    "sign",
    [
        "/etc/kubernetes/manifests/etcd.yaml",
        "/etc/kubernetes/pki/etcd/ca.crt",
        "/etc/kubernetes/manifests/kube-apiserver.yaml",
    ],
)
def test_any_sign_is_enough(tmp_path: Path, sign: str) -> None:
    platform = detect(make(tmp_path, sign))
    assert platform.name == "kubeadm"
    assert platform.manifest == "/etc/kubernetes/manifests/etcd.yaml"
    assert (platform.container, platform.namespace) == ("etcd", "kube-system")


@pytest.mark.parametrize("found", [(), ("/etc/kubernetes/pki/ca.crt",)])
def test_no_control_plane_is_refused(tmp_path: Path, found: tuple[str, ...]) -> None:
    with pytest.raises(Refused) as error:
        detect(make(tmp_path, *found))
    assert "no known control plane" in error.value.seen
    assert "/etc/kubernetes/manifests/etcd.yaml" in error.value.why
    assert error.value.next


@pytest.mark.parametrize(
    ("kubelet", "directory"),
    [
        ("staticPodPath: /etc/kubelet.d\n", "/etc/kubelet.d"),
        ("staticPodPath: /etc/kubelet.d/\n", "/etc/kubelet.d"),
        ("staticPodPath: ''\n", "/etc/kubernetes/manifests"),
        ("staticPodPath: [1]\n", "/etc/kubernetes/manifests"),
        ("staticPodPath: etc\n", "/etc/kubernetes/manifests"),
        ("- a\n", "/etc/kubernetes/manifests"),
        ("a: [", "/etc/kubernetes/manifests"),
        ("[" * 5000, "/etc/kubernetes/manifests"),
        ("x: 2001-99-99\n", "/etc/kubernetes/manifests"),
    ],
)
def test_static_pod_path(tmp_path: Path, kubelet: str, directory: str) -> None:
    make(tmp_path, "/var/lib/kubelet/config.yaml", text=kubelet)
    assert detect(make(tmp_path, f"{PKI}/etcd/ca.crt")).manifest_dir == directory


def test_manifest_elsewhere_is_a_sign(tmp_path: Path) -> None:
    make(tmp_path, "/var/lib/kubelet/config.yaml", text="staticPodPath: /pods\n")
    assert detect(make(tmp_path, "/pods/etcd.yaml")).manifest == "/pods/etcd.yaml"


def config(server: TlsFiles, peer: TlsFiles = TlsFiles()) -> EtcdConfig:  # noqa: B008
    return EtcdConfig("/m", "0", "a", "/var/lib/etcd", server_tls=server, peer_tls=peer)


SERVER = TlsFiles(f"{PKI}/etcd/server.crt", f"{PKI}/etcd/server.key", f"{PKI}/etcd/ca.crt")
OWN = TlsFiles("/opt/s.crt", "/opt/s.key", "/opt/ca.crt")


@pytest.mark.parametrize(
    ("files", "server", "cert"),
    [
        (["etcd/healthcheck-client", "apiserver-etcd-client", "etcd/server"], SERVER,
         f"{PKI}/etcd/healthcheck-client.crt"),
        (["apiserver-etcd-client", "etcd/server"], SERVER, f"{PKI}/apiserver-etcd-client.crt"),
        (["etcd/server", "etcd/peer"], SERVER, f"{PKI}/etcd/server.crt"),
        (["etcd/peer"], SERVER, f"{PKI}/etcd/peer.crt"),
        ([], SERVER, ""),
        (["etcd/healthcheck-client"], TlsFiles(), ""),
    ],
)  # fmt: skip
def test_client_pair_preference(
    tmp_path: Path, files: list[str], server: TlsFiles, cert: str
) -> None:
    names = [f"{PKI}/{name}.{ext}" for name in files for ext in ("crt", "key")]
    host = make(tmp_path, f"{PKI}/etcd/ca.crt", *names)
    found = detect(host).client_tls(host, config(server))
    assert found.cert == cert
    assert found.key == cert.replace(".crt", ".key")


def test_half_a_pair_is_no_pair(tmp_path: Path) -> None:
    names = ["healthcheck-client.crt", "server.crt", "server.key", "ca.crt"]
    host = make(tmp_path, *(f"{PKI}/etcd/{name}" for name in names))
    assert detect(host).client_tls(host, config(SERVER)) == SERVER


def test_own_certificates_elsewhere(tmp_path: Path) -> None:
    host = make(tmp_path, "/etc/kubernetes/manifests/etcd.yaml", "/opt/s.crt", "/opt/s.key")
    assert detect(host).client_tls(host, config(OWN)) == OWN
