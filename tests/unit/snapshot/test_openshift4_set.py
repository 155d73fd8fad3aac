"""Backup sets in OpenShift's layout: pairs of one time, archives of four pods, nothing mixed."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from agent.errors import Damaged, Refused
from agent.host import Host
from agent.snapshot import openshift4_set
from agent.snapshot.backup_set import verify_path
from agent.snapshot.openshift4_set import PODS, newest_revision, read, resources_beside
from tests.unit.survey.make_bbolt import DbMaker, etcd_tree

STAMP = "2026-01-31_235959"


def write_snapshot(path: Path) -> None:
    """A snapshot as etcd gives it: a database, and its sha256 behind it."""
    database = DbMaker().file(etcd_tree())
    path.write_bytes(database + hashlib.sha256(database).digest())


def archive(*names: str, extra: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    """A tar.gz with one file in each of these directories below static-pod-resources."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(f"static-pod-resources/{name}/{name.rsplit('-', 1)[0]}.yaml")
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
        for info in extra:
            tar.addfile(info)
    return buffer.getvalue()


FOUR = tuple(f"{pod}-7" for pod in PODS)


def make(root: Path, stamp: str = STAMP, other: str = "", data: bytes = b"") -> Host:
    folder = root / "backup"
    folder.mkdir(parents=True, exist_ok=True)
    write_snapshot(folder / f"snapshot_{stamp}.db")
    resources = folder / f"static_kuberesources_{other or stamp}.tar.gz"
    resources.write_bytes(data or archive(*FOUR))
    return Host(str(root))


def test_a_pair_of_openshifts_own_backup_is_a_set(tmp_path: Path) -> None:
    host = make(tmp_path)
    found = read(host, "/backup/")
    assert (found.stamp, found.revisions) == (STAMP, tuple(sorted(FOUR)))
    assert found.snapshot == f"/backup/snapshot_{STAMP}.db"
    facts, ours = verify_path(host, "/backup")
    assert (facts.path, ours) == (found.snapshot, None)
    assert resources_beside(host, "/backup") == (found.resources, found.sha256)
    assert resources_beside(host, found.snapshot) == ("", "")  # a file alone is no set


@pytest.mark.parametrize(
    ("stamps", "others", "said"),
    [
        ((STAMP,), ("2026-02-01_000000",), "snapshot of 2026-01-31_235959; static_kube"),
        ((STAMP,), (), "static_kuberesources of no time"),
        ((STAMP, "2026-02-01_000000"), (STAMP, "2026-02-01_000000"), "2 backup sets"),
        ((STAMP, "2026-02-01_000000"), (STAMP,), "snapshot of 2026-01-31_235959, 2026-02-01"),
    ],
)
def test_files_of_two_sets_are_never_mixed(
    tmp_path: Path, stamps: tuple[str, ...], others: tuple[str, ...], said: str
) -> None:
    folder = tmp_path / "backup"
    folder.mkdir()
    for stamp in stamps:
        write_snapshot(folder / f"snapshot_{stamp}.db")
    for stamp in others:
        (folder / f"static_kuberesources_{stamp}.tar.gz").write_bytes(archive(*FOUR))
    with pytest.raises(Refused) as error:
        verify_path(Host(str(tmp_path)), "/backup")
    assert said in error.value.seen
    assert error.value.next


def test_a_file_that_was_exchanged_is_found_by_the_sums(tmp_path: Path) -> None:
    host = make(tmp_path)
    found = read(host, "/backup")
    name = Path(found.resources).name
    sums = tmp_path / "backup/SHA256SUMS"
    sums.write_text(f"{found.sha256}  {name}\n")
    assert read(host, "/backup").stamp == STAMP
    (tmp_path / "backup" / name).write_bytes(archive(*(f"{pod}-8" for pod in PODS)))
    with pytest.raises(Damaged, match="SHA256SUMS says"):
        read(host, "/backup")


def link(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/shadow"
    return info


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (archive(*FOUR[:3]), "no etcd-pod-N in it"),
        (archive(*FOUR, extra=(link("static-pod-resources/etcd-pod-7/x"),)), "symbolic link"),
        (archive(*FOUR, extra=(tarfile.TarInfo("etc/passwd"),)), "not below static-pod-resources"),
        (archive(*FOUR, extra=(tarfile.TarInfo("static-pod-resources/../x"),)), "`..`"),
        (archive(*FOUR)[:-20], ""),
        (b"not a tar", ""),
    ],
)
def test_an_archive_that_is_none_of_openshifts_is_not_taken(
    tmp_path: Path, data: bytes, said: str
) -> None:
    host = make(tmp_path, data=data)
    with pytest.raises((Damaged, Refused)) as error:
        read(host, "/backup")
    assert said in error.value.seen


def test_a_damaged_snapshot_is_named_with_its_offset(tmp_path: Path) -> None:
    host = make(tmp_path)
    path = tmp_path / "backup" / f"snapshot_{STAMP}.db"
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(Damaged):
        read(host, "/backup")


def resources(root: Path) -> Host:
    base = root / "etc/kubernetes/static-pod-resources"
    for number, name in enumerate([*FOUR, "etcd-pod-6", "etcd-pod-x", "etcd-certs"]):
        folder = base / name / "configmaps/c"
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_text(name)
        (folder.parent.parent / "pod.yaml").write_text(name)
        (folder.parent.parent / "pod.yaml").chmod(0o600)
        os.utime(base / name, (1000 + number, 1000 + number))
    return Host(str(root))


def test_the_revision_that_was_written_last_is_taken(tmp_path: Path) -> None:
    host = resources(tmp_path)
    assert newest_revision(host, "etcd-pod") == "etcd-pod-6"  # written after 7, as `ls -tr` has it
    assert newest_revision(host, "kube-scheduler-pod") == "kube-scheduler-pod-7"
    with pytest.raises(Refused, match="no /etc/kubernetes/static-pod-resources/nothing-N"):
        newest_revision(host, "nothing")


def test_the_archive_is_as_openshifts_scripts_read_it(tmp_path: Path) -> None:
    """`tar -xzf FILE static-pod-resources`, and older: the one match of `*etcd-pod.yaml`."""
    host = resources(tmp_path / "host")
    target = tmp_path / "a.tar.gz"
    with target.open("wb") as file:
        openshift4_set._write_archive(host, list(FOUR), file)
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "-C", out, "-xzf", target, "static-pod-resources"], check=True)
    source = tmp_path / "host/etc/kubernetes/static-pod-resources"
    for name in FOUR:
        there = out / "static-pod-resources" / name
        assert (there / "pod.yaml").read_text() == name
        assert (there / "pod.yaml").stat().st_mode & 0o777 == 0o600
        assert (there / "configmaps/c/ca.crt").read_bytes() == (
            source / name / "configmaps/c/ca.crt"
        ).read_bytes()
    listed = subprocess.run(
        ["tar", "-tzf", target], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert listed[0] == f"static-pod-resources/{FOUR[0]}/"
    assert all(line.startswith("static-pod-resources/") for line in listed)
