"""Backups of masters: everything a file has, one name a day and another, and proof afterwards."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.errors import CommandFailed, Damaged, Refused, UsageError
from agent.host import Completed, Host
from agent.snapshot.master.model import MasterFile, manifest_bytes, parse_manifest
from agent.snapshot.master.pack import pack, recipient_from
from agent.snapshot.master.take import new_name, take_master
from agent.snapshot.master.v2 import NONE, OFF, SAVED, UNKNOWN, _judge
from agent.snapshot.master.verify import unpack_here, verify_backup
from tests.unit.host311 import SETTINGS, master
from tests.unit.rooted import Rooted


class Packaged(Rooted):
    """A host with rpm's answer, and an etcd that does not answer."""

    def which(self, name: str) -> str:
        return f"/usr/bin/{name}" if name == "rpm" else ""

    def run(self, argv: Sequence[str], *args: Any, **words: Any) -> Completed:
        if argv[:2] == ["rpm", "-qa"]:
            return Completed(tuple(argv), 0, "zlib-1.2\nbash-4.2\n", "")
        raise CommandFailed(f"{argv[0]}: no such command")


def host_at(root: Path) -> Host:
    master(
        root,
        {
            "/etc/sysconfig/docker": "OPTIONS=''\n",
            "/etc/origin/master/ca.serial.txt": "0F\n",
            "/etc/dnsmasq.d/origin.conf": "no-resolv\n",
        },
    )
    (root / "etc/origin/master/ca.serial.txt").chmod(0o640)
    (root / "etc/origin/link").symlink_to("/etc/passwd")
    os.mkfifo(root / "etc/sysconfig/pipe")
    (root / "var/lib").mkdir(parents=True, exist_ok=True)
    return Packaged(str(root))


def nobody(_host: Host, _config: Any) -> str:
    raise AssertionError("nothing of API 2 is saved here")


def take(root: Path, host: Host) -> tuple[Any, Path]:
    name = new_name(host, "/backup/master-0")
    found = take_master(host, "/backup/master-0", name, nobody, print)
    return found, root / "backup/master-0" / name


def test_files_are_as_they_were_and_what_is_missing_is_told(tmp_path: Path) -> None:
    found, folder = take(tmp_path, host_at(tmp_path))
    assert (folder / "etc/etcd/etcd.conf").read_text() == SETTINGS
    serial = folder / "etc/origin/master/ca.serial.txt"
    assert (serial.read_text(), serial.stat().st_mode & 0o777) == ("0F\n", 0o640)
    assert os.readlink(folder / "etc/origin/link") == "/etc/passwd"
    assert (folder / "packages.txt").read_text() == "bash-4.2\nzlib-1.2\n"
    assert "/etc/cni" in found.missing
    assert "/etc/origin/master/ca.serial.txt" not in found.missing
    assert found.ca_files == ("/etc/origin/master/ca.serial.txt",)
    assert any("pipe" in problem for problem in found.problems)
    assert any("etcd does not answer" in problem for problem in found.problems)
    assert found.row("/etc/sysconfig/docker") is not None
    sums = (folder / "SHA256SUMS").read_text()
    assert "etc/sysconfig/docker" in sums
    assert parse_manifest((folder / "MANIFEST.json").read_bytes(), "m") == found


def test_a_second_one_of_the_day_lies_beside_the_first(tmp_path: Path) -> None:
    host = host_at(tmp_path)
    _found, first = take(tmp_path, host)
    before = sorted(p.name for p in first.iterdir())
    _found, second = take(tmp_path, host)
    assert second.name == f"{first.name}-2"
    assert sorted(p.name for p in first.iterdir()) == before


@pytest.mark.parametrize(
    "harm",
    [
        lambda f: (f / "etc/etcd/etcd.conf").write_text("x"),
        lambda f: (f / "etc/sysconfig/docker").unlink(),
        lambda f: (f / "etc/more").write_text("x"),
        lambda f: (f / "MANIFEST.json").write_text("{}"),
        lambda f: (f / "MANIFEST.json").write_text("[" * 5000),
    ],
)
def test_what_was_changed_is_found(tmp_path: Path, harm: Any) -> None:
    host = host_at(tmp_path)
    _found, folder = take(tmp_path, host)
    inside = f"/backup/master-0/{folder.name}"
    assert verify_backup(host, inside, print).host == "master-0"
    harm(folder)
    with pytest.raises(Damaged):
        verify_backup(host, inside, print)


def test_an_archive_unpacks_to_the_same(tmp_path: Path) -> None:
    root = tmp_path / "host"
    root.mkdir()
    host = host_at(root)
    found, folder = take(root, host)
    host.makedirs("/var/lib/etcd-rescue/work/master/1")
    out = "/var/lib/etcd-rescue/work/master/1/out"
    path = pack(host, f"/backup/master-0/{folder.name}", found, out)
    archive = Path(host.real(path))
    assert archive.stat().st_mode & 0o777 == 0o600
    unpacked = unpack_here(str(archive), str(tmp_path / "here"))
    assert verify_backup(Host(), unpacked, print) == found


def test_only_a_master_of_this_version_is_backed_up(tmp_path: Path) -> None:
    (tmp_path / "etc/kubernetes/manifests").mkdir(parents=True)
    (tmp_path / "etc/kubernetes/manifests/etcd.yaml").write_text("x")
    with pytest.raises(Refused, match="kubeadm"):
        take_master(Host(str(tmp_path)), "/backup/x", "1", nobody, print)


@pytest.mark.parametrize(
    ("status", "data", "wanted"),
    [
        (200, {"action": "get", "node": {"dir": True, "nodes": [{"key": "/a"}]}}, SAVED),
        (200, {"action": "get", "node": {"dir": True}}, NONE),
        (404, b"404 page not found\n", OFF),
        (404, {"errorCode": 100}, UNKNOWN),
        (500, b"", UNKNOWN),
        (200, b"<html>", UNKNOWN),
    ],
)
def test_what_api_2_says(status: int, data: Any, wanted: str) -> None:
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    assert _judge(status, body)[0] == wanted


@pytest.mark.parametrize(
    "row",
    [
        MasterFile("../x", "file", sha256="0" * 64),
        MasterFile("/etc/x", "file", sha256="0" * 64),
        MasterFile("etc/x", "device"),
        MasterFile("etc/x", "file", sha256="0"),
        MasterFile("etc/x", "file", mode=1 << 20, sha256="0" * 64),
        MasterFile("etc/x", "file", sha256="0" * 64, xattrs={"user.a": "?"}),
        MasterFile("MANIFEST.json", "file", sha256="0" * 64),
    ],
)
def test_a_manifest_of_anybody_is_read_strictly(tmp_path: Path, row: MasterFile) -> None:
    found, _folder = take(tmp_path, host_at(tmp_path))
    from dataclasses import replace

    data = manifest_bytes(replace(found, files=(*found.files, row)))
    with pytest.raises(Damaged):
        parse_manifest(data, "m")


@pytest.mark.parametrize(
    "told",
    [{}, {"tool": "rot13", "key": "x"}, {"tool": "age", "key": ""}, {"tool": "age", "key": "a\nb"},
     {"tool": "gpg", "key": 1}],
)  # fmt: skip
def test_a_recipient_is_checked(told: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        recipient_from(told)
