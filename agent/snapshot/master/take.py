"""Takes the backup of a master on it: every file as it is, packages, etcd's snapshot, v2 keys."""

from __future__ import annotations

import base64
import hashlib
import posixpath
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Optional

from agent import __version__
from agent.archive import name_problem
from agent.errors import CommandFailed, Damaged, Refused, RescueError
from agent.host import STATE_DIR, Host
from agent.host.new_tree import NewTree
from agent.host.syscalls import link_target, read_xattrs
from agent.model.facts import EtcdConfig
from agent.platforms import detect
from agent.platforms.base import Platform
from agent.platforms.openshift311 import CA_HOST_DIRS, CA_HOST_FILES
from agent.snapshot.master import v2
from agent.snapshot.master.model import (
    FORMAT,
    MANIFEST,
    PACKAGES,
    SNAPSHOT,
    SUMS,
    V2,
    MasterBackup,
    MasterFile,
    manifest_bytes,
    sums_bytes,
)
from agent.snapshot.master.sources import MAX_FILES, kind_of, missing, walk
from agent.snapshot.running import RunningMember, find_running, stream_snapshot
from agent.snapshot.verify import Say, SnapshotFacts, verify_snapshot
from agent.survey.watched import find_parked, read_config, read_watched

BACKUPS = "/backup"
WORK = f"{STATE_DIR}/work/master"
_RESERVE = 64 * 1024 * 1024


FindEtcdctl = Callable[[Host, EtcdConfig], str]


@dataclass(frozen=True)
class _Etcd:
    """What is known of etcd here: its configuration, the member if it answers, its etcdctl."""

    config: Optional[EtcdConfig]
    member: Optional[RunningMember]
    etcdctl: FindEtcdctl


@dataclass
class _Taken:
    """What has been taken so far."""

    rows: list[MasterFile]
    problems: list[str]
    snapshot: Optional[SnapshotFacts] = None
    v2: str = v2.UNKNOWN
    packages: str = ""


def new_name(host: Host, folder: str) -> str:
    """DATE, or DATE-2, … where this day has a backup already: nothing is ever overwritten."""
    day = time.strftime("%Y%m%d", time.localtime(host.now()))
    taken = set(host.listdir(folder))
    return next(n for n in (day, *(f"{day}-{i}" for i in range(2, 1000))) if n not in taken)


def take_master(host: Host, folder: str, name: str, etcdctl: FindEtcdctl, say: Say) -> MasterBackup:
    """Take a backup into the new directory `folder`/`name`; it has its name once it is complete.

    Files are copied with owner, mode, attributes and times. A member that answers gives a snapshot,
    which is verified; without one the backup is taken all the same, and says so. etcdctl: finds the
    node's own, for keys of API 2. Raises Refused where this is no master of OpenShift 3.11, or
    where there is no room.
    """
    platform = detect(host)
    if platform.name != "openshift311":
        raise Refused(
            f"{host.hostname()} is a host of {platform.title}",
            "this backup is the list of OpenShift 3.11's documentation",
            "fab snapshot HOST   (etcd's data, certificates and manifests)",
        )
    host.makedirs(folder)
    part = f"{folder}/.{name}.part-{int(host.now())}"
    config = _config(host, platform)
    member = find_running(host, config) if config else None
    _require_room(host, folder, member)
    with NewTree(host, part) as tree:
        taken = _Taken([], [])
        for path in walk(host):
            _add(host, tree, path, taken)
        _packages(host, tree, taken)
        _etcd(host, tree, part, _Etcd(config, member, etcdctl), taken, say)
        found = _described(host, platform, name, taken)
        manifest = manifest_bytes(found)
        for file_name, data in ((MANIFEST, manifest), (SUMS, sums_bytes(found, manifest))):
            with tree.file(file_name) as file:
                file.write(data)
    host.rename_new(part, f"{folder}/{name}")
    return found


def _config(host: Host, platform: Platform) -> Optional[EtcdConfig]:
    """What etcd runs with; None where nothing says it: a master may have no etcd."""
    config = read_watched(host, platform)[0]
    for parked in reversed(find_parked(host) if config is None else ()):
        if parked.original:
            return read_config(host, platform, parked.path)
    return config


def _require_room(host: Host, folder: str, member: Optional[RunningMember]) -> None:
    files = [p for p in walk(host) if kind_of(host, p) == "file"]
    need = sum(host.stat(path).st_size for path in files) + _RESERVE
    need += member.status.db_size * 2 if member else 0
    free, inodes = host.free(folder)
    if free < need or inodes < len(files) + 1000:
        raise Refused(
            f"{host.hostname()}: the backup needs {need >> 20} MiB below {folder}; "
            f"{free >> 20} MiB and {inodes} inodes are free",
            "a full disk would stop etcd",
            f"make room there: du -xh {folder}",
        )


# ---- files ---------------------------------------------------------------------------------------


def _add(host: Host, tree: NewTree, path: str, taken: _Taken) -> None:
    """Copy one file, directory or link, and note it; what cannot be is told of."""
    name, kind = path.lstrip("/"), kind_of(host, path)
    problem = name_problem(name) or ("" if kind else "neither file, directory nor link")
    if len(taken.rows) >= MAX_FILES:
        raise Refused(f"{path}: more than {MAX_FILES} files", "no master has so many", "look at it")
    if problem:
        taken.problems.append(f"{path!r}: {problem}")
        return
    try:
        taken.rows.append(_copy(host, tree, path, name, kind))
    except (OSError, Damaged) as error:  # it went away, or cannot be read
        said = error.strerror if isinstance(error, OSError) else error.seen
        taken.problems.append(f"{path}: {said}")


def _copy(host: Host, tree: NewTree, path: str, name: str, kind: str) -> MasterFile:
    if kind == "link":
        target = link_target(_unresolved(host, path))
        tree.link(name, target)
        return MasterFile(name, kind, 0o777, target=target)
    info = host.stat(path)
    mode = stat.S_IMODE(info.st_mode)
    attributes = read_xattrs(_unresolved(host, path))
    row = MasterFile(
        name, kind, mode, info.st_uid, info.st_gid, info.st_mtime,
        xattrs={key: base64.b64encode(value).decode() for key, value in attributes.items()},
    )  # fmt: skip
    if kind == "directory":
        tree.directory(name, mode | 0o700)
        return row
    with host.open(path) as source:
        size, digest = tree.copy(source, name)
    return replace(row, size=size, sha256=digest)


def _unresolved(host: Host, path: str) -> str:
    folder, name = posixpath.split(path)
    return posixpath.join(host.real(folder), name)


def _write(tree: NewTree, taken: _Taken, name: str, data: bytes, now: float) -> None:
    with tree.file(name) as file:
        file.write(data)
    digest = hashlib.sha256(data).hexdigest()
    taken.rows.append(MasterFile(name, "file", 0o600, mtime=now, size=len(data), sha256=digest))


def _packages(host: Host, tree: NewTree, taken: _Taken) -> None:
    """`rpm -qa | sort`; dpkg's list where rpm is missing."""
    for tool, argv in (
        ("rpm", ["rpm", "-qa"]),
        ("dpkg", ["dpkg-query", "-W", "-f", "${Package}-${Version}.${Architecture}\n"]),
    ):
        if not host.which(argv[0]):
            continue
        try:
            names = sorted(host.run(argv, timeout=120).stdout.split())
        except CommandFailed as error:
            taken.problems.append(f"{PACKAGES}: {error.seen.splitlines()[0]}")
            continue
        _write(tree, taken, PACKAGES, "".join(f"{n}\n" for n in names).encode(), host.now())
        taken.packages = tool
        return
    taken.problems.append(f"{PACKAGES}: neither rpm nor dpkg-query gives a list")


# ---- etcd ----------------------------------------------------------------------------------------


def _etcd(host: Host, tree: NewTree, part: str, etcd: _Etcd, taken: _Taken, say: Say) -> None:
    config, member = etcd.config, etcd.member
    if config is None:
        taken.problems.append("no definition of etcd on this host: no snapshot")
        return
    if member is None:
        why = "etcd does not answer: no snapshot, and keys of API 2 were not looked for"
        taken.problems.append(f"{why} (fab snapshot HOST copies the data of a stopped one)")
        return
    say("streaming etcd's snapshot")
    with tree.file(SNAPSHOT) as file:
        digest = stream_snapshot(member, file, say)
    facts = verify_snapshot(host, f"{part}/{SNAPSHOT}", say=say)
    if facts.sha256 != digest:
        raise Damaged(f"{SNAPSHOT}: other bytes on the disk than were written", "", "dmesg")
    taken.snapshot = replace(facts, path=SNAPSHOT, cluster_id=member.status.cluster_id)
    row = MasterFile(
        SNAPSHOT, "file", 0o600, mtime=host.now(), size=facts.size, sha256=facts.sha256
    )
    taken.rows.append(row)
    _v2(host, tree, config, etcd.etcdctl, taken, say)


def _v2(
    host: Host, tree: NewTree, config: EtcdConfig, etcdctl: FindEtcdctl, taken: _Taken, say: Say
) -> None:
    """Save keys of API 2 where there are any; where that cannot be known or done, say so."""
    taken.v2, seen = v2.has_v2(host, config)
    if taken.v2 == v2.UNKNOWN:
        taken.problems.append(f"keys of API 2: {seen}")
    if taken.v2 != v2.SAVED:
        return
    say(f"saving API 2: {seen}")
    work = f"{WORK}/v2-{int(host.now())}"
    host.makedirs(WORK)
    try:
        failed = v2.save_v2(host, etcdctl(host, config), config.data_dir, work)
        if failed:
            taken.v2 = v2.UNKNOWN
            taken.problems.append(f"{seen} were NOT saved: {failed}")
            return
        for path in _files_below(host, work):
            name = f"{V2}/{path[len(work) + 1 :]}"
            with host.open(path) as source:
                size, digest = tree.copy(source, name)
            taken.rows.append(
                MasterFile(name, "file", 0o600, mtime=host.now(), size=size, sha256=digest)
            )
    except RescueError as error:
        taken.v2 = v2.UNKNOWN
        taken.problems.append(f"{seen} were NOT saved: {error.seen}")
    finally:
        host.discard(work)


def _files_below(host: Host, folder: str) -> list[str]:
    found = []
    for name in host.listdir(folder):
        path = f"{folder}/{name}"
        found += _files_below(host, path) if host.is_dir(path) else [path]
    return found


def _described(host: Host, platform: Platform, name: str, taken: _Taken) -> MasterBackup:
    now = host.now()
    return MasterBackup(
        format=FORMAT,
        name=f"{host.hostname()}-{name}",
        host=host.hostname(),
        machine_id=host.machine_id(),
        time=now,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        tool=f"etcd-rescue {__version__}",
        platform=platform.name,
        files=tuple(sorted(taken.rows, key=lambda row: row.path)),
        missing=missing(host),
        ca_files=tuple(p for p in (*CA_HOST_FILES, *CA_HOST_DIRS) if host.exists(p)),
        v2=taken.v2,
        packages=taken.packages,
        snapshot=taken.snapshot,
        problems=tuple(taken.problems),
    )
