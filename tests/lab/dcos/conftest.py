"""The fixture `dcos`: an imitated DC/OS with agents, on PATH for this test's `fab`."""

from __future__ import annotations

import ipaddress
import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from coordinator.dcos import actions, look
from tests.lab import pki, recipe
from tests.lab.dcos.cluster import DEFAULT, Cluster
from tests.lab.dcos.etcds import PODS, address, dns_name, kill
from tests.lab.paths import REPO_DIR, STATE_DIR

SERVICE = "kubernetes"


class Dcos:
    """What a test does to the imitation behind the CLI's back."""

    def __init__(self, top: Path) -> None:
        self.top = top

    def fail(self, **faults: Any) -> None:
        """Say what is to go wrong from now on."""
        with Cluster.held(self.top) as cluster:
            cluster.faults.update(faults)

    def heal(self) -> None:
        """Nothing is to go wrong any more."""
        with Cluster.held(self.top) as cluster:
            cluster.faults.clear()

    def install(self, high_availability: bool, keys: int = 0) -> dict[str, bytes]:
        """A service as after its installation, with this many keys."""
        with Cluster.held(self.top) as cluster:
            cluster.data["options"]["kubernetes"]["high_availability"] = high_availability
            cluster.data["installed"] = True
            cluster.deploy()
            if high_availability:
                for pod in PODS:
                    cluster._wait_healthy(pod)
            pairs = {f"/registry/lab/{n:04d}": f"value {n}".encode() for n in range(keys)}
            cluster.etcds.client(cluster.serving(), 10).put_many(pairs.items())
            return {**pairs, DEFAULT[0]: DEFAULT[1]}

    def install_failed(self) -> None:
        """A service whose first installation is under way, and does not get anywhere."""
        with Cluster.held(self.top) as cluster:
            cluster.data["installed"] = True
            cluster.deploy()

    def keys(self) -> dict[str, bytes]:
        """What is stored now."""
        with Cluster.held(self.top) as cluster:
            return cluster.etcds.client(cluster.serving(), 10).get_all()

    def lead(self, pod: str) -> None:
        """Hand the leadership to a pod's etcd, if it has not got it."""
        with Cluster.held(self.top) as cluster:
            status = cluster.etcds.client(pod).status()
            leader, wanted = status["leader"], status["header"]["member_id"]
            for one in cluster.pods if leader != wanted else ():
                client = cluster.etcds.client(one)
                if client.status()["header"]["member_id"] == leader:
                    client.call("maintenance/transfer-leadership", {"targetID": wanted})

    def power_off(self, *pods: str) -> None:
        """Take the power from the agents of these pods."""
        with Cluster.held(self.top) as cluster:
            for pod in pods:
                cluster.agent(cluster.pods[pod]["agent"])["active"] = False
            cluster.tick()

    def end_task(self, pod: str) -> None:
        """End a pod's etcd, as a crash would."""
        with Cluster.held(self.top) as cluster:
            run = cluster.run_of(pod)
            assert run is not None
            kill(run["pid"])

    def task(self, pod: str) -> str:
        """The ID of a pod's newest task."""
        data = json.loads((self.top / "cluster.json").read_text())
        return str([run["id"] for run in data["runs"] if run["pod"] == pod][-1])

    def wait_serving(self, pod: str) -> None:
        """Wait until a pod's etcd answers through the quorum."""
        deadline = time.monotonic() + 20
        while True:
            with Cluster.held(self.top) as cluster:
                if cluster.etcds.client(pod).is_healthy():
                    return
            assert time.monotonic() < deadline, f"{pod} does not serve"
            time.sleep(0.05)

    def files(self) -> list[Path]:
        """Snapshots in the tests' folder, whole or not."""
        folder = self.top / "backups"
        return sorted(folder.iterdir()) if folder.is_dir() else []


@pytest.fixture
def dcos(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dcos]:
    """An imitated DC/OS with eight agents, and no service yet."""
    top = STATE_DIR / "dcos"
    shutil.rmtree(top, ignore_errors=True)
    (top / "bin").mkdir(parents=True)
    for name in ("etcd", "etcdctl"):
        (top / "bin" / name).symlink_to(recipe.etcd_dir("3.5") / "bin" / name)
    _write_command(top)
    _write_certificates(top / "pki")
    _write_names()
    agents = [{"id": f"A{n}", "hostname": f"10.0.0.{n}", "active": True} for n in range(1, 9)]
    options = {"service": {"name": SERVICE}, "kubernetes": {"high_availability": False}}
    data = {"service": SERVICE, "installed": False, "deployed": False, "api_ran": False,
            "edition": "enterprise", "options": options, "agents": agents, "pods": {}, "runs": [],
            "faults": {}}  # fmt: skip
    (top / "cluster.json").write_text(json.dumps(data))
    monkeypatch.setenv("PATH", f"{top / 'command'}:/usr/sbin:/usr/bin:/sbin:/bin")
    monkeypatch.setenv("LAB_DCOS", str(top))
    monkeypatch.setattr(look, "PROBE", 1)
    monkeypatch.setattr(actions, "POLL", 0.1)
    monkeypatch.setenv("XDG_STATE_HOME", str(top / "state"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIALAB")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-so-secret")
    yield Dcos(top)
    with Cluster.held(top) as cluster:
        cluster.destroy()


def _write_command(top: Path) -> None:
    path = top / "command" / "dcos"
    path.parent.mkdir()
    path.write_text(
        f"#!/bin/sh\nexport PYTHONPATH={REPO_DIR}\nexec {sys.executable} -S -m "
        'tests.lab.dcos.command "$@"\n'
    )
    path.chmod(0o755)


def _write_certificates(folder: Path) -> None:
    authority = pki.make_authority("dcos-lab", 1)
    # A member that calls another does so from 127.0.0.1, and its certificate must say so.
    names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    for pod in PODS:
        names.append(x509.DNSName(dns_name(SERVICE, pod)))
        names.append(x509.IPAddress(ipaddress.ip_address(address(pod))))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "etcd")])
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    leaf = pki.make_leaf(authority, subject, 3, usages, names)
    authority.write(folder / "ca")
    leaf.write(folder / "healthcheck-client")
    for name, copy in (("ca.crt", "ca-crt.pem"), ("healthcheck-client.crt", "etcd-crt.pem"),
                       ("healthcheck-client.key", "etcd-key.pem")):  # fmt: skip
        shutil.copy2(folder / name, folder / copy)


def _write_names() -> None:
    """The enclosure's own /etc/hosts, which the operator's side and the etcds read."""
    path = Path("/etc/hosts")
    lines = [line for line in path.read_text().splitlines() if not line.endswith(".mesos")]
    lines += [f"{address(pod)} {dns_name(SERVICE, pod)}" for pod in PODS]
    path.write_text("\n".join(lines) + "\n")
