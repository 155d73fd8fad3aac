"""A snapshot, and the cluster restored from it in both ways: one host alone, and all at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab import control_plane, units
from tests.lab.commands import CommandFailed
from tests.lab.evidence import (
    DATA,
    STATE,
    cluster_id,
    quarantined,
    require_one_cluster,
    seed_keys,
)
from tests.lab.faults import ids
from tests.lab.host import Host, wait_until
from tests.lab.lab import Lab
from tests.lab.operator import OK, Ended, fab

LEAST_RAISE = 10**9
_OLD_TOOLS = ("3.4", "3.5.1")
"""Versions of the lab whose tool has no --bump-revision."""


@dataclass(frozen=True)
class Taken:
    """A backup set. keys: all in it but API servers' leases; stale: those of dead ones."""

    path: str
    keys: dict[str, bytes]
    stale: set[str]


@dataclass(frozen=True)
class Before:
    """What there was before a restore. starts: host → component → its run; aside: quarantined."""

    revision: int
    cluster: int
    ids: set[int]
    starts: dict[str, dict[str, str]]
    aside: dict[str, int]


def take(lab: Lab, folder: Path) -> Taken:
    """Take a backup set, verify it here, and rehearse it with the binaries of a host."""
    control_plane.run_everywhere(lab)
    keys = _without_leases(lab)
    stale = lab.put_keys(2, _leases(lab))
    told = fab("snapshot", "master-0", "--to", str(folder)).expect(OK).result
    facts = told["set"]["snapshot"]
    live = facts["keys"] - len(keys | stale)  # API servers that there are have a lease each
    assert 0 <= live <= (len(lab.hosts) if lab.options.layout == "openshift311" else 0)
    verified = fab("verify-snapshot", told["path"], hosts="").expect(OK).result
    assert all(verified["snapshot"][name] == facts[name] for name in ("sha256", "keys", "revision"))
    tried = fab("rehearse", told["path"], "--on", "master-1").expect(OK).result
    assert (tried["keys"], tried["revision"]) == (facts["keys"], facts["revision"])
    number = (lab.etcd_dir / "number").read_text().strip()
    assert number in tried["etcd"], tried
    assert number in tried["tool"], tried
    assert not list(lab.hosts["master-1"].path(f"{STATE}/work").rglob("*.db"))
    return Taken(told["path"], keys, set(stale))


def alone(lab: Lab, taken: Taken) -> None:
    """Every member is broken: one host is restored, the others join it."""
    later = _write_later(lab, "alone")
    before = _look(lab)
    for host in lab.hosts.values():
        if _is_made_by_root(lab, host):
            host.run(["rm", "-r", DATA])
            host.stop_etcd_kill9()
        else:
            host.crash_etcd()
    wait_until(lambda: not any(map(lab.is_healthy, lab.hosts)), 20, "the end of the cluster")
    ended = fab("restore", taken.path, "--on", "master-0", "--yes").expect(OK)
    _require_restored(lab, taken, before, ended)
    for host in lab.hosts.values():
        _require_kept(host, before, 0 if _is_made_by_root(lab, host) else 1, later)


def together(lab: Lab, taken: Taken) -> None:
    """What the cluster serves is given up: every host is restored at once."""
    later = _write_later(lab, "together")
    before = _look(lab)
    words = ("--all-nodes", "--discard-current", "--yes")
    ended = fab("restore", taken.path, *words).expect(OK)
    _require_restored(lab, taken, before, ended)
    for host in lab.hosts.values():
        _require_kept(host, before, 1, later)


def _leases(lab: Lab) -> str:
    """What the keys of API servers' leases begin with."""
    registry = "/kubernetes.io" if lab.options.layout == "openshift311" else "/registry"
    return f"{registry}/masterleases/"


def _without_leases(lab: Lab) -> dict[str, bytes]:
    """All keys, but those that API servers which live write again and again."""
    return {key: v for key, v in lab.get_all().items() if not key.startswith(_leases(lab))}


def _is_made_by_root(lab: Lab, host: Host) -> bool:
    """Whether a host's etcd could not make its data directory anew by itself."""
    return lab.options.layout == "systemd" and units.owner_of(lab.options.conf, host.index) != 0


def _write_later(lab: Lab, name: str) -> bytes:
    """Write what the snapshot lacks, and see it in every member's file; gives its last key."""
    keys = seed_keys(lab, 50, f"/registry/later/{name}/")
    last = max(keys).encode()
    files = [host.path(f"{DATA}/member/snap/db") for host in lab.hosts.values()]
    wait_until(lambda: all(last in file.read_bytes() for file in files), 10, "etcd's commit")
    return last


def _look(lab: Lab) -> Before:
    starts = {name: control_plane.starts(lab, host) for name, host in lab.hosts.items()}
    aside = {name: len(quarantined(host)) for name, host in lab.hosts.items()}
    members = set(ids(lab, "master-0").values())
    return Before(_revision(lab), cluster_id(lab, "master-0"), members, starts, aside)


def _revision(lab: Lab, name: str = "master-0") -> int:
    return int(lab.client(name).status()["header"]["revision"])


def _require_restored(lab: Lab, taken: Taken, before: Before, ended: Ended) -> None:
    """One new cluster of all hosts, with the snapshot's keys alone, that misleads nobody."""
    require_one_cluster(lab, list(lab.hosts), taken.keys)
    assert _without_leases(lab) == taken.keys
    assert not taken.stale & lab.get_all().keys()
    assert cluster_id(lab, "master-0") != before.cluster
    assert not set(ids(lab, "master-0").values()) & before.ids
    is_raised = lab.options.etcd not in _OLD_TOOLS
    told = "marked compacted" if is_raised else "restart the kubelets of all workers yourself"
    assert told in ended.err
    for name, host in lab.hosts.items():
        was, now = before.starts[name], control_plane.starts(lab, host)
        assert all(now.values()), (name, now)
        kept = {part for part in now if now[part] == was[part]}
        wanted = set(now) - {"kubelet"} if is_raised else set()
        assert kept - {"kubelet"} == wanted, (name, was, now)
        assert is_raised or "kubelet" not in kept, name
    if is_raised:
        assert _revision(lab) >= before.revision + LEAST_RAISE
        for name in lab.hosts:
            with pytest.raises(CommandFailed, match="compacted"):
                lab.etcdctl(name, "get", "/", f"--rev={before.revision}")


def _require_kept(host: Host, before: Before, more: int, key: bytes) -> None:
    """So many directories more are in quarantine; the newest has what was written last."""
    found = quarantined(host)
    assert len(found) == before.aside[host.name] + more, (host.name, found)
    if more:
        assert key in host.read(f"{found[-1]}/snap/db"), host.name
