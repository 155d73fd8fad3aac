"""Rows on OpenShift 3.11: masters with an API, and a load balancer before them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tests.faults.row import Row
from tests.lab.host import Host, wait_until
from tests.lab.lab import Lab
from tests.lab.openshift311 import layout
from tests.lab.operator import OK, REFUSED, fab
from tests.lab.paths import STATE_DIR

OPTIONS: dict[str, Any] = {
    "hosts": 3,
    "etcd": "3.4",
    "layout": "openshift311",
    "conf": "pod,unit,pod",
}
FOLDERS = ("/etc/origin", "/etc/etcd", "/etc/sysconfig", "/etc/haproxy")
BACKUP = STATE_DIR / "backup" / "master-0.tar.gz"
CHANGED = f"{layout.MASTER}/master-config.yaml"
GONE = f"{layout.MASTER}/htpasswd"
EDITED = "/etc/dnsmasq.conf"

_PARTS = ("apiserver.yaml", "controller.yaml")
PODS = {
    "master-0": ("etcd.yaml", *_PARTS),
    "master-1": _PARTS,  # its etcd is a unit
    "master-2": ("etcd.yaml", *_PARTS),
}


def leave_alone(lab: Lab) -> None:
    """Nothing is wrong with it."""


def lose_files(lab: Lab) -> None:
    """A master was backed up; since then two of its files were changed and one removed."""
    shutil.rmtree(BACKUP.parent, ignore_errors=True)
    (row,) = fab("backup-master", "master-0", "--to", str(BACKUP.parent)).expect(OK).result
    Path(row["path"]).rename(BACKUP)
    host = lab.hosts["master-0"]
    for name in (CHANGED, EDITED):
        host.path(name).write_bytes(host.read(name) + b"# changed\n")
    host.path(GONE).unlink()


def masters_serve(lab: Lab) -> None:
    """Every member serves, every API has its lease, and everything can be logged in to."""
    lab.wait_healthy()
    for host in lab.machines:
        host.wait_for_ssh()
    asked = lab.hosts["master-1"]
    wait_until(lambda: _endpoints(asked) == len(lab.hosts), 60, "the API servers")


def _endpoints(host: Host) -> int:
    """How many API servers service kubernetes names."""
    said = host.run(
        ["oc", "get", "endpoints", "kubernetes", "-n", "default", "-o", "json"], check=False
    )
    return said.stdout.count('"ip"')


RESTORE_FILES = Row(
    "restore-master-files", "restore-master-files", lose_files, masters_serve,
    ("restore-master-files", str(BACKUP), "--path", layout.MASTER, "--path", EDITED, "--yes"),
    ("master-0", "master-1", "master-2"), options=OPTIONS, watched=layout.PODS, pods=PODS,
    folders=(*FOLDERS, EDITED), settled=(*FOLDERS, EDITED),
)  # fmt: skip
RETIRE = Row(
    "retire-master", "retire-master", leave_alone, masters_serve,
    ("retire-master", "master-0", "--lb", "lb", "--yes"), ("master-1", "master-2"),
    again=(REFUSED,), options=OPTIONS, through="master-1", watched=layout.PODS,
    pods={**PODS, "master-0": ()}, folders=FOLDERS, settled=FOLDERS,
)  # fmt: skip
