"""What remembers etcd's revisions beside it: API server, controllers, scheduler, and the kubelet.

They are processes of the names and in the places that the product looks for, and do nothing: that
they are started anew is what is tested with them.
"""

from __future__ import annotations

from tests.lab import setup, units
from tests.lab.etcd_versions import PAUSE_IMAGE
from tests.lab.host import Host, wait_until
from tests.lab.lab import Lab

COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
_KUBELET = "kubelet"
_PODS_OF_311 = ("api", "controllers")
_POD = """\
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: kube-system}}
spec:
  hostNetwork: true
  containers:
  - {{name: {name}, image: "{image}"}}
"""
_UNIT = """\
[Unit]
Description=Kubernetes {name}
After=etcd.service

[Service]
ExecStart=/usr/local/bin/{name} \\
  --etcd-servers=https://127.0.0.1:2379 \\
  --etcd-cafile=/etc/etcd/ca.crt --v 2
Restart=on-failure
"""


def run_pods(host: Host) -> None:
    """Give a host the components as static pods."""
    for name in COMPONENTS:
        text = _POD.format(name=name, image=PAUSE_IMAGE)
        host.write(f"/etc/kubernetes/manifests/{name}.yaml", text, 0o600)


def run_units(host: Host) -> None:
    """Give a host the components as units, as guides for doing it by hand have them."""
    for name in COMPONENTS:
        host.write(f"/usr/local/bin/{name}", "#!/bin/sh\nexec sleep infinity\n", 0o755)
        host.write(f"/etc/systemd/system/{name}.service", _UNIT.format(name=name), 0o644)
    host.run(["systemctl", "daemon-reload"])
    host.run(["systemctl", "start", *COMPONENTS])


def run_everywhere(lab: Lab) -> None:
    """Let the components run on every host, in the way of its layout."""
    for host in lab.hosts.values():
        if lab.options.layout == "openshift311":
            continue  # its API and controllers are part of it
        if _has_pods(lab, host):
            run_pods(host)
        else:
            run_units(host)
    wait_until(lambda: all(all(starts(lab, host).values()) for host in lab.hosts.values()), 60,
               "the control plane")  # fmt: skip


def _has_pods(lab: Lab, host: Host) -> bool:
    """kubespray has them as static pods beside its etcd under systemd; by hand they are units."""
    if lab.options.layout != "systemd":
        return True
    return units.conf_of(lab.options.conf, host.index) == "etcd.env" and setup.has_crictl()


def starts(lab: Lab, host: Host) -> dict[str, str]:
    """Component → its container's ID, or its unit's main process; empty where it does not run."""
    names = _PODS_OF_311 if lab.options.layout == "openshift311" else COMPONENTS
    one = container_of if _has_pods(lab, host) else main_process
    return {name: one(host, name) for name in names} | {_KUBELET: main_process(host, _KUBELET)}


def container_of(host: Host, name: str) -> str:
    """ID of the running container of that name; empty for none."""
    label = f"io.kubernetes.container.name={name}"
    return host.run(["crictl", "ps", "-q", "--label", label]).stdout.strip()


def main_process(host: Host, unit: str) -> str:
    """The number of an active unit's main process; empty for none."""
    said = host.run(["systemctl", "show", "--value", "-p", "MainPID", unit]).stdout.strip()
    return "" if said == "0" else said
