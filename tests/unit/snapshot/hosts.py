"""A host under a prefix, with a kubeadm layout around a real etcd of this machine."""

from __future__ import annotations

import stat
from pathlib import Path

from agent.host import Host
from tests.unit.etcd_lab import Node

MANIFEST = "/etc/kubernetes/manifests/etcd.yaml"
ENCRYPTION = "/etc/kubernetes/enc/config.yaml"


def host_of(root: Path, node: Node) -> Host:
    """A control-plane host whose etcd is `node`, which was made in `root`/var/lib."""
    lines = "\n".join(f"    - {arg.replace(str(root), '')}" for arg in ["etcd", *node.argv()[1:]])
    write(root, MANIFEST, _POD.format(name="etcd", lines=lines, path="/var/lib"))
    lines = f"    - kube-apiserver\n    - --encryption-provider-config\n    - {ENCRYPTION}"
    pod = _POD.format(name="kube-apiserver", lines=lines, path="/etc/kubernetes/enc")
    write(root, "/etc/kubernetes/manifests/kube-apiserver.yaml", pod)
    write(root, ENCRYPTION, "kind: EncryptionConfiguration\n", 0o640)
    write(root, "/etc/kubernetes/pki/ca.key", "a key\n")
    write(root, "/etc/kubernetes/pki/ca.crt", "a certificate\n", 0o644)
    write(root, "/etc/hostname", "master-0\n")
    return Host(str(root))


def write(root: Path, path: str, text: str, mode: int = 0o600) -> None:
    """A file of the host."""
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    target.chmod(mode)


def modes(directory: Path) -> set[str]:
    """The modes below a directory: "d700", "f600"."""
    return {
        f"{'d' if path.is_dir() else 'f'}{stat.S_IMODE(path.lstat().st_mode):o}"
        for path in (directory, *directory.rglob("*"))
    }


_POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: kube-system
spec:
  containers:
  - name: {name}
    image: registry.k8s.io/etcd:3.5.0-0
    command:
{lines}
    volumeMounts:
    - mountPath: {path}
      name: data
  volumes:
  - name: data
    hostPath:
      path: {path}
"""
