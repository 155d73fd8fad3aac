"""The static pod manifest of etcd, as kubeadm leaves it on the first node and on joined ones."""

from __future__ import annotations

from tests.lab import names
from tests.lab.etcd_versions import EtcdVersion, etcd_image

_PKI = "/etc/kubernetes/pki/etcd"


def member_url(index: int) -> str:
    """NAME=PEER-URL, as `--initial-cluster` lists it."""
    return f"{names.host_name(index)}=https://{names.url_host(names.host_address(index))}:2380"


def etcd_flags(index: int, version: EtcdVersion, quota: int | None = None) -> list[str]:
    """The flags in kubeadm's order (alphabetical).

    The first node keeps itself alone in `--initial-cluster` and names no state; a node that joined
    lists everybody who was there before it, and `existing`.
    """
    address = names.url_host(names.host_address(index))
    flags = {
        "advertise-client-urls": f"https://{address}:2379",
        "cert-file": f"{_PKI}/server.crt",
        "client-cert-auth": "true",
        "data-dir": "/var/lib/etcd",
        "experimental-initial-corrupt-check": "true",
        "experimental-watch-progress-notify-interval": "5s",
        "initial-advertise-peer-urls": f"https://{address}:2380",
        "initial-cluster": ",".join(member_url(i) for i in range(index + 1)),
        "initial-cluster-state": "existing",
        "key-file": f"{_PKI}/server.key",
        "listen-client-urls": f"https://127.0.0.1:2379,https://{address}:2379",
        "listen-metrics-urls": "http://127.0.0.1:2381",
        "listen-peer-urls": f"https://{address}:2380",
        "name": names.host_name(index),
        "peer-cert-file": f"{_PKI}/peer.crt",
        "peer-client-cert-auth": "true",
        "peer-key-file": f"{_PKI}/peer.key",
        "peer-trusted-ca-file": f"{_PKI}/ca.crt",
        "quota-backend-bytes": str(quota or ""),
        "snapshot-count": "10000",
        "trusted-ca-file": f"{_PKI}/ca.crt",
    }
    if index == 0:
        del flags["initial-cluster-state"]
    if not version.has_watch_progress_notify:
        del flags["experimental-watch-progress-notify-interval"]
    if quota is None:
        del flags["quota-backend-bytes"]
    if not version.experimental_flags:
        del flags["experimental-initial-corrupt-check"]
        interval = flags.pop("experimental-watch-progress-notify-interval")
        flags["feature-gates"] = "InitialCorruptCheck=true"
        flags["watch-progress-notify-interval"] = interval
        flags = dict(sorted(flags.items()))
    return [f"--{name}={value}" for name, value in flags.items()]


def etcd_manifest(index: int, version: EtcdVersion, number: str, quota: int | None = None) -> str:
    """The text of /etc/kubernetes/manifests/etcd.yaml."""
    flags = "\n".join(f"    - {flag}" for flag in etcd_flags(index, version, quota))
    return _TEMPLATE.format(
        address=names.url_host(names.host_address(index)), flags=flags, image=etcd_image(number)
    )


_TEMPLATE = """\
apiVersion: v1
kind: Pod
metadata:
  annotations:
    kubeadm.kubernetes.io/etcd.advertise-client-urls: https://{address}:2379
  creationTimestamp: null
  labels:
    component: etcd
    tier: control-plane
  name: etcd
  namespace: kube-system
spec:
  containers:
  - command:
    - etcd
{flags}
    image: {image}
    imagePullPolicy: IfNotPresent
    livenessProbe:
      failureThreshold: 8
      httpGet:
        host: 127.0.0.1
        path: /livez
        port: 2381
        scheme: HTTP
      initialDelaySeconds: 10
      periodSeconds: 10
      timeoutSeconds: 15
    name: etcd
    readinessProbe:
      failureThreshold: 3
      httpGet:
        host: 127.0.0.1
        path: /readyz
        port: 2381
        scheme: HTTP
      periodSeconds: 1
      timeoutSeconds: 15
    resources:
      requests:
        cpu: 100m
        memory: 100Mi
    startupProbe:
      failureThreshold: 24
      httpGet:
        host: 127.0.0.1
        path: /readyz
        port: 2381
        scheme: HTTP
      initialDelaySeconds: 10
      periodSeconds: 10
      timeoutSeconds: 15
    volumeMounts:
    - mountPath: /var/lib/etcd
      name: etcd-data
    - mountPath: /etc/kubernetes/pki/etcd
      name: etcd-certs
  hostNetwork: true
  priority: 2000001000
  priorityClassName: system-node-critical
  securityContext:
    seccompProfile:
      type: RuntimeDefault
  volumes:
  - hostPath:
      path: /etc/kubernetes/pki/etcd
      type: DirectoryOrCreate
    name: etcd-certs
  - hostPath:
      path: /var/lib/etcd
      type: DirectoryOrCreate
    name: etcd-data
status: {{}}
"""
