"""Backup sets in OpenShift 4's own layout: written so that its restore takes them, and read.

    DIR/snapshot_TIMESTAMP.db                       etcd's snapshot, with its hash at the end
    DIR/static_kuberesources_TIMESTAMP.tar.gz       static-pod-resources/NAME-pod-REVISION/… of
                                                    the newest revision of four static pods

Source: cluster-etcd-operator bindata/etcd/cluster-backup.sh and cluster-restore.sh. That restore
takes the newest of each kind in a directory; so each set has a directory of its own here, and only
two files of one timestamp are a set. SHA256SUMS beside them is ours, and in nobody's way.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import posixpath
import re
import tarfile
from dataclasses import dataclass, replace
from typing import BinaryIO, cast

from agent.archive import MIB, Archive, Entry, Limits
from agent.errors import Damaged, Refused, UsageError
from agent.host import Host
from agent.host.new_tree import NewTree
from agent.model.facts import EtcdConfig
from agent.platforms.openshift4 import RESOURCES
from agent.snapshot.running import find_running, stream_snapshot
from agent.snapshot.verify import Say, SnapshotFacts, verify_snapshot

PODS = ("kube-apiserver-pod", "kube-controller-manager-pod", "kube-scheduler-pod", "etcd-pod")
SUMS = "SHA256SUMS"
_BASE = posixpath.dirname(RESOURCES)
_NAME = re.compile(r"(snapshot|static_kuberesources)_(.+?)(\.db|\.tar\.gz)")
_STAMP = re.compile(r"\d{4}-\d\d-\d\d_\d{6}")
_ROOM = 64 * 1024 * 1024
_TOP = "static-pod-resources"
_LIMITS = Limits(total=256 * MIB, entry=32 * MIB)
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class OpenShiftSet:
    """A verified set. directory: where it lies; snapshot, resources: its two files there.

    revisions: names of the directories in the archive ("etcd-pod-7"). sha256: of the archive.
    """

    directory: str
    stamp: str
    snapshot: str
    resources: str
    sha256: str
    revisions: tuple[str, ...]
    facts: SnapshotFacts


# ---- writing -------------------------------------------------------------------------------------


def take(host: Host, config: EtcdConfig, folder: str, stamp: str, say: Say) -> OpenShiftSet:
    """Write a set to FOLDER/STAMP and verify it; nothing has that name before it is whole.

    Raises Refused where etcd does not answer or has no quorum, where a static pod has no resources,
    or where there is no room; Damaged, EtcdError.
    """
    if not _STAMP.fullmatch(stamp):
        raise UsageError(f"{stamp!r} is no timestamp like 2026-01-31_235959")
    target = posixpath.join(folder, stamp)
    if host.exists(target):
        raise Refused(f"{target} is there already", "a backup is never written over another")
    member = find_running(host, config)
    if member is None or not member.quorum:
        seen = "does not answer" if member is None else "has no quorum"
        raise Refused(
            f"{host.hostname()}: etcd {seen}",
            "a backup set is what the whole cluster agreed on",
            "fab diagnose   (a copy of one member's data: fab snapshot)",
        )
    sources = [newest_revision(host, name) for name in PODS]
    host.makedirs(folder)
    _require_room(host, folder, member.status.db_size)
    part = f"{folder}/.{stamp}.part"
    _drop_old_part(host, part)
    with NewTree(host, part) as tree:
        names = _names(stamp)
        with tree.file(names[0]) as file:
            snapshot_sum = stream_snapshot(member, file, say)
        with tree.file(names[1]) as file:
            archive_sum = _write_archive(host, sources, file)
        with tree.file(SUMS) as file:
            file.write(f"{snapshot_sum}  {names[0]}\n{archive_sum}  {names[1]}\n".encode())
    found = read(host, part, say)
    host.rename_new(part, target)
    return replace(
        found, directory=target, snapshot=f"{target}/{names[0]}", resources=f"{target}/{names[1]}",
        facts=replace(found.facts, path=f"{target}/{names[0]}"),
    )  # fmt: skip


def _names(stamp: str) -> tuple[str, str]:
    return f"snapshot_{stamp}.db", f"static_kuberesources_{stamp}.tar.gz"


def _drop_old_part(host: Host, part: str) -> None:
    """Set aside what a run that was killed left under this name."""
    if host.exists(part):
        host.rename_new(part, f"{part}-torn-{host.now():.3f}")


def newest_revision(host: Host, pod: str) -> str:
    """The directory of a static pod's resources that was written last. Raises Refused for none."""
    found = []
    for name in host.listdir(RESOURCES):
        revision = name[len(pod) + 1 :]
        if name.startswith(f"{pod}-") and revision.isdigit():
            written = host.stat(f"{RESOURCES}/{name}").st_mtime
            found.append((written, int(revision), name))
    if not found:
        raise Refused(
            f"{host.hostname()}: no {RESOURCES}/{pod}-N",
            "OpenShift's restore wants the resources of all four static pods",
            f"ls {RESOURCES}",
        )
    return max(found)[2]


def _require_room(host: Host, folder: str, db_size: int) -> None:
    free, _inodes = host.free(folder)
    if free < db_size + _ROOM:
        raise Refused(
            f"{host.hostname()}: a set needs {(db_size + _ROOM) >> 20} MiB below {folder}; "
            f"{free >> 20} MiB are free",
            "a full disk would stop etcd",
            f"make room there: du -xh {folder}",
        )


class _Hashing:
    """A file that is hashed while it is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.sha256 = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        """Write and hash."""
        self.sha256.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        """Give on what was written."""
        self._file.flush()


def _write_archive(host: Host, names: list[str], file: BinaryIO) -> str:
    """Write the archive of these directories; its sha256. Paths as OpenShift's backup has them."""
    out = _Hashing(file)
    with gzip.GzipFile(filename="", mode="wb", fileobj=cast("BinaryIO", out), mtime=0) as packed:
        tar = tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT)  # noqa: SIM115
        for name in names:
            _add(host, tar, f"{RESOURCES}/{name}")
        tar.close()
    return out.sha256.hexdigest()


def _add(host: Host, tar: tarfile.TarFile, path: str) -> None:
    """Add a directory with all below it, owners and modes kept. Raises Refused for a link."""
    if host.is_link(path):
        raise Refused(
            f"{path} is a link",
            "the installer writes directories and files; whose file that would be is not known",
            f"look at it: ls -l {path}",
        )
    info, found = tarfile.TarInfo(posixpath.relpath(path, _BASE)), host.stat(path)
    info.mode, info.mtime = found.st_mode & 0o7777, int(found.st_mtime)
    info.uid, info.gid = found.st_uid, found.st_gid
    if host.is_dir(path):
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
        for name in sorted(host.listdir(path)):
            _add(host, tar, f"{path}/{name}")
        return
    with host.open(path) as source:
        data = source.read()
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def files_of(host: Host, found: OpenShiftSet) -> list[tuple[str, int, str]]:
    """(path, size, sha256) of every file of a set, the sums among them."""
    sums = f"{found.directory}/{SUMS}"
    rows = [(found.snapshot, found.facts.sha256), (found.resources, found.sha256)]
    rows += [(sums, hash_of(host, sums))] if host.exists(sums) else []
    return [(path, host.stat(path).st_size, digest) for path, digest in rows]


# ---- reading -------------------------------------------------------------------------------------


def is_set(host: Host, directory: str) -> bool:
    """Whether a directory holds a snapshot under OpenShift's name, as its backup leaves it."""
    return host.is_dir(directory) and any(
        match[1] == "snapshot" for match in _listed(host, directory).values()
    )


def _listed(host: Host, directory: str) -> dict[str, re.Match[str]]:
    """File name → its parts, of those that are named like the files of a set."""
    known = {"snapshot": ".db", "static_kuberesources": ".tar.gz"}
    found = {name: _NAME.fullmatch(name) for name in host.listdir(directory)}
    return {name: m for name, m in found.items() if m and known[m[1]] == m[3]}


def read(host: Host, directory: str, say: Say = lambda text: None) -> OpenShiftSet:
    """Verify a set in OpenShift's layout, whoever wrote it.

    Raises Refused where the directory holds no pair, several, or files of different timestamps
    (they are never mixed); SnapshotDamaged, Damaged where one of the two is not whole.
    """
    directory = directory.rstrip("/") or "/"
    stamp = _one_stamp(host, directory)
    names = _names(stamp)
    snapshot, resources = (f"{directory}/{name}" for name in names)
    sums = _read_sums(host, directory)
    facts = verify_snapshot(host, snapshot, say=say)
    digest = hash_of(host, resources)
    for name, seen in zip(names, (facts.sha256, digest)):
        if sums.get(name, seen) != seen:
            raise Damaged(
                f"{directory}/{name}: sha256 {seen}, {SUMS} says {sums[name]}",
                "it is not the file that was written with the other one",
            )
    paths = (name.split("/") for name in read_resources(host, resources))
    found = tuple(sorted({parts[1] for parts in paths if len(parts) > 1}))
    missing = [pod for pod in PODS if not any(_is_of(name, pod) for name in found)]
    if missing:
        raise Damaged(
            f"{resources}: no {missing[0]}-N in it",
            "OpenShift's backup holds the resources of all four static pods",
        )
    return OpenShiftSet(directory, stamp, snapshot, resources, digest, found, facts)


def _is_of(name: str, pod: str) -> bool:
    return name.startswith(f"{pod}-") and name[len(pod) + 1 :].isdigit()


def _one_stamp(host: Host, directory: str) -> str:
    """The timestamp of the one set in a directory. Raises Refused."""
    stamps: dict[str, set[str]] = {"snapshot": set(), "static_kuberesources": set()}
    for match in _listed(host, directory).values():
        stamps[match[1]].add(match[2])
    both = stamps["snapshot"] & stamps["static_kuberesources"]
    if len(both) == 1 and stamps["snapshot"] == stamps["static_kuberesources"]:
        return next(iter(both))
    told = "; ".join(
        f"{name} of {', '.join(sorted(found)) or 'no time'}" for name, found in stamps.items()
    )
    if len(both) > 1 and stamps["snapshot"] == stamps["static_kuberesources"]:
        raise Refused(
            f"{directory}: {len(both)} backup sets ({', '.join(sorted(both))})",
            "which of them is meant is not clear, and sets are never mixed",
            f"move the two files of one of them into a directory of their own: {sorted(both)[-1]}",
        )
    raise Refused(
        f"{directory}: {told}",
        "a snapshot and the static pod resources are of one backup, or they do not fit each other: "
        "certificates and the key of encryption at rest would be of another time",
        "give a directory that holds just the two files of one timestamp",
    )


def _read_sums(host: Host, directory: str) -> dict[str, str]:
    if not host.exists(f"{directory}/{SUMS}"):
        return {}
    rows = (
        line.split("  ", 1) for line in host.read_text(f"{directory}/{SUMS}", 65536).splitlines()
    )
    return {row[1]: row[0] for row in rows if len(row) == 2}


def resources_beside(host: Host, path: str) -> tuple[str, str]:
    """(archive, its sha256) of a set in OpenShift's layout that was verified; empty for none."""
    if not path or not is_set(host, path):
        return "", ""
    directory = path.rstrip("/") or "/"
    archive = f"{directory}/{_names(_one_stamp(host, directory))[1]}"
    return archive, hash_of(host, archive)


def hash_of(host: Host, path: str) -> str:
    """sha256 of a file, as hex."""
    digest = hashlib.sha256()
    with host.open(path) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def read_resources(host: Host, archive: str) -> dict[str, tuple[Entry, bytes]]:
    """Path → (entry, content) of an archive that anybody may have made; directories are empty.

    Raises Refused for links, devices and other paths, Damaged for what is no whole tar.gz.
    """
    found: dict[str, tuple[Entry, bytes]] = {}
    with host.open(archive) as file:
        tar = Archive(file, archive, _LIMITS)
        for entry in tar.entries():
            if entry.name != _TOP and not entry.name.startswith(f"{_TOP}/"):
                raise Refused(
                    f"{archive}: {entry.name!r} is not below {_TOP}/",
                    "no backup of OpenShift's holds that",
                )
            found[entry.name] = entry, b"".join(tar.chunks())
    return found
