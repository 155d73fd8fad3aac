from __future__ import annotations

import hashlib
import os
import random
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.actions.tree import copy_tree, tree_size
from agent.errors import StepFailed
from agent.host import Host
from tests.unit.rooted import kubeadm_host, picture


def renamed(found: dict[str, tuple[object, ...]], old: str, new: str) -> dict[str, object]:
    return {path.replace(old, new, 1): facts for path, facts in found.items()}


def test_a_copy_has_everything_the_original_has(tmp_path: Path) -> None:
    host = kubeadm_host(tmp_path)
    db = tmp_path / "var/lib/etcd/member/snap/db"
    os.setxattr(db, "user.label", b"kept")
    os.chown(db, 1234, 1235) if os.geteuid() == 0 else None
    (tmp_path / "var/lib/etcd/member/wal").chmod(0o750)
    before = picture(tmp_path, "/var/lib/etcd/member")
    hashes = copy_tree(host, "/var/lib/etcd/member", "/var/lib/copy")
    copied = renamed(picture(tmp_path, "/var/lib/copy"), "lib/copy", "lib/etcd/member")
    assert copied == before
    assert picture(tmp_path, "/var/lib/etcd/member") == before
    assert hashes["snap/db"] == hashlib.sha256(db.read_bytes()).hexdigest()
    assert set(hashes) == {"snap/db", "wal/0000000000000000-0000000000000000.wal"}


def test_holes_stay_holes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with (tmp_path / "a/wal").open("wb") as file:
        file.write(b"begin" * 1000)
        file.seek(30 << 20)
        file.write(b"middle")
        file.truncate(64 << 20)
    host = Host(str(tmp_path))
    copy_tree(host, "/a", "/b")
    assert (tmp_path / "b/wal").stat().st_size == 64 << 20
    assert (tmp_path / "b/wal").read_bytes() == (tmp_path / "a/wal").read_bytes()
    assert tree_size(host, "/b") <= tree_size(host, "/a") + (2 << 20)


@given(
    pieces=st.lists(st.tuples(st.integers(0, 3 << 20), st.integers(1, 200_000)), max_size=6),
    size=st.integers(0, 4 << 20),
    seed=st.integers(0, 1000),
)
def test_any_mixture_of_data_and_holes_is_copied(
    pieces: list[tuple[int, int]], size: int, seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    root = tmp_path_factory.mktemp("holes")
    (root / "a").mkdir()
    with (root / "a/file").open("wb") as file:
        for offset, length in pieces:
            file.seek(offset)
            file.write(random.Random(seed).randbytes(length))
        file.truncate(size)
    hashes = copy_tree(Host(str(root)), "/a", "/b")
    content = (root / "b/file").read_bytes()
    assert content == (root / "a/file").read_bytes()
    assert hashes == {"file": hashlib.sha256(content).hexdigest()}


@pytest.mark.parametrize("kind", ["link", "link to a directory", "fifo", "socket", "dangling"])
def test_what_is_no_file_or_directory_is_refused(tmp_path: Path, kind: str) -> None:
    odd = tmp_path / "a/sub/odd"
    odd.parent.mkdir(parents=True)
    if kind == "fifo":
        os.mkfifo(odd)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(odd))
    else:
        target = {"link": "/etc/hostname", "dangling": "nowhere"}.get(kind, "/etc")
        odd.symlink_to(target)
    with pytest.raises(StepFailed, match="not a regular file"):
        copy_tree(Host(str(tmp_path)), "/a", "/b")


def test_a_copy_never_lands_in_a_directory_that_exists(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(FileExistsError):
        copy_tree(Host(str(tmp_path)), "/a", "/b")


def test_a_directory_that_is_not_there_is_no_empty_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tree_size(Host(str(tmp_path)), "/nothing")
