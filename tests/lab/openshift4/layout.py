"""A host in OpenShift 4's layout: manifests, static-pod-resources, certificates, kubeconfigs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import yaml

from tests.lab import names
from tests.lab.disk import Disk
from tests.lab.openshift4.base import ETCD_IMAGE
from tests.lab.openshift4.pod import environment, etcd_pod

MANIFEST = "/etc/kubernetes/manifests/etcd-pod.yaml"
RESOURCES = "/etc/kubernetes/static-pod-resources"
KUBECONFIGS = f"{RESOURCES}/kube-apiserver-certs/secrets/node-kubeconfigs"
REVISION = 3
_OTHERS = {"kube-apiserver": 7, "kube-controller-manager": 5, "kube-scheduler": 6}
"""The other static pods of a node, and the revisions that they are at."""

BACKUP_SCRIPT = "### Created by cluster-etcd-operator\n"
Files = dict[str, str]


def write_host(disk: Disk, pki: list[Path], hosts: int, quota: int | None = None) -> None:
    """Give a host its files. pki: the certificates of all hosts in order, as kubeadm names them."""
    index = disk.index
    for revision in (REVISION - 1, REVISION):
        for path, text in revision_files(index, hosts, revision, quota).items():
            disk.put_golden(path, text, 0o600)
    disk.put_golden(MANIFEST, etcd_pod(index, hosts, REVISION, quota), 0o600)
    for name, revision in _OTHERS.items():
        for number in (revision - 1, revision):
            folder = f"{RESOURCES}/{name}-pod-{number}"
            disk.put_golden(f"{folder}/{name}-pod.yaml", _other_pod(name, number), 0o600)
            disk.put_golden(f"{folder}/configmaps/config/config.yaml", f"of: {name}\n", 0o600)
    secrets = disk.golden_folder(f"{RESOURCES}/etcd-certs/secrets/etcd-all-certs")
    bundles = disk.golden_folder(f"{RESOURCES}/etcd-certs/configmaps/etcd-all-bundles")
    for other, own in enumerate(pki):
        put_certificates(secrets, names.host_name(other), own)
    for bundle in ("server", "metrics"):
        shutil.copy2(pki[index] / "etcd/ca.crt", bundles / f"{bundle}-ca-bundle.crt")
    scripts = f"{RESOURCES}/etcd-certs/configmaps/etcd-scripts"
    disk.put_golden(f"{scripts}/etcd.env", env_file(index, hosts))
    disk.put_golden(f"{scripts}/cluster-backup.sh", BACKUP_SCRIPT)
    # The pod's script waits for connections of its ports in TIME-WAIT, too: a minute on real hosts.
    disk.put_golden("/etc/sysctl.d/90-lab.conf", "net.ipv4.tcp_max_tw_buckets = 0\n")
    disk.put_golden("/var/log/etcd/.keep", "")
    disk.put_golden("/etc/os-release", 'NAME="Red Hat Enterprise Linux CoreOS"\nID="rhcos"\n')
    os.chmod(disk.golden_folder("/var/log/etcd"), 0o700)


def put_certificates(secrets: Path, name: str, pki: Path) -> None:
    """Put one member's three pairs of certificate and key, as the secrets of its node name them."""
    for role, source in (("peer", "peer"), ("serving", "server"), ("serving-metrics", "server")):
        for kind in ("crt", "key"):
            target = secrets / f"etcd-{role}-{name}.{kind}"
            shutil.copy2(pki / f"etcd/{source}.{kind}", target)
            target.chmod(0o600)


def revision_files(index: int, hosts: int, revision: int, quota: int | None = None) -> Files:
    """The tree of one revision of etcd's pod: as the installer writes it, and as YAML beside it."""
    folder = f"{RESOURCES}/etcd-pod-{revision}"
    text = etcd_pod(index, hosts, revision, quota)
    return {
        f"{folder}/etcd-pod.yaml": text,
        f"{folder}/configmaps/etcd-pod/pod.yaml": yaml.safe_dump(yaml.safe_load(text)),
        f"{folder}/configmaps/etcd-pod/version": f"{revision}\n",
        f"{folder}/configmaps/etcd-serving-ca/ca-bundle.crt": "(a bundle)\n",
    }


def env_file(index: int, hosts: int) -> str:
    """etcd.env, which OpenShift's scripts read: paths as they are on the host."""
    place = "/etc/kubernetes/static-pod-certs"
    rows = environment(index, hosts).items()
    lines = [f'export {name}="{value.replace(place, f"{RESOURCES}/etcd-certs")}"\n'
             for name, value in rows]  # fmt: skip
    return "".join(lines) + f'export ETCD_IMAGE="{ETCD_IMAGE}"\n'


def _other_pod(name: str, revision: int) -> str:
    return (
        f'{{"kind":"Pod","apiVersion":"v1","metadata":{{"name":"{name}","namespace":'
        f'"openshift-{name}","labels":{{"revision":"{revision}"}}}},"spec":{{"containers":'
        f'[{{"name":"{name}","image":"{ETCD_IMAGE}"}}]}}}}'
    )
