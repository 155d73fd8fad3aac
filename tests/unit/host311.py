"""An OpenShift 3.11 master as a tree of files under a temporary root."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.unit.rooted import Rooted
from tests.unit.unit_host import make_host

POD = "/etc/origin/node/pods/etcd.yaml"
CONF = "/etc/etcd/etcd.conf"
MANIFEST = """\
kind: Pod
apiVersion: v1
metadata:
  name: master-etcd
  namespace: kube-system
spec:
  hostNetwork: true
  containers:
  - name: etcd
    image: quay.io/coreos/etcd:v3.3
    workingDir: /var/lib/etcd
    command: ["/bin/sh", "-c"]
    args:
    - |
      #!/bin/sh
      set -o allexport
      source /etc/etcd/etcd.conf
      exec etcd
    volumeMounts:
     - mountPath: /etc/etcd/
       name: master-config
       readOnly: true
     - mountPath: /var/lib/etcd/
       name: master-data
  volumes:
  - name: master-config
    hostPath:
      path: /etc/etcd/
  - name: master-data
    hostPath:
      path: /var/lib/etcd
"""
SETTINGS = """\
ETCD_NAME=master-0.example.com
ETCD_LISTEN_PEER_URLS=https://192.0.2.8:2380
ETCD_DATA_DIR=/var/lib/etcd/
#ETCD_WAL_DIR=""
ETCD_LISTEN_CLIENT_URLS=https://192.0.2.8:2379

#[cluster]
ETCD_INITIAL_ADVERTISE_PEER_URLS=https://192.0.2.8:2380
ETCD_INITIAL_CLUSTER=master-0.example.com=https://192.0.2.8:2380
ETCD_INITIAL_CLUSTER_STATE=new
#ETCD_DISCOVERY=
ETCD_ADVERTISE_CLIENT_URLS=https://192.0.2.8:2379

#[security]
ETCD_TRUSTED_CA_FILE=/etc/etcd/ca.crt
ETCD_CLIENT_CERT_AUTH="true"
ETCD_CERT_FILE=/etc/etcd/server.crt
ETCD_KEY_FILE=/etc/etcd/server.key
"""
UNIT = (
    "[Service]\nType=notify\nEnvironmentFile=-/etc/etcd/etcd.conf\nUser=etcd\n"
    'ExecStart=/bin/bash -c "GOMAXPROCS=$(nproc) /usr/bin/etcd"\n'
)


def master(root: Path, more: Mapping[str, str] | None = None, pod: bool = True) -> Rooted:
    """A master whose etcd is a static pod, or a unit; `more` wins over what it has anyway."""
    files = {
        "/etc/hostname": "master-0\n",
        "/etc/origin/master/master-config.yaml": "kind: MasterConfig\n",
        "/etc/etcd/ca.crt": "x",
        "/etc/etcd/peer.crt": "x",
        "/etc/etcd/peer.key": "x",
        CONF: SETTINGS,
    }
    files |= {POD: MANIFEST} if pod else {"/usr/lib/systemd/system/etcd.service": UNIT}
    return make_host(root, {**files, **(more or {})})
