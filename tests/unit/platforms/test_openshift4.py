"""OpenShift 4's hosts: recognised whatever is parked, and spoken to with the peer's certificate."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.host import Host
from agent.model.facts import EtcdConfig, TlsFiles
from agent.platforms import detect
from agent.platforms.openshift4 import CERTS


def make(root: Path, *paths: str) -> Host:
    for path in paths:
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
    return Host(str(root))


@pytest.mark.parametrize(
    "sign",
    [
        "/etc/kubernetes/manifests/etcd-pod.yaml",
        f"{CERTS}/secrets/x",
        "/etc/kubernetes/static-pod-resources/kube-apiserver-certs/secrets/x",
    ],
)
def test_any_sign_is_enough(tmp_path: Path, sign: str) -> None:
    platform = detect(make(tmp_path, sign, "/etc/kubernetes/manifests/kube-apiserver-pod.yaml"))
    assert platform.name == "openshift4"
    assert platform.manifest == "/etc/kubernetes/manifests/etcd-pod.yaml"
    assert (platform.namespace, platform.container) == ("openshift-etcd", "etcd")
    assert platform.image_tool == "podman"


def test_a_worker_is_none(tmp_path: Path) -> None:
    host = make(tmp_path, "/etc/kubernetes/kubelet.conf", "/etc/kubernetes/manifests/.keep")
    with pytest.raises(Exception, match="no known control plane"):
        detect(host)


def test_etcd_is_spoken_to_as_its_peers_do(tmp_path: Path) -> None:
    config = EtcdConfig(
        "d", "s", "n", "/var/lib/etcd",
        server_tls=TlsFiles("/s.crt", "/s.key", "/ca.crt"), peer_tls=TlsFiles("/p.crt", "/p.key"),
    )  # fmt: skip
    sign = f"{CERTS}/x"
    both = make(tmp_path / "a", sign, "/s.crt", "/s.key", "/p.crt", "/p.key")
    assert detect(both).client_tls(both, config) == TlsFiles("/p.crt", "/p.key", "/ca.crt")
    only = make(tmp_path / "b", sign, "/s.crt", "/s.key", "/p.crt")
    assert detect(only).client_tls(only, config) == TlsFiles("/s.crt", "/s.key", "/ca.crt")
    none = make(tmp_path / "c", sign)
    assert detect(none).client_tls(none, config) == TlsFiles(ca="/ca.crt")
