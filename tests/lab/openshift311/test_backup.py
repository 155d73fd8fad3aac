"""Backups of masters: whole, with all that a file has, once a day and again; files put back."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.evidence import seed_keys
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.openshift311 import layout
from tests.lab.openshift311.age import ensure_age
from tests.lab.openshift311.test_etcd import LAYOUT
from tests.lab.operator import OK, fab

MakeLab = Callable[..., Lab]
MASTER_CONFIG = f"{layout.MASTER}/master-config.yaml"


def only_backup(host: Host, name: str = "") -> Path:
    (found,) = [
        p for p in host.path(f"/backup/{host.name}").iterdir() if p.name.endswith(name or p.name)
    ]
    return found


def attributes(path: Path) -> tuple[int, int, int, dict[str, bytes]]:
    info = path.stat()
    names = os.listxattr(path)
    return info.st_mode, info.st_uid, info.st_gid, {n: os.getxattr(path, n) for n in names}


def put_v2(lab: Lab, host: Host) -> None:
    """Write a key through etcd's API 2."""
    pki = lab.hosts["master-0"].disk.pki / "etcd"
    lab.etcd_dir.joinpath("bin/etcdctl")
    words = [f"--endpoints=https://{host.address}:2379", f"--ca-file={pki}/ca.crt",
             f"--cert-file={pki}/healthcheck-client.crt",
             f"--key-file={pki}/healthcheck-client.key"]  # fmt: skip
    subprocess.run(
        [lab.etcd_dir / "bin/etcdctl", *words, "set", "/old/key", "from version 2"],
        env={"ETCDCTL_API": "2", "PATH": "/usr/bin:/bin"}, check=True, capture_output=True,
    )  # fmt: skip


def test_masters_are_backed_up_and_files_come_back(
    make_lab: MakeLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make_lab(**LAYOUT)
    seed_keys(lab)
    put_v2(lab, lab.hosts["master-0"])
    first = lab.hosts["master-0"]
    secret = first.path(f"{layout.MASTER}/htpasswd")
    os.chown(secret, 1234, 4321)
    secret.chmod(0o640)
    os.setxattr(secret, "trusted.lab", b"\x00label\xff")
    first.path("/etc/origin/link").symlink_to("/etc/hosts")

    done = {row["host"]: row for row in fab("backup-master").expect(OK).result}
    assert sorted(done) == ["master-0", "master-1", "master-2"]
    assert done["master-0"]["backup"]["ca_files"]
    assert not done["master-1"]["backup"]["ca_files"]
    assert f"{layout.MASTER}/ca.serial.txt" in done["master-1"]["backup"]["missing"]
    for name, host in lab.hosts.items():
        folder = only_backup(host)
        assert oct(host.path("/backup").stat().st_mode)[-3:] == "700"
        manifest = json.loads((folder / "MANIFEST.json").read_bytes())
        assert manifest["snapshot"]["keys"] > 0, name
        assert manifest["v2"] == "saved", manifest["problems"]
        assert (folder / "v2/member/snap").is_dir()
        assert manifest["packages"] == "dpkg"
        assert "haproxy" in (folder / "packages.txt").read_text()
        assert (folder / "etc/etcd/etcd.conf").read_bytes() == host.read(layout.CONF)
    folder = only_backup(first)
    assert attributes(folder / f"etc/origin/master/{secret.name}") == attributes(secret)
    assert (folder / "etc/origin/link").readlink() == Path("/etc/hosts")
    assert (folder / "etc/etcd/ca/ca.key").read_bytes() == first.read("/etc/etcd/ca/ca.key")

    # The same day again: beside it, encrypted by a tool that the host does not have, brought here.
    tools = ensure_age()
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    made = subprocess.run([tools / "age-keygen"], capture_output=True, text=True, check=True)
    key = tmp_path / "key.txt"
    key.write_text(made.stdout)
    public = next(x.split()[-1] for x in made.stdout.splitlines() if "public key" in x)
    words = ["master-0", "--to", str(tmp_path / "here"), "--encrypt-to", public]
    (row,) = fab("backup-master", *words).expect(OK).result
    archive = Path(row["path"])
    assert archive.stat().st_mode & 0o777 == 0o600
    assert b"BEGIN" not in archive.read_bytes()
    assert len(list(first.path("/backup/master-0").iterdir())) == 2
    assert not list(first.path("/var/lib/etcd-rescue/work").glob("master/*/out"))
    fab("verify-backup", str(archive), hosts="").expect(2)
    fab("verify-backup", str(archive), "--identity", str(key), hosts="").expect(OK)

    # One archive on the host; and one that was changed.
    (row,) = fab("backup-master", "master-1", "--archive").expect(OK).result
    place = lab.hosts["master-1"].path(row["archive"])
    assert place.stat().st_mode & 0o777 == 0o600
    with tarfile.open(place) as tar:
        names = tar.getnames()
    assert any(name.endswith("etc/origin/master/master-config.yaml") for name in names)
    fab("verify-backup", str(place), hosts="").expect(OK)
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", folder, copy], check=True)
    fab("verify-backup", str(copy), hosts="").expect(OK)
    (copy / "etc/etcd/etcd.conf").write_bytes(b"ETCD_NAME=other\n")
    assert "etc/etcd/etcd.conf" in fab("verify-backup", str(copy), hosts="").expect(8).err

    # Files come back: with a diff, owner and attributes; what was there is kept.
    good = first.read(MASTER_CONFIG)
    first.path(MASTER_CONFIG).write_bytes(good.replace(b"0.0.0.0:8443", b"0.0.0.0:1"))
    kept = attributes(secret)
    secret.unlink()
    words = [str(archive), "--identity", str(key), "--yes"]
    for path in (MASTER_CONFIG, f"{layout.MASTER}/htpasswd"):
        words += ["--path", path]
    told = fab("restore-master-files", *words).expect(OK).err
    assert "-  bindAddress: 0.0.0.0:1" in told
    assert "+  bindAddress: 0.0.0.0:8443" in told
    assert "$apr1$" not in told
    assert first.read(MASTER_CONFIG) == good
    assert attributes(secret) == kept
    assert "nothing to do" in fab("restore-master-files", *words).expect(OK).err
