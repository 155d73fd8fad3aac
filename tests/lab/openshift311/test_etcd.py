"""etcd on OpenShift 3.11, as a static pod that sources etcd.conf and as a unit: every recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.lab.evidence import power_off, require_one_cluster, seed_keys
from tests.lab.lab import Lab
from tests.lab.openshift311 import layout
from tests.lab.operator import OK, PAUSED, fab, rescue_quorum
from tests.lab.story import THREE, play

MakeLab = Callable[..., Lab]
LAYOUT: dict[str, Any] = {
    "hosts": 3,
    "etcd": "3.4",
    "layout": "openshift311",
    "conf": "pod,unit,pod",
}


def test_the_whole_story(make_lab: MakeLab) -> None:
    lab = make_lab(**LAYOUT)
    play(lab)
    require_no_variable(lab)


def test_the_variable_is_the_last_resort(make_lab: MakeLab) -> None:
    """No etcd runs outside the kubelet: etcd.conf says so once, and never again."""
    lab = make_lab(**LAYOUT)
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
    require_no_variable(lab)


def require_no_variable(lab: Lab) -> None:
    """Neither files nor any running etcd have ETCD_FORCE_NEW_CLUSTER."""
    for host in lab.hosts.values():
        for folder in ("/etc/etcd", "/etc/origin", "/etc/systemd"):
            for path in host.path(folder).rglob("*"):
                assert not path.is_file() or b"FORCE_NEW_CLUSTER" not in path.read_bytes()
        for pid in host.etcd_pids():
            assert b"FORCE_NEW_CLUSTER" not in Path(f"/proc/{pid}/environ").read_bytes()
