"""A kubeadm host as a tree of files under a temporary root, with data that etcd could have left."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from agent.host import Completed, Host
from agent.model.catalog import CATALOG
from agent.model.plan import FORMAT, Plan, Promise, Stage, Step
from tests.unit.survey.manifests import with_flags

MANIFEST = "/etc/kubernetes/manifests/etcd.yaml"
DATA = "/var/lib/etcd"
NAME = "m0"


class Rooted(Host):
    """A host under a prefix. Processes and ports are this machine's, not the tree's: given here."""

    def __init__(self, root: str, running: tuple[str, ...] = (), ports: tuple[int, ...] = ()):
        super().__init__(root)
        self.running, self.ports = running, set(ports)

    def processes(self, name: str) -> Iterator[psutil.Process]:
        return iter([psutil.Process(os.getpid())] if name in self.running else [])

    def listening_ports(self) -> set[int]:
        return self.ports


class ProgramsOutside(Rooted):
    """A host below a prefix that has no programs: they run outside of it, as `outside` says."""

    def outside(self, argv: Sequence[str]) -> list[str]:
        """The argv that does outside what `argv` would do inside."""
        return list(argv)

    def run(self, argv: Sequence[str], *args: Any, **words: Any) -> Completed:
        return Host().run(self.outside(argv), *args, **words)

    def spawn(self, argv: Sequence[str], log: str) -> subprocess.Popen[bytes]:
        return Host().spawn(self.outside(argv), self.real(log))

    def stream(self, argv: Sequence[str], *args: Any, **words: Any) -> int:
        return Host().stream(self.outside(argv), *args, **words)


def kubeadm_host(root: Path, data: bool = True) -> Rooted:
    """A control-plane host: manifest, certificates' place, member directory, /etc/hostname."""
    for directory in ("etc/kubernetes/manifests", "etc/kubernetes/pki/etcd", "var/lib", "proc"):
        (root / directory).mkdir(parents=True)
    (root / "etc/hostname").write_text(f"{NAME}\n")
    (root / "etc/kubernetes/pki/etcd/ca.crt").write_text("not read by these tests\n")
    manifest = root / MANIFEST[1:]
    manifest.write_text(with_flags())
    manifest.chmod(0o600)
    _date(manifest)
    if data:
        _fill(root / DATA[1:])
    return Rooted(str(root))


def _fill(data_dir: Path) -> None:
    chance = random.Random(7)
    (data_dir / "member/snap").mkdir(parents=True)
    (data_dir / "member/wal").mkdir()
    data_dir.chmod(0o700)
    (data_dir / "member/snap/db").write_bytes(chance.randbytes(300_000))
    wal = data_dir / "member/wal/0000000000000000-0000000000000000.wal"
    with wal.open("wb") as file:  # etcd preallocates: data, then a hole
        file.write(chance.randbytes(70_000))
        file.truncate(4_000_000)
    for path in sorted(data_dir.rglob("*"), reverse=True):
        if path.is_file():
            path.chmod(0o600)
        _date(path)


def _date(path: Path) -> None:
    os.utime(path, ns=(1_700_000_000_123_456_789, 1_700_000_001_987_654_321))


def picture(root: Path, *below: str) -> dict[str, tuple[Any, ...]]:
    """What a rollback must restore: kind, content's hash, owner, mode, xattrs, mtime, by path."""
    found: dict[str, tuple[Any, ...]] = {}
    for start in below:
        top = root / start.lstrip("/")
        paths = [top, *sorted(top.rglob("*"))] if top.is_dir() else [top]
        for path in paths:
            info = path.lstat()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "dir"
            xattrs = {name: os.getxattr(path, name) for name in os.listxattr(path)}
            found[str(path.relative_to(root))] = (
                content, info.st_uid, info.st_gid, info.st_mode, xattrs, info.st_mtime_ns,
            )  # fmt: skip
    return found


def plan_of(*steps: tuple[str, dict[str, Any]], host: str = NAME, created: float = 1.0) -> Plan:
    """A plan of one stage with these (action, arguments) on one host, numbered 01, 02, …"""
    made = tuple(
        Step(f"{i:02}", host, action, args, "a test", final=CATALOG[action].final)
        for i, (action, args) in enumerate(steps, 1)
    )
    stages = (Stage("all", made),)
    return Plan(FORMAT, "test", "a test", created, {host: ""}, stages, Promise((host,))).with_id()


SWAP: tuple[tuple[str, dict[str, Any]], ...] = (
    ("park_definition", {}),
    ("stop_etcd", {"hold": 0.0}),
    ("copy_data", {}),
    ("relocate_data", {}),
    ("install_data", {"scratch": False}),
    ("unpark_definition", {}),
)
"""A whole swap of the data by a copy of itself."""
