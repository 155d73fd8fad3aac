"""What a lab can be asked for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.lab.disk import DiskOptions
from tests.lab.etcd_versions import VERSIONS
from tests.lab.kubelet.timing import KubeletTiming
from tests.lab.names import MAX_HOSTS

LAYOUTS = ("kubeadm", "systemd", "openshift311", "openshift4")


@dataclass(frozen=True)
class LabOptions:
    """One lab: how many hosts, which etcd, how fast a kubelet, and how hosts differ.

    layout: what runs etcd: kubeadm's static pod, systemd, or OpenShift 3.11 (and a load balancer
    beside the hosts). conf: where an etcd under systemd has its settings (see units.CONFS); of
    OpenShift 3.11: pod or unit, or several with commas. suite: Debian's; bullseye is for systemd's
    layout (see reach/debian11.py).
    """

    hosts: int = 3
    etcd: str = "3.5"
    kubelet: KubeletTiming = field(default_factory=KubeletTiming)
    disks: dict[str, DiskOptions] = field(default_factory=dict)
    quota: int | None = None
    layout: str = "kubeadm"
    conf: str = "etcd.env"
    suite: str = "bookworm"

    def __post_init__(self) -> None:
        if not 1 <= self.hosts <= MAX_HOSTS:
            raise ValueError(f"a lab has 1 to {MAX_HOSTS} hosts, not {self.hosts}")
        if self.layout not in LAYOUTS:
            raise ValueError(f"a layout is one of {', '.join(LAYOUTS)}, not {self.layout}")
        if self.suite not in ("bookworm", "bullseye"):
            raise ValueError(f"a suite is bookworm or bullseye, not {self.suite}")
        if self.suite == "bullseye" and self.layout != "systemd":
            raise ValueError("hosts of bullseye have no crictl, so etcd runs under systemd there")
        if self.etcd not in VERSIONS:
            raise ValueError(f"etcd {self.etcd} is unknown; known: {', '.join(VERSIONS)}")

    def to_json(self) -> str:
        """The text from which from_json makes the same options."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> LabOptions:
        """Read what to_json wrote."""
        told: dict[str, Any] = json.loads(text)
        disks = {name: DiskOptions(**options) for name, options in told.pop("disks").items()}
        return cls(**{**told, "kubelet": KubeletTiming(**told["kubelet"]), "disks": disks})
