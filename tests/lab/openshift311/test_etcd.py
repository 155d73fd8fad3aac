"""etcd on OpenShift 3.11, as a static pod that sources etcd.conf and as a unit, mixed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.lab.evidence import power_off, require_one_cluster, seed_keys
from tests.lab.faults import crash_loop, rescue
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.openshift311 import layout
from tests.lab.operator import OK, PAUSED, fab, rescue_quorum
from tests.lab.story import THREE, require_membership_in_files

MakeLab = Callable[..., Lab]
LAYOUT: dict[str, Any] = {
    "hosts": 3,
    "etcd": "3.4",
    "layout": "openshift311",
    "conf": "pod,unit,pod",
}


def test_a_snapshot_is_restored(make_lab: MakeLab, tmp_path: Path) -> None:
    """On one host that the others join; API and controllers forget what is no more."""
    lab = make_lab(**LAYOUT)
    keys = seed_keys(lab)
    fab("snapshot", "master-0", "--to", str(tmp_path)).expect(OK)
    (taken,) = tmp_path.iterdir()
    lab.put_keys(20, "/registry/later/")
    before = {n: started(h) for n, h in lab.hosts.items()}
    fab("restore", str(taken), "--on", "master-0", "--discard-current", "--yes").expect(OK)
    require_one_cluster(lab, THREE, keys)
    assert not [k for k in lab.get_all() if k.startswith("/registry/later/")]
    require_no_variable(lab)
    for name, host in lab.hosts.items():
        assert not set(started(host)) & set(before[name]), name


def started(host: Host) -> list[str]:
    """The processes of API and controllers, each with when it was started."""
    listed = host.run(["ps", "-eo", "pid=,lstart=,args="]).stdout.splitlines()
    return [line for line in listed if "/opt/lab-api/api.py" in line]


def test_the_variable_is_the_last_resort(make_lab: MakeLab) -> None:
    """No etcd runs outside the kubelet: etcd.conf says so once, and never again.

    One host has Python 2.7 only, as RHEL 7 does: its agent runs by the carried runtime.
    """
    lab = make_lab(**LAYOUT, pythons={"master-2": "2.7"})
    keys = seed_keys(lab)
    before = {n: h.read(layout.CONF) for n, h in lab.hosts.items()}
    power_off(lab, "master-1", "master-2")
    rescue_quorum("master-1", "master-2", more=["--in-manifest"]).end().expect(PAUSED)
    host = lab.hosts["master-0"]
    assert host.read(layout.CONF) == before["master-0"]
    lab.hosts["master-1"].boot()
    lab.hosts["master-2"].boot()
    fab("resume").expect(OK)
    require_one_cluster(lab, THREE, keys)

    # And a member beyond repair gets a new identity, with its settings up to date.
    crash_loop(lab.hosts["master-2"])
    rescue("master-2").expect(OK)
    require_one_cluster(lab, THREE, keys)
    require_membership_in_files(lab, THREE)
    require_no_variable(lab)


def require_no_variable(lab: Lab) -> None:
    """Neither files nor any running etcd have ETCD_FORCE_NEW_CLUSTER."""
    for host in lab.hosts.values():
        for folder in ("/etc/etcd", "/etc/origin", "/etc/systemd"):
            for path in host.path(folder).rglob("*"):
                assert not path.is_file() or b"FORCE_NEW_CLUSTER" not in path.read_bytes()
        for pid in host.etcd_pids():
            assert b"FORCE_NEW_CLUSTER" not in Path(f"/proc/{pid}/environ").read_bytes()
