"""The data directories of a fresh cluster, made once, the way kubeadm makes a cluster.

The first member starts alone; each other one is added as a learner, started with the list of those
before it and `existing`, and promoted. What is in the data directories then fits the manifests.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from tests.lab import cache, manifests, names, network, recipe
from tests.lab.commands import run
from tests.lab.etcd_client import EtcdClient, EtcdUnavailable
from tests.lab.etcd_versions import VERSIONS
from tests.lab.host import Host, wait_until

_TIMEOUT = 60.0
Answer = TypeVar("Answer")


def ensure_golden_data(version: str, hosts: Sequence[Host]) -> Path:
    """Return the cache directory with one data directory per host, made first where missing."""

    def build(target: Path) -> None:
        with ExitStack() as running:
            for host in hosts:
                _join(host, hosts, version, running)
            time.sleep(0.5)
        for host in hosts:
            copied = target / host.name
            run(["cp", "-a", "--sparse=always", _data_dir(host), copied])

    return cache.ensure(recipe.golden_dir(version, len(hosts)), build)


def _data_dir(host: Host) -> Path:
    return host.disk.top / "bootstrap"


def _join(host: Host, hosts: Sequence[Host], version: str, running: ExitStack) -> None:
    first = EtcdClient(hosts[0].address, _pki(hosts[0]))
    learner = 0
    if host.index:
        learner = _retry(lambda: first.add_learner(f"https://{names.url_host(host.address)}:2380"))
    running.callback(_stop, _start(host, version))
    if host.index:
        _retry(lambda: first.promote(learner))
    own = EtcdClient(host.address, _pki(host))
    wait_until(own.is_healthy, _TIMEOUT, f"the bootstrap of {host.name}")


def _pki(host: Host) -> Path:
    return host.disk.pki / "etcd"


def _start(host: Host, version: str) -> subprocess.Popen[bytes]:
    """Run etcd with the manifest's own flags, on this side's paths."""
    replaced = {"/etc/kubernetes/pki/etcd": str(_pki(host)), "/var/lib/etcd": str(_data_dir(host))}
    flags = manifests.etcd_flags(host.index, VERSIONS[version])
    for original, here in replaced.items():
        flags = [flag.replace(f"={original}", f"={here}") for flag in flags]
    program = str(recipe.etcd_dir(version) / "bin/etcd")
    enter = ["nsenter", f"--net={network.namespace_path(host.name)}"]
    with (host.disk.top / "bootstrap.log").open("wb") as log:
        return subprocess.Popen(
            [*enter, program, *flags], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(30)


def _retry(call: Callable[[], Answer]) -> Answer:
    """etcd refuses changes until the last one has settled; ask again."""
    deadline = time.monotonic() + _TIMEOUT
    while True:
        try:
            return call()
        except EtcdUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
