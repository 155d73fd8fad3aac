"""A row on OpenShift 4: a machine that is gone, replaced through an API and its operators."""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.faults.row import Row
from tests.lab.faults import lead
from tests.lab.host import wait_until
from tests.lab.lab import Lab
from tests.lab.openshift4.actor import Actor
from tests.lab.openshift4.api_on_hosts import PORT
from tests.lab.openshift4.layout import MANIFEST
from tests.lab.operator import REFUSED

OPTIONS: dict[str, Any] = {"layout": "openshift4"}
OLD = "lab-x7k2p-master-1"
OTHERS = ("master-0", "master-2")
POD = (MANIFEST.rpartition("/")[2],)


class AtWork(Actor):
    """The operators of a cluster that has its objects already: its hosts have booted since."""

    def seed(self) -> None:
        """All of it is in etcd."""


def lose_machine(lab: Lab) -> None:
    """The cluster has its objects, and one machine loses its power for good."""
    with Actor(lab):
        pass
    lab.hosts["master-1"].power_cut()


def two_serve(lab: Lab) -> None:
    """The others serve, with their API, and points are named by the host that acts, the leader."""
    lab.wait_healthy(OTHERS)
    for name in OTHERS:
        lab.hosts[name].wait_for_ssh()
    lead(lab, "master-0")
    for name in OTHERS:
        host = lab.hosts[name]
        wait_until(partial(host.is_listening, PORT), 30, f"the API on {name}")


REPLACE = Row(
    "replace-machine", "replace-machine", lose_machine, two_serve,
    ("replace-machine", OLD, "--yes"), ("master-0", "master-1", "master-2"), again=(REFUSED,),
    options=OPTIONS, through=",".join(OTHERS), around=AtWork,
    pods=dict.fromkeys(("master-0", "master-1", "master-2"), POD),
)  # fmt: skip
