"""Takes a backup set on a host: from a running member, or of a stopped data directory."""

from __future__ import annotations

import fcntl
import hashlib
import posixpath
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Optional

from agent import __version__
from agent.errors import Damaged, Refused
from agent.host import STATE_DIR, Host
from agent.host.new_tree import NewTree
from agent.model.facts import EtcdConfig
from agent.platforms import detect
from agent.platforms.base import Platform
from agent.records.locks import only_agent
from agent.snapshot.backup_set import (
    COPIED_DB,
    FORMAT,
    MANIFEST,
    SNAPSHOT,
    SUMS,
    BackupSet,
    SetFile,
    manifest_bytes,
    sums_bytes,
)
from agent.snapshot.belongings import find_belongings, owner_names, set_path
from agent.snapshot.running import RunningMember, find_running, stream_snapshot
from agent.snapshot.staging import STAGING, discard_stale
from agent.snapshot.verify import Say, SnapshotDamaged, SnapshotFacts, verify_snapshot
from agent.survey.offline import read_offline
from agent.survey.online import local_endpoints
from agent.survey.processes import etcd_processes
from agent.survey.watched import definition_here

_RESERVE = 64 * 1024 * 1024
_CHUNK = 1024 * 1024


def take_set(host: Host, say: Say, folder: str = STAGING, may_copy: bool = True) -> BackupSet:
    """Take a backup set into a new directory below `folder`; its name is that of the set.

    A member that answers, with or without a quorum, streams its snapshot. Where etcd is stopped,
    its database and log are copied as they are, with the database locked: an etcd that is started
    meanwhile waits for the lock. Nothing has its final name before it is complete, verified and on
    the disk; what fails leaves nothing behind. Unless `may_copy`, a stopped one is refused.

    Raises Refused where neither is possible, or where there is no room; SnapshotDamaged where what
    a member streamed is not what it hashed; EtcdError where the stream broke.
    """
    platform = detect(host)
    config = definition_here(host, platform)
    member = find_running(host, config)
    name = _set_name(host)
    host.makedirs(folder)
    discard_stale(host, say)
    part = f"{folder}/.{name}.part"
    if member is not None:
        found = _of_member(host, platform, config, member, name, part, say)
    elif not may_copy:
        raise Refused(f"{host.hostname()}: etcd does not answer", "no copy of its data was wanted")
    else:
        found = _of_directory(host, platform, config, name, part, say)
    host.rename_new(part, f"{folder}/{name}")
    return found


def _set_name(host: Host) -> str:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(host.now()))
    return f"{host.hostname()}-{stamp}-{secrets.token_hex(2)}"


# ---- where from ----------------------------------------------------------------------------------


def _require_space(host: Host, need: int) -> None:
    free, inodes = host.free(STAGING)
    if free < need + _RESERVE or inodes < 1000:
        raise Refused(
            f"{host.hostname()}: a backup set needs {(need + _RESERVE) >> 20} MiB below "
            f"{STATE_DIR}; {free >> 20} MiB and {inodes} inodes are free",
            "a full disk would stop etcd",
            f"make room there: du -xh {STATE_DIR}",
        )


# ---- from a running member -----------------------------------------------------------------------


def _of_member(
    host: Host,
    platform: Platform,
    config: EtcdConfig,
    member: RunningMember,
    name: str,
    part: str,
    say: Say,
) -> BackupSet:
    _require_space(host, member.status.db_size)
    if not member.quorum:
        say("this member has no quorum: its own data is taken; others may hold more")
    with NewTree(host, part) as tree:
        with tree.file(SNAPSHOT) as file:
            digest = stream_snapshot(member, file, say)
        facts = verify_snapshot(host, f"{part}/{SNAPSHOT}", say=say)
        _require_as_streamed(facts, digest)
        facts = replace(facts, path=SNAPSHOT, cluster_id=member.status.cluster_id)
        rows = [SetFile(SNAPSHOT, facts.size, facts.sha256, "snapshot")]
        problems = _add_belongings(host, platform, config, tree, rows)
        found = BackupSet(
            **_identity(host, platform, config, name),
            kind="snapshot",
            cluster_id=member.status.cluster_id,
            member_id=member.status.member_id,
            etcd_version=member.status.version,
            quorum=member.quorum,
            files=tuple(rows),
            snapshot=facts,
            problems=tuple(problems),
        )
        _write_manifest(tree, found)
    return found


def _require_as_streamed(facts: SnapshotFacts, digest: str) -> None:
    """The file on the disk is what came over the line, and it carries etcd's own hash."""
    if facts.sha256 != digest:
        raise Damaged(
            f"{facts.path}: sha256 {facts.sha256} on the disk, {digest} when it was written",
            "this host's disk or memory gives back other bytes than it was given",
            "check the disk: dmesg; smartctl -a DEVICE",
        )


# ---- of a stopped data directory -----------------------------------------------------------------


def _of_directory(
    host: Host, platform: Platform, config: EtcdConfig, name: str, part: str, say: Say
) -> BackupSet:
    database = f"{config.data_dir}/{COPIED_DB}"
    if not host.exists(database):
        raise Refused(
            f"{host.hostname()}: etcd does not answer, and there is no {database}",
            "there is nothing to take a snapshot of",
            "fab survey",
        )
    # No step of a plan may move the data while it is copied: half of each would be no copy.
    with only_agent(host), _locked(host, config, database), NewTree(host, part) as tree:
        sources = dict(_data_files(host, config))
        _require_space(host, sum(host.stat(path).st_size for path in sources))
        say("etcd is stopped: copying its database and log")
        rows = [_copy(host, tree, path, to, "data") for path, to in sources.items()]
        facts, problems = _look_at_copy(host, part, say)
        problems += _add_belongings(host, platform, config, tree, rows)
        wal = read_offline(host, part).wal
        found = BackupSet(
            **_identity(host, platform, config, name),
            kind="copy",
            cluster_id=wal.cluster_id if wal else "",
            member_id=wal.member_id if wal else "",
            etcd_version=facts.etcd_version if facts else "",
            quorum=False,
            files=tuple(rows),
            snapshot=replace(facts, cluster_id=wal.cluster_id if wal else "") if facts else None,
            problems=tuple(problems),
        )
        _write_manifest(tree, found)
    return found


def _data_files(host: Host, config: EtcdConfig) -> Iterator[tuple[str, str]]:
    """(path, path in the set) of the database, raft snapshots and log segments."""
    places = (
        (f"{config.data_dir}/member/snap", "member/snap", ("db", ".snap", ".snap.db")),
        (config.wal_dir or f"{config.data_dir}/member/wal", "member/wal", (".wal",)),
    )
    for directory, target, endings in places:
        for name in host.listdir(directory):
            if name.endswith(endings):
                yield posixpath.join(directory, name), f"{target}/{name}"


@contextmanager
def _locked(host: Host, config: EtcdConfig, database: str) -> Iterator[None]:
    """Hold bbolt's own lock (flock(2), shared) on the database while it is copied.

    Raises Refused where a running etcd holds it.
    """
    with host.open(database) as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            pids = ", ".join(str(p.pid) for p in etcd_processes(host)) or "unknown"
            endpoints = ", ".join(local_endpoints(config))
            raise Refused(
                f"{host.hostname()}: etcd runs (process {pids}) and does not answer at "
                f"{endpoints}; it holds {database}",
                "a copy of files that are being written to is no snapshot",
                "fab diagnose; once etcd is stopped its data can be copied: fab snapshot",
            ) from None
        yield


def _look_at_copy(host: Host, part: str, say: Say) -> tuple[Optional[SnapshotFacts], list[str]]:
    """What the copy holds; damage is named, and the copy kept: it may be all that there is."""
    problems = [f"{d.file}: offset {d.offset}: {d.reason}" for d in read_offline(host, part).damage]
    problems = [problem.replace(f"{part}/", "") for problem in problems]
    try:
        facts = verify_snapshot(host, f"{part}/{COPIED_DB}", no_hash_ok=True, say=say)
    except SnapshotDamaged as error:
        return None, [error.seen.replace(f"{part}/", ""), *problems]
    return replace(facts, path=COPIED_DB), problems


# ---- what both have ------------------------------------------------------------------------------


def _identity(host: Host, platform: Platform, config: EtcdConfig, name: str) -> dict[str, Any]:
    now = host.now()
    return {
        "format": FORMAT,
        "name": name,
        "host": host.hostname(),
        "machine_id": host.machine_id(),
        "member": config.name,
        "time": now,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        "tool": f"etcd-rescue {__version__}",
        "platform": platform.name,
    }


def _add_belongings(
    host: Host, platform: Platform, config: EtcdConfig, tree: NewTree, rows: list[SetFile]
) -> list[str]:
    found = find_belongings(host, platform, config)
    problems = list(found.problems)
    for path, what in found.files.items():
        try:
            rows.append(_copy(host, tree, path, set_path(path), what))
        except OSError as error:
            problems.append(f"{path}: {error.strerror}")
    return problems


def _copy(host: Host, tree: NewTree, path: str, to: str, what: str) -> SetFile:
    """Copy one file into the set, hashed while it is read; zeros become holes."""
    digest, size, info = hashlib.sha256(), 0, host.stat(path)
    with host.open(path) as source, tree.file(to) as target:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            if chunk.count(0) == len(chunk):
                target.seek(size)
            else:
                target.write(chunk)
        target.truncate(size)
    owner, group = owner_names(info.st_uid, info.st_gid)
    return SetFile(
        to, size, digest.hexdigest(), what, path,
        info.st_mode & 0o7777, info.st_uid, info.st_gid, owner, group,
    )  # fmt: skip


def _write_manifest(tree: NewTree, found: BackupSet) -> None:
    manifest = manifest_bytes(found)
    for name, data in ((MANIFEST, manifest), (SUMS, sums_bytes(found, manifest))):
        with tree.file(name) as file:
            file.write(data)
