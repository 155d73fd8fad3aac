"""The API on a host: a service over the cluster's own etcd, its certificates, and who may ask."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.lab import names
from tests.lab.disk import Disk
from tests.lab.openshift4.api.faults import Fault, to_text
from tests.lab.openshift4.credentials import ApiCredentials
from tests.lab.openshift4.kubectl import kubectl_dir
from tests.lab.openshift4.layout import KUBECONFIGS

PORT = 6443
FAULTS = "/etc/lab-api/faults.json"
CREDENTIALS = "/etc/kubernetes/static-pod-resources/kube-apiserver-certs/secrets/lab"
_FOLDER = "/etc/lab-api"
_PROGRAMS = "/opt/lab-kubectl"
_UNIT = f"""\
[Unit]
Description=the lab's API server
After=network.target

[Service]
Environment=PYTHONPATH=/usr/lib/lab/kube PYTHONDONTWRITEBYTECODE=1
ExecStart=/usr/bin/python3 -m api --config {_FOLDER}/config.json
Restart=always
RestartSec=0.2

[Install]
WantedBy=multi-user.target
"""


def binds() -> dict[str, Path]:
    """Where a host sees kubectl, and what is mounted there."""
    return {_PROGRAMS: kubectl_dir()}


def write(disk: Disk, credentials: ApiCredentials, hosts: int) -> None:
    """Give a host its API server, a kubectl, and the kubeconfigs of OpenShift's nodes."""
    folder = disk.golden_folder(_FOLDER)
    for name, credential in (("server", credentials.server), ("ca", credentials.authority)):
        credential.write(folder / name)
    shutil.copytree(disk.pki / "etcd", folder / "etcd", dirs_exist_ok=True)
    config = {
        "listen": "0.0.0.0", "port": PORT, "cert": f"{_FOLDER}/server.crt",
        "key": f"{_FOLDER}/server.key", "client_ca": f"{_FOLDER}/ca.crt",
        "endpoints": _members_of(disk.index, hosts), "etcd_ca": f"{_FOLDER}/etcd/ca.crt",
        "etcd_cert": f"{_FOLDER}/etcd/healthcheck-client.crt",
        "etcd_key": f"{_FOLDER}/etcd/healthcheck-client.key", "faults": FAULTS,
    }  # fmt: skip
    disk.put_golden(f"{_FOLDER}/config.json", json.dumps(config), 0o600)
    disk.put_golden("/etc/systemd/system/lab-api.service", _UNIT)
    wants = "/etc/systemd/system/multi-user.target.wants/lab-api.service"
    disk.link_golden(wants, "/etc/systemd/system/lab-api.service")
    disk.link_golden("/usr/local/bin/kubectl", f"{_PROGRAMS}/kubectl")
    code = disk.golden_folder("/usr/lib/lab/kube") / "api"
    shutil.copytree(Path(__file__).parent / "api", code, dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    secrets = disk.golden_folder(CREDENTIALS)
    for name, credential in (("admin", credentials.admin), ("ca", credentials.authority)):
        credential.write(secrets / name)
    others = [i for i in range(hosts) if i != disk.index] or [disk.index]
    servers = {"localhost": "localhost", "lb-int": names.host_name(others[0])}
    for name, server in servers.items():
        text = credentials.kubeconfig(CREDENTIALS, f"https://{server}:{PORT}")
        disk.put_golden(f"{KUBECONFIGS}/{name}.kubeconfig", text, 0o600)


def _members_of(index: int, hosts: int) -> list[str]:
    """Endpoints as kube-apiserver has them: its own host's member first."""
    order = [index, *(i for i in range(hosts) if i != index)]
    return [f"{names.host_address(i)}:2379" for i in order]


def faults_text(*rules: Fault) -> str:
    """What a host's file of faults says."""
    return to_text(list(rules))
