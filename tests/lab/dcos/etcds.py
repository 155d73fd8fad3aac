"""The etcd processes behind the imitation: real members, with certificates, data and clusters."""

from __future__ import annotations

import base64
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.lab.etcd_client import EtcdClient

PODS = ("etcd-0", "etcd-1", "etcd-2")


def address(pod: str) -> str:
    """Every pod has an address of the loopback, whatever agent it is on."""
    return f"127.78.0.{10 + PODS.index(pod)}"


def dns_name(service: str, pod: str) -> str:
    """The task's name in the cluster's DNS."""
    return f"{pod}-peer.{service}.mesos"


class Etcds:
    """Starts, stops and asks the members. top: the imitation's directory; it has pki/ and bin/."""

    def __init__(self, top: Path, service: str) -> None:
        self._top, self._service = top, service

    def peer_url(self, pod: str) -> str:
        """Where its peers reach it."""
        return f"https://{dns_name(self._service, pod)}:2380"

    def client(self, pod: str, timeout: float = 2.0) -> EtcdClient:
        """A client of one member."""
        from tests.lab.etcd_client import EtcdClient  # TLS takes time to load, and few need it

        return EtcdClient(address(pod), self._top / "pki", timeout)

    def start(self, pod: str, sandbox: Path, data: Path, members: Iterable[str], new: bool) -> int:
        """Start a member in a sandbox with its certificates and etcdctl; its process ID."""
        import subprocess  # few commands start something, and each is a Python of its own

        self._fill(sandbox)
        here = f"https://{address(pod)}"
        cluster = ",".join(f"{name}-peer={self.peer_url(name)}" for name in members)
        argv = [
            str(self._top / "bin/etcd"), f"--name={pod}-peer", f"--data-dir={data}",
            f"--listen-client-urls={here}:2379", f"--listen-peer-urls={here}:2380",
            f"--advertise-client-urls=https://{dns_name(self._service, pod)}:2379",
            f"--initial-advertise-peer-urls={self.peer_url(pod)}",
            f"--initial-cluster={cluster}", f"--initial-cluster-token={self._service}",
            f"--initial-cluster-state={'new' if new else 'existing'}", "--client-cert-auth",
            "--trusted-ca-file=ca-crt.pem", "--cert-file=etcd-crt.pem", "--key-file=etcd-key.pem",
            "--peer-trusted-ca-file=ca-crt.pem", "--peer-cert-file=etcd-crt.pem",
            "--peer-key-file=etcd-key.pem", "--listen-metrics-urls=", "--unsafe-no-fsync",
        ]  # fmt: skip
        with (sandbox / "stderr").open("ab") as log:
            process = subprocess.Popen(
                argv, cwd=sandbox, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        return process.pid

    def _fill(self, sandbox: Path) -> None:
        import shutil

        tools = sandbox / "etcd-linux-amd64"
        tools.mkdir(parents=True, exist_ok=True)
        shutil.copy2(self._top / "bin/etcdctl", tools / "etcdctl")
        for name in ("ca-crt.pem", "etcd-crt.pem", "etcd-key.pem"):
            shutil.copy2(self._top / "pki" / name, sandbox / name)

    def add(self, through: str, pod: str) -> None:
        """Make it a member (a voter, as the package does).

        etcd refuses that until the member before it has been connected for some seconds.
        """
        from tests.lab.etcd_client import EtcdUnavailable

        deadline = time.monotonic() + 20
        while True:
            try:
                client = self.client(through, 10)
                client.call("cluster/member/add", {"peerURLs": [self.peer_url(pod)]})
                return
            except EtcdUnavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def drop(self, through: str, pod: str) -> None:
        """Remove the member of that name."""
        client = self.client(through, 10)
        for member in client.members():
            if self.peer_url(pod) in member.peer_urls:
                client.call("cluster/member/remove", {"ID": str(member.id)})

    def dump(self, pod: str) -> dict[str, str]:
        """Every key with its value, base64."""
        found = self.client(pod, 10).get_all()
        return {key: base64.b64encode(value).decode() for key, value in found.items()}

    def load(self, pod: str, keys: dict[str, Any]) -> None:
        """Write what `dump` gave."""
        pairs = [(key, base64.b64decode(value)) for key, value in keys.items()]
        self.client(pod, 10).put_many(pairs)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill(pid: int) -> None:
    """End a process, and see it gone."""
    if is_alive(pid):
        os.kill(pid, signal.SIGKILL)
        while is_alive(pid):
            pass
