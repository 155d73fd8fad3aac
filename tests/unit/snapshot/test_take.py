"""Taking sets of real etcds, running and stopped, on a host under a prefix."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.errors import Damaged, Refused, RescueError
from agent.host import Host
from agent.snapshot import grpc_stream, running, take
from agent.snapshot.backup_set import (
    BackupSet,
    manifest_bytes,
    parse_manifest,
    read_set,
    sums_bytes,
    verify_path,
    verify_set,
)
from agent.snapshot.staging import BACKUPS, STAGING, discard_set, keep_set
from agent.snapshot.take import take_set
from agent.snapshot.verify import SnapshotDamaged
from tests.unit.etcd_lab import Node, Plain, etcd_binaries, make_nodes, needs_etcd
from tests.unit.snapshot.hosts import ENCRYPTION, host_of, modes

BINARIES = etcd_binaries()
IDS = [Path(path).parent.parent.name for path in BINARIES]


def ignore(text: str) -> None:
    """Nobody listens."""


@contextmanager
def host_with_etcd(root: Path, binary: str, tls: bool = True) -> Iterator[tuple[Host, Node]]:
    (root / "var/lib").mkdir(parents=True)
    (node,) = make_nodes(root / "var/lib", binary, Plain(tls=tls))
    try:
        node.start()
        node.wait_healthy()
        yield host_of(root, node), node
    finally:
        node.stop()


def below(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


# ---- a running member ----------------------------------------------------------------------------


@needs_etcd()
@pytest.mark.parametrize("binary", BINARIES, ids=IDS)
@pytest.mark.parametrize("tls", [True, False])
def test_a_running_member_gives_a_set_that_is_whole(binary: str, tls: bool, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with host_with_etcd(tmp_path, binary, tls) as (host, node):
            with node.client() as client:
                revision = client.put(b"/registry/pods/a", os.urandom(200_000))
                cluster = client.status().cluster_id
            found = take_set(host, ignore)
    finally:
        os.umask(before)
    assert found.snapshot is not None
    directory = f"{STAGING}/{found.name}"
    there_too = dataclasses.replace(found.snapshot, path=f"{directory}/snapshot.db")
    assert verify_set(host, directory) == dataclasses.replace(found, snapshot=there_too)
    assert (found.kind, found.quorum, found.problems) == ("snapshot", True, ())
    assert (found.cluster_id, found.snapshot.cluster_id) == (cluster, cluster)
    assert (found.snapshot.keys, found.snapshot.revision) == (1, revision)
    there = below(tmp_path, directory)
    assert modes(there) == {"d700", "f600"}
    assert [p.name for p in there.parent.iterdir()] == [found.name]
    what = {row.source: row.what for row in found.files}
    assert what[ENCRYPTION] == "encryption"
    assert (what["/etc/kubernetes/pki/ca.key"], what["/etc/kubernetes/pki/ca.crt"]) == (
        "key", "certificate",
    )  # fmt: skip
    assert next(row for row in found.files if row.source == ENCRYPTION).mode == 0o640
    subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=there, check=True)
    kept = keep_set(host, found.name)
    assert kept == f"{BACKUPS}/{found.name}"
    assert verify_set(host, kept).name == found.name


@needs_etcd()
def test_a_stream_that_breaks_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with host_with_etcd(tmp_path, BINARIES[0]) as (host, node):
        with node.client() as client:
            for at in range(20):
                client.put(b"/a%d" % at, os.urandom(500_000))
        stream = grpc_stream.iter_snapshot

        def broken(*args: object) -> Iterator[tuple[bytes, int]]:
            for number, row in enumerate(stream(*args)):  # type: ignore[arg-type]
                if number == 100:
                    node.stop()
                yield row

        monkeypatch.setattr(running, "iter_snapshot", broken)
        with pytest.raises(RescueError):
            take_set(host, ignore)
    assert list(below(tmp_path, STAGING).iterdir()) == []


@needs_etcd()
def test_what_a_member_streams_is_held_against_its_own_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with host_with_etcd(tmp_path, BINARIES[0]) as (host, _node):
        stream = grpc_stream.iter_snapshot

        def flipped(*args: object) -> Iterator[tuple[bytes, int]]:
            for blob, left in stream(*args):  # type: ignore[arg-type]
                yield blob[:-1] + bytes([blob[-1] ^ 1]), left

        monkeypatch.setattr(running, "iter_snapshot", flipped)
        with pytest.raises(SnapshotDamaged):
            take_set(host, ignore)
    assert list(below(tmp_path, STAGING).iterdir()) == []


@needs_etcd()
def test_without_room_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with host_with_etcd(tmp_path, BINARIES[0]) as (host, _node):
        monkeypatch.setattr(host, "free", lambda path: (1 << 20, 1 << 20))
        with pytest.raises(Refused, match=r"needs .* MiB below .*; 1 MiB"):
            take_set(host, ignore)
    assert list(below(tmp_path, STAGING).iterdir()) == []


# ---- a stopped data directory --------------------------------------------------------------------


@needs_etcd()
@pytest.mark.parametrize("binary", BINARIES, ids=IDS)
def test_a_stopped_directory_is_copied_and_labelled(binary: str, tmp_path: Path) -> None:
    with host_with_etcd(tmp_path, binary) as (host, node):
        with node.client() as client:
            revision = client.put(b"/registry/pods/a", b"1")
            status = client.status()
        node.stop()
        found = take_set(host, ignore)
        assert (found.kind, found.quorum, found.problems) == ("copy", False, ())
        assert (found.cluster_id, found.member_id) == (status.cluster_id, status.member_id)
        directory = f"{STAGING}/{found.name}"
        facts, _set = verify_path(host, f"{directory}/member/snap/db")
        assert (facts.kind, facts.is_hashed, facts.cluster_id) == (
            "copy", False, status.cluster_id,
        )  # fmt: skip
        assert facts.revision <= revision  # the rest is in the log, which came along
        copied = dataclasses.replace(node.config, data_dir=str(below(tmp_path, directory)))
        again = Node(node.binary, copied, node.extra)
        try:
            again.start()
            again.wait_healthy()
            with again.client() as client:
                kv = client.get(b"/registry/pods/a")
        finally:
            again.stop()
    assert kv is not None
    assert kv.value == b"1"


@needs_etcd()
def test_an_etcd_that_runs_and_does_not_answer_is_not_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with host_with_etcd(tmp_path, BINARIES[0]) as (host, node):
        monkeypatch.setattr(take, "find_running", lambda host, config: None)
        assert node.process is not None
        node.process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(Refused, match=r"etcd runs .* does not answer"):
                take_set(host, ignore)
        finally:
            node.process.send_signal(signal.SIGCONT)


@needs_etcd()
def test_a_damaged_copy_is_kept_and_says_so(tmp_path: Path) -> None:
    with host_with_etcd(tmp_path, BINARIES[0]) as (host, node):
        node.stop()
        database = Path(node.config.data_dir) / "member/snap/db"
        data = bytearray(database.read_bytes())
        root = int.from_bytes(data[32:40], "little")
        other = int.from_bytes(data[4096 + 32 : 4096 + 40], "little")
        for page in (root, other):
            data[page * 4096 + 8] ^= 0xFF
        database.write_bytes(data)
        found = take_set(host, ignore)
        assert found.snapshot is None
        assert "member/snap/db: offset" in found.problems[0]
        with pytest.raises(Damaged, match="was damaged when it was copied"):
            verify_path(host, f"{STAGING}/{found.name}")


# ---- sets ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Host, Path, BackupSet]:
    if not BINARIES:
        pytest.skip("no etcd")
    root = tmp_path_factory.mktemp("whole")
    with host_with_etcd(root, BINARIES[0]) as (host, _node):
        found = take_set(host, ignore)
    return host, below(root, f"{STAGING}/{found.name}"), found


@pytest.mark.parametrize(
    "how", ["changed", "cut", "missing", "strange", "link", "sums", "manifest"]
)
def test_a_set_is_whole_or_refused(how: str, whole: tuple[Host, Path, BackupSet]) -> None:
    host, there, found = whole
    victim = there / f"host{ENCRYPTION}"
    before = {path: path.read_bytes() for path in there.rglob("*") if path.is_file()}
    strange = there / "host/other"
    ways: dict[str, Callable[[], object]] = {
        "changed": lambda: victim.write_text("kind: EncryptionConfiguratiom\n"),
        "cut": lambda: victim.write_text("kind"),
        "missing": victim.unlink,
        "strange": lambda: strange.write_text(""),
        "link": lambda: strange.symlink_to(victim),
        "sums": lambda: (there / "SHA256SUMS").write_bytes(b""),
        "manifest": lambda: (there / "MANIFEST.json").write_bytes(
            manifest_bytes(found).replace(b'"master-0"', b'"master-1"')
        ),
    }
    ways[how]()
    with pytest.raises((Damaged, Refused)):
        verify_set(host, f"{STAGING}/{found.name}")
    strange.unlink(missing_ok=True)
    for path, data in before.items():
        path.write_bytes(data)
    verify_set(host, f"{STAGING}/{found.name}")


def test_names_that_lead_elsewhere_are_none(whole: tuple[Host, Path, BackupSet]) -> None:
    host, _there, found = whole
    row = found.files[1]
    for path in ("../x", "/etc/passwd", "a//b", "", "MANIFEST.json", found.files[0].path):
        rows = (found.files[0], dataclasses.replace(row, path=path))
        bad = dataclasses.replace(found, files=rows)
        with pytest.raises(Damaged):
            parse_manifest(manifest_bytes(bad), "MANIFEST.json")
    for name in ("", "../journal", ".part", "a/b"):
        with pytest.raises(Refused):
            discard_set(host, name)
    assert read_set(host, f"{STAGING}/{found.name}") == found


def test_a_name_with_a_backslash_is_checked_by_coreutils_too(
    whole: tuple[Host, Path, BackupSet], tmp_path: Path
) -> None:
    row = dataclasses.replace(whole[2].files[1], path="a\\b")
    found = dataclasses.replace(whole[2], files=(row,))
    source = whole[1] / whole[2].files[1].path
    (tmp_path / "a\\b").write_bytes(source.read_bytes())
    manifest = manifest_bytes(found)
    (tmp_path / "MANIFEST.json").write_bytes(manifest)
    (tmp_path / "SHA256SUMS").write_bytes(sums_bytes(found, manifest))
    subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=tmp_path, check=True)
