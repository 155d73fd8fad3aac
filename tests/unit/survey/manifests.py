"""Manifests in the shapes that installers and people write, for the tests of this folder."""

from __future__ import annotations

import textwrap

FLAGS = (
    "--advertise-client-urls=https://10.0.0.1:2379",
    "--cert-file=/etc/kubernetes/pki/etcd/server.crt",
    "--client-cert-auth=true",
    "--data-dir=/var/lib/etcd",
    "--initial-advertise-peer-urls=https://10.0.0.1:2380",
    "--initial-cluster=m0=https://10.0.0.1:2380",
    "--key-file=/etc/kubernetes/pki/etcd/server.key",
    "--listen-client-urls=https://127.0.0.1:2379,https://10.0.0.1:2379",
    "--listen-peer-urls=https://10.0.0.1:2380",
    "--name=m0",
    "--peer-cert-file=/etc/kubernetes/pki/etcd/peer.crt",
    "--peer-key-file=/etc/kubernetes/pki/etcd/peer.key",
    "--peer-trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt",
    "--trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt",
)

VOLUMES = """\
    volumeMounts:
    - mountPath: /var/lib/etcd
      name: etcd-data
    - mountPath: /etc/kubernetes/pki/etcd
      name: etcd-certs
  hostNetwork: true
  volumes:
  - hostPath:
      path: /etc/kubernetes/pki/etcd
      type: DirectoryOrCreate
    name: etcd-certs
  - hostPath:
      path: /var/lib/etcd
      type: DirectoryOrCreate
    name: etcd-data
"""


def pod(container: str, rest: str = VOLUMES) -> str:
    """A pod around the lines of one container (first line without its dash)."""
    body = textwrap.indent(textwrap.dedent(container).strip(), "    ")
    return (
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: etcd\n  namespace: kube-system\n"
        f"spec:\n  containers:\n  - {body[4:]}\n{rest}status: {{}}\n"
    )


def with_flags(*flags: str, base: tuple[str, ...] = FLAGS) -> str:
    """A kubeadm-like manifest with these flags behind its usual ones."""
    items = "\n".join(f"- {flag}" for flag in ("etcd", *base, *flags))
    return pod(f"command:\n{items}\nimage: registry.k8s.io/etcd:3.5.16-0\nname: etcd\n")
