"""etcd's static pod as OpenShift 4's operator writes it: one line of JSON, scripts in strings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.lab import names
from tests.lab.openshift4.base import ETCD_IMAGE

CERTS = "/etc/kubernetes/static-pod-certs"
_SECRETS = f"{CERTS}/secrets/etcd-all-certs"
_BUNDLES = f"{CERTS}/configmaps/etcd-all-bundles"
_IMAGE = {"image": ETCD_IMAGE, "imagePullPolicy": "IfNotPresent",
          "terminationMessagePolicy": "FallbackToLogsOnError"}  # fmt: skip

_ENSURE = """\
#!/bin/sh
set -euo pipefail

: "${NODE_%(env)s_ETCD_URL_HOST?not set}"
: "${NODE_%(env)s_ETCD_NAME?not set}"
: "${NODE_%(env)s_IP?not set}"

if [[ "${NODE_%(env)s_IP}" != "${NODE_IP}" ]]; then
  echo "Expected node IP to be ${NODE_IP} got ${NODE_%(env)s_IP}" >&2
  exit 1
fi
"""
_COPY = """\
#!/bin/sh
set -euo pipefail

rm -f $(grep -l '^### Created by cluster-etcd-operator' /usr/local/bin/*)
cp -p /etc/kubernetes/static-pod-certs/configmaps/etcd-scripts/*.sh /usr/local/bin
"""
_ETCD = """\
#!/bin/sh
set -euo pipefail

etcdctl --command-timeout=300ms member list || true

# this has a non-zero return code if the command is non-zero.  If you use an export first, it
# doesn't and you will succeed when you should fail.
ETCD_INITIAL_CLUSTER=$(discover-etcd-initial-cluster \\
  --cacert=%(bundles)s/server-ca-bundle.crt \\
  --cert=%(secrets)s/etcd-peer-%(name)s.crt \\
  --key=%(secrets)s/etcd-peer-%(name)s.key \\
  --endpoints=${ALL_ETCD_ENDPOINTS} \\
  --data-dir=/var/lib/etcd \\
  --target-peer-url-host=${NODE_%(env)s_ETCD_URL_HOST} \\
  --target-name=%(name)s)
export ETCD_INITIAL_CLUSTER

echo -n "Waiting for ports 2379, 2380 and 9978 to be released."
time while [ -n "$(ss -Htan '( sport = 2379 or sport = 2380 or sport = 9978 )')" ]; do
  echo -n "."
  sleep 1
done

export ETCD_NAME=${NODE_%(env)s_ETCD_NAME}
env | grep ETCD | grep -v NODE

set -x
# See https://etcd.io/docs/v3.4.0/tuning/ for why we use ionice
exec nice -n -19 ionice -c2 -n0 etcd \\
  --logger=zap \\
  --log-level=info \\
  --experimental-initial-corrupt-check=true \\
  --snapshot-count=10000 \\
  --initial-advertise-peer-urls=https://${NODE_%(env)s_IP}:2380 \\
  --cert-file=%(secrets)s/etcd-serving-%(name)s.crt \\
  --key-file=%(secrets)s/etcd-serving-%(name)s.key \\
  --trusted-ca-file=%(bundles)s/server-ca-bundle.crt \\
  --client-cert-auth=true \\
  --peer-cert-file=%(secrets)s/etcd-peer-%(name)s.crt \\
  --peer-key-file=%(secrets)s/etcd-peer-%(name)s.key \\
  --peer-trusted-ca-file=%(bundles)s/server-ca-bundle.crt \\
  --peer-client-cert-auth=true \\
  --advertise-client-urls=https://${NODE_%(env)s_IP}:2379 \\
  --listen-client-urls=https://0.0.0.0:2379,unixs://${NODE_%(env)s_IP}:0 \\
  --listen-peer-urls=https://0.0.0.0:2380 \\
  --metrics=extensive \\
  --listen-metrics-urls=https://0.0.0.0:9978 ||  \
mv /etc/kubernetes/etcd-backup-dir/etcd-member.yaml /etc/kubernetes/manifests
"""
_METRICS = """\
#!/bin/sh
set -euo pipefail

export ETCD_NAME=${NODE_%(env)s_ETCD_NAME}

exec nice -n -18 etcd grpc-proxy start \\
  --endpoints https://${NODE_%(env)s_ETCD_URL_HOST}:9978 \\
  --metrics-addr https://0.0.0.0:9979 \\
  --listen-addr 127.0.0.1:9977 \\
  --advertise-client-url ""  \\
  --key-file %(secrets)s/etcd-serving-metrics-%(name)s.key \\
  --cert-file %(secrets)s/etcd-serving-metrics-%(name)s.crt \\
  --trusted-ca-file %(bundles)s/metrics-ca-bundle.crt
"""
_READYZ = """\
#!/bin/sh
set -euo pipefail

exec nice -n -18 cluster-etcd-operator readyz \\
  --target=https://localhost:2379 \\
  --listen-port=9980 \\
  --client-cert-file=$(ETCDCTL_CERT) \\
  --client-key-file=$(ETCDCTL_KEY) \\
  --client-cacert-file=$(ETCDCTL_CACERT)
"""
_REV = """\
#!/bin/sh
set -euo pipefail

cluster-etcd-operator rev \\
  --endpoints=$(ALL_ETCD_ENDPOINTS) \\
  --client-cert-file=$(ETCDCTL_CERT)
"""
_MOUNTS = {
    "static-pod-dir": ("/etc/kubernetes/manifests", "/etc/kubernetes/manifests"),
    "resource-dir": ("/etc/kubernetes/static-pod-resources/etcd-pod-%d",
                     "/etc/kubernetes/static-pod-resources"),
    "cert-dir": ("/etc/kubernetes/static-pod-resources/etcd-certs", CERTS),
    "data-dir": ("/var/lib/etcd", "/var/lib/etcd/"),
    "usr-local-bin": ("/usr/local/bin", "/usr/local/bin"),
    "log-dir": ("/var/log/etcd", "/var/log/etcd"),
}  # fmt: skip
"""Volume → (path of the host, place in a container)."""


def environment(index: int, hosts: int, quota: int | None = None) -> dict[str, str]:
    """The variables that all containers of the pod share; names of nodes become names of those."""
    name = names.host_name(index)
    found = {
        "ALL_ETCD_ENDPOINTS": ",".join(
            f"https://{names.host_address(i)}:2379" for i in range(hosts)
        ),
        "ETCDCTL_API": "3",
        "ETCDCTL_CACERT": f"{_BUNDLES}/server-ca-bundle.crt",
        "ETCDCTL_CERT": f"{_SECRETS}/etcd-peer-{name}.crt",
        "ETCDCTL_ENDPOINTS": f"https://{names.host_address(index)}:2379",
        "ETCDCTL_KEY": f"{_SECRETS}/etcd-peer-{name}.key",
        "ETCD_DATA_DIR": "/var/lib/etcd",
        "ETCD_ELECTION_TIMEOUT": "1000",
        "ETCD_ENABLE_PPROF": "true",
        "ETCD_EXPERIMENTAL_MAX_LEARNERS": "1",
        "ETCD_EXPERIMENTAL_WARNING_APPLY_DURATION": "200ms",
        "ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL": "5s",
        "ETCD_HEARTBEAT_INTERVAL": "100",
        "ETCD_IMAGE": ETCD_IMAGE,
        "ETCD_INITIAL_CLUSTER_STATE": "existing",
        "ETCD_QUOTA_BACKEND_BYTES": str(quota or 8589934592),
        "ETCD_SOCKET_REUSE_ADDRESS": "true",
    }
    for i in range(hosts):
        munged = _variable(names.host_name(i))
        found[f"NODE_{munged}_ETCD_NAME"] = names.host_name(i)
        found[f"NODE_{munged}_ETCD_URL_HOST"] = names.host_address(i)
        found[f"NODE_{munged}_IP"] = names.host_address(i)
    return found


def etcd_pod(index: int, hosts: int, revision: int, quota: int | None = None) -> str:
    """The text of /etc/kubernetes/manifests/etcd-pod.yaml: JSON, in one line."""
    name = names.host_name(index)
    words = {"env": _variable(name), "name": name, "secrets": _SECRETS, "bundles": _BUNDLES}
    shared = [{"name": n, "value": v} for n, v in environment(index, hosts, quota).items()]
    own = [*shared, {"name": "ETCD_STATIC_POD_VERSION", "value": str(revision)}]
    node_ip = {"name": "NODE_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    files = ("resource-dir", "cert-dir", "data-dir")
    spec = {
        "initContainers": [
            _container("etcd-ensure-env-vars", _ENSURE % words, [*shared, node_ip], ()),
            _container("etcd-resources-copy", _COPY, [], ("cert-dir", "usr-local-bin")),
        ],
        "containers": [
            _container("etcdctl", "trap TERM INT; sleep infinity & wait", own,
                       ("static-pod-dir", *files), "/bin/bash"),
            _container("etcd", _ETCD % words, own, ("static-pod-dir", *files)),
            _container("etcd-metrics", _METRICS % words, own, files),
            _container("etcd-readyz", _READYZ, shared, ("log-dir", "cert-dir")),
            _container("etcd-rev", _REV, shared, ("data-dir", "cert-dir")),
        ],
        "hostNetwork": True,
        # A real one has none, and takes 30 s: `trap TERM INT` in a container leaves TERM ignored.
        "terminationGracePeriodSeconds": 2,
        "priorityClassName": "system-node-critical",
        "tolerations": [{"operator": "Exists"}],
        "volumes": [_volume(volume, revision) for volume in _MOUNTS],
    }  # fmt: skip
    metadata: dict[str, Any] = {
        "name": "etcd",
        "namespace": "openshift-etcd",
        "creationTimestamp": None,
        "labels": {"app": "etcd", "etcd": "true", "k8s-app": "etcd", "revision": str(revision)},
        "annotations": {"kubectl.kubernetes.io/default-container": "etcd"},
    }
    pod = {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": spec, "status": {}}
    return json.dumps(pod, separators=(",", ":"))


def _variable(name: str) -> str:
    return name.replace("-", "_").replace(".", "_")


def _volume(name: str, revision: int) -> dict[str, Any]:
    path = _MOUNTS[name][0]
    path = path % revision if "%" in path else path
    kind = "DirectoryOrCreate" if name == "log-dir" else ""
    return {"name": name, "hostPath": {"path": path, "type": kind}}


def _container(
    name: str,
    script: str,
    env: Sequence[dict[str, Any]],
    volumes: Sequence[str],
    shell: str = "/bin/sh",
) -> dict[str, Any]:
    return {
        "name": name,
        **_IMAGE,
        "command": [shell, "-c", script],
        "env": list(env),
        "resources": {"requests": {"cpu": "10m", "memory": "60Mi"}},
        "volumeMounts": [{"name": v, "mountPath": _MOUNTS[v][1]} for v in volumes],
        "securityContext": {"privileged": True},
    }
