"""What the tests hold against the product: bytes on disk, keys, members, and who wrote what."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from tests.lab.etcd_client import EtcdUnavailable
from tests.lab.host import Host, wait_until
from tests.lab.lab import MANIFEST, Lab

STATE = "/var/lib/etcd-rescue"
DATA = "/var/lib/etcd"
QUARANTINES = (f"{STATE}/quarantine", f"{DATA}/.etcd-rescue/quarantine")

# ---- files ---------------------------------------------------------------------------------------


def tree(host: Host, inside: str) -> dict[str, str]:
    """Relative path -> mode, owner, and of files the time and the content, below `inside`.

    All files are opened before the first is read: a rename meanwhile does not matter.
    """
    top = host.path(inside)
    found, opened = {}, {}
    for path in sorted(top.rglob("*")):
        info, name = path.lstat(), str(path.relative_to(top))
        found[name] = f"{info.st_mode:o} {info.st_uid}:{info.st_gid}"
        if path.is_file() and not path.is_symlink():
            opened[name] = path.open("rb")
            found[name] += f" {info.st_mtime_ns}"
    for name, file in opened.items():
        with file:
            found[name] += f" {file_digest(file, 'sha256').hexdigest()}"
    return found


def quarantined(host: Host) -> list[Path]:
    """Every member directory that was moved aside on a host, oldest first."""
    found = [
        Path(f"{top}/{plan.name}/{member.name}")
        for top in QUARANTINES
        for plan in _children(host, top)
        for member in _children(host, f"{top}/{plan.name}")
    ]
    return sorted(found, key=lambda path: host.path(path).stat().st_ctime_ns)


def _children(host: Host, inside: str) -> list[Path]:
    folder = host.path(inside)
    return list(folder.iterdir()) if folder.is_dir() else []


def manifest_flags(host: Host) -> dict[str, str]:
    """The flags in etcd's manifest."""
    found = re.findall(r"^\s*- --([a-z-]+)(?:=(.*))?$", host.read(MANIFEST).decode(), re.M)
    return dict(found)


def stored(host: Host) -> tuple[bytes, str, int]:
    """etcd's manifest: its bytes, mode and owner, and the time it was last written."""
    info = host.path(MANIFEST).stat()
    who = f"{info.st_mode:o} {info.st_uid}:{info.st_gid}"
    return host.read(MANIFEST), who, info.st_mtime_ns


def binary_place(host: Host) -> str:
    """Where the product keeps the etcd binary that it runs outside the kubelet."""
    image = re.search(r"image: (\S+)", host.read(MANIFEST).decode())
    assert image is not None
    return f"{STATE}/bin/{sha256(image[1].encode()).hexdigest()[:16]}/etcd"


def put_binary(host: Host, script: str) -> None:
    """Put a shell script where the product keeps the node's own etcd; it finds it there."""
    place = binary_place(host)
    host.run(["mkdir", "-p", "-m", "700", str(Path(place).parent)])
    host.write(place, f"#!/bin/sh\n{script}\n", 0o700)


def slow_scratch(lab: Lab, host: Host, seconds: float) -> None:
    """Make a scratch etcd start so late, as on a slow disk or with a large database."""
    real = f"{Path(binary_place(host)).parent}/real"
    host.run(["mkdir", "-p", "-m", "700", str(Path(real).parent)])
    host.path(real).write_bytes((lab.etcd_dir / "bin/etcd").read_bytes())
    host.path(real).chmod(0o700)
    put_binary(host, f'[ "$1" = --version ] || sleep {seconds:g}\nexec {real} "$@"')


def scratch_pids(host: Host) -> list[int]:
    """Every scratch etcd that runs on a host, by its number in the enclosure."""
    found = []
    for pid in host.etcd_pids():
        with contextlib.suppress(OSError):
            if b"/work/" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def require_no_flag(host: Host) -> None:
    """No --force-new-cluster in any etcd's argv, and in no file of /etc/kubernetes."""
    argvs = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in host.etcd_pids()]
    assert not [argv for argv in argvs if b"force-new-cluster" in argv]
    files = [p for p in host.path("/etc/kubernetes").rglob("*") if p.is_file()]
    assert not [p for p in files if b"force-new-cluster" in p.read_bytes()]


# ---- the cluster ---------------------------------------------------------------------------------


def cluster_id(lab: Lab, host: str) -> int:
    """The cluster ID that a member reports."""
    return int(lab.client(host).status()["header"]["cluster_id"])


def hashes(lab: Lab, host: str) -> list[tuple[str, int, int]]:
    """(endpoint, hash, revision) of every member, all at one revision, by the real etcdctl."""
    revision = int(lab.client(host).status()["header"]["revision"])
    said = lab.etcdctl(
        host, "endpoint", "hashkv", "--cluster", f"--rev={revision}", "--write-out=json"
    )
    answers: list[dict[str, Any]] = json.loads(said)
    return [(a["Endpoint"], a["HashKV"]["hash"], revision) for a in answers]


def require_one_cluster(lab: Lab, names: Sequence[str], keys: dict[str, bytes]) -> None:
    """These hosts are the voters of one cluster that agrees on everything and has all the keys."""
    lab.wait_healthy(names, timeout=20)
    for name in names:
        members = lab.members(name)
        assert sorted(m.name for m in members) == sorted(names)
        assert not any(m.is_learner for m in members)
        have = lab.get_all(name)
        missing = [key for key, value in keys.items() if have.get(key) != value]
        assert not missing, f"{name} lacks {len(missing)} keys: {missing[:5]}"
        require_no_flag(lab.hosts[name])
        assert not scratch_pids(lab.hosts[name])
    assert len({cluster_id(lab, name) for name in names}) == 1
    found = hashes(lab, names[0])
    assert len(found) == len(names)
    assert len({value for _endpoint, value, _revision in found}) == 1, found


def require_tidy_manifests(lab: Lab, names: Iterable[str]) -> None:
    """Every manifest names exactly these members, as members of an existing cluster."""
    wanted = sorted(f"{name}={lab.hosts[name].address}" for name in names)
    for name in names:
        flags = manifest_flags(lab.hosts[name])
        pairs = flags["initial-cluster"].split(",")
        said = sorted(re.sub(r"=https://([\d.]+):2380$", r"=\1", pair) for pair in pairs)
        assert said == wanted, name
        assert flags["initial-cluster-state"] == "existing", name


def seed_keys(lab: Lab, count: int = 120, prefix: str = "/registry/lab/") -> dict[str, bytes]:
    """Write keys, and wait until every member has them."""
    keys = lab.put_keys(count, prefix)
    for name in lab.hosts:
        wait_for_keys(lab, name, keys)
    return keys


def wait_for_keys(lab: Lab, name: str, keys: dict[str, bytes]) -> None:
    """Wait until a member has applied the writes of these keys itself."""

    def has_all() -> bool:
        return keys.items() <= lab.get_all(name, serializable=True).items()

    wait_until(has_all, 10, f"the keys on {name}")


def power_off(lab: Lab, *names: str) -> None:
    """Take the power of several hosts at once, and see that the others have no quorum."""
    threads = [threading.Thread(target=lab.hosts[name].power_cut) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    left = [name for name, host in lab.hosts.items() if host.is_up]
    wait_until(lambda: not any(map(lab.is_healthy, left)), 15, "the loss of the quorum")


# ---- writers -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Accepted:
    """One write that a member confirmed. begun, ended: this machine's monotonic clock."""

    key: str
    value: bytes
    member: str
    begun: float
    ended: float
    cluster: int
    raft_term: int
    revision: int


class Writers:
    """One writer per member, at its own client port and no other, as fast as it is answered."""

    def __init__(self, lab: Lab, pause: float = 0.03) -> None:
        self._lab, self._pause = lab, pause
        self._stop = threading.Event()
        self._found: list[Accepted] = []
        self._guard = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(name,), daemon=True) for name in lab.hosts
        ]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End, and wait for the last writes."""
        self._stop.set()
        for thread in self._threads:
            thread.join(10)

    @property
    def accepted(self) -> list[Accepted]:
        """All confirmed writes so far, in the order of their confirmation."""
        with self._guard:
            return list(self._found)

    def of(self, *members: str) -> list[Accepted]:
        """The writes that these members confirmed."""
        return [write for write in self.accepted if write.member in members]

    def wait_for(self, member: str, timeout: float = 30) -> Accepted:
        """Wait until a member confirms a write that begins from now on; give that write."""
        start = time.monotonic()
        found: list[Accepted] = []

        def is_there() -> bool:
            found[:] = [w for w in self.of(member) if w.begun > start][:1]
            return bool(found)

        wait_until(is_there, timeout, f"a write through {member}")
        return found[0]

    def keys(self) -> dict[str, bytes]:
        """Key -> value of all confirmed writes."""
        return {write.key: write.value for write in self.accepted}

    def _run(self, member: str) -> None:
        # Short: a write that waits in vain must not hold back the next, which may succeed.
        client = self._lab.client(member, timeout=1.0)
        number = 0
        while not self._stop.wait(self._pause):
            number += 1
            key, value = f"/writes/{member}/{number:06d}", f"{member} {number}".encode()
            begun = time.monotonic()
            try:
                header = client.put(key, value)
            except EtcdUnavailable:
                continue
            write = Accepted(
                key, value, member, begun, time.monotonic(), int(header["cluster_id"]),
                int(header["raft_term"]), int(header["revision"]),
            )  # fmt: skip
            with self._guard:
                self._found.append(write)
