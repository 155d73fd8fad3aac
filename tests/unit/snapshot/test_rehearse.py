"""Rehearsals on real etcds: what is told is what was put in, and nothing is left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.errors import PreconditionFailed, RescueError
from agent.host import Host
from agent.snapshot.objects import count_objects, kind_of
from agent.snapshot.rehearse import rehearse
from agent.snapshot.verify import SnapshotDamaged
from tests.unit.etcd_lab import etcd_binaries, needs_etcd
from tests.unit.snapshot import real

BINARIES = etcd_binaries()
_OBJECTS = {
    b"/registry/pods/default/a": b"k8s\0pod",
    b"/registry/pods/default/b": b"k8s\0pod",
    b"/registry/secrets/default/s": b"k8s:enc:aescbc:v1:key1:\x8f\x00\xff",
    b"/registry/secrets/default/t": b"k8s:enc:kms:v2:vault-1:\x8f\x00\xff",
    b"/registry/configmaps/default/long": b"k8s\0" + b"x" * 300_000,
    b"/registry/services/specs/default/kubernetes": b"k8s\0service",
    b"/registry/apiextensions.k8s.io/customresourcedefinitions/x.y": b"{}",
    b"/calico/v1/config": b"",
}


@pytest.fixture(scope="module", params=BINARIES, ids=lambda path: Path(path).parent.parent.name)
def snapshot(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rehearsed")
    with real.single(folder, request.param) as node:
        for key, value in _OBJECTS.items():
            real.put(node, (key, value))
        real.put(node, (b"/registry/pods/default/gone", b"k8s:enc:secretbox:v1:old:x"))
        real.delete(node, b"/registry/pods/default/gone")
        (folder / "only").mkdir()
        path = real.save(node, folder / "only/snap.db")
    (folder / "etcd").write_text(request.param)
    return path


@pytest.fixture
def on_path(snapshot: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The snapshot, with the etcd that made it on the PATH."""
    binary = Path((snapshot.parent.parent / "etcd").read_text())
    monkeypatch.setenv("PATH", f"{binary.parent}:{os.environ['PATH']}")
    return snapshot


@needs_etcd()
def test_tells_what_was_put_in_and_leaves_nothing(on_path: Path) -> None:
    found = rehearse(Host(), str(on_path))
    assert found.keys == len(_OBJECTS)
    assert found.revision == len(_OBJECTS) + 3
    assert found.kinds == {
        "apiextensions.k8s.io/customresourcedefinitions": 1, "configmaps": 1, "other": 1,
        "pods": 2, "secrets": 2, "services/specs": 1,
    }  # fmt: skip
    assert found.prefixes == {"": 6, "k8s:enc:aescbc:v1:key1:": 1, "k8s:enc:kms:v2:vault-1:": 1}
    assert found.encrypted["k8s:enc:kms:v2:vault-1:"] == ("secrets",)
    assert [p.name for p in on_path.parent.iterdir()] == ["snap.db"]


@needs_etcd()
def test_a_copy_without_a_hash_is_rehearsed_when_it_is_named(on_path: Path, tmp_path: Path) -> None:
    bare = tmp_path / "db"
    bare.write_bytes(on_path.read_bytes()[:-32])
    assert rehearse(Host(), str(bare), no_hash_ok=True).keys == len(_OBJECTS)
    with pytest.raises(SnapshotDamaged):
        rehearse(Host(), str(bare))
    assert [p.name for p in tmp_path.iterdir()] == ["db"]


@needs_etcd()
def test_a_snapshot_that_etcd_cannot_serve_is_told_and_leaves_nothing(
    on_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "bin"
    broken.mkdir()
    real_etcd = Path((on_path.parent.parent / "etcd").read_text())
    for name in ("etcdutl", "etcdctl"):
        if (real_etcd.parent / name).exists():
            (broken / name).symlink_to(real_etcd.parent / name)
    (broken / "etcd").write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo "etcd Version: 3.5.0" && exit 0\n'
        'echo "panic: freepages: failed to get all reachable pages"; exit 2\n'
    )
    (broken / "etcd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken}:{os.environ['PATH']}")
    with pytest.raises(RescueError, match="failed to get all reachable pages"):
        rehearse(Host(), str(on_path))
    assert [p.name for p in on_path.parent.iterdir()] == ["snap.db"]


@needs_etcd()
def test_without_an_etcd_it_says_where_else(
    snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(Host, "which", lambda self, name: "")
    with pytest.raises(PreconditionFailed) as caught:
        rehearse(Host(), str(snapshot))
    assert "--on HOST" in caught.value.next


@needs_etcd()
def test_objects_of_a_file_are_those_of_the_newest_revision(snapshot: Path) -> None:
    found = count_objects(Host(), str(snapshot))
    assert found.keys == len(_OBJECTS)
    assert "k8s:enc:secretbox:v1:old:" not in found.prefixes


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (b"/registry/minions/master-0", "minions"),
        (b"/registry/services/endpoints/default/kubernetes", "services/endpoints"),
        (b"/registry/masterleases/10.0.0.1", "masterleases"),
        (b"/kubernetes.io/pods/a/b", "pods"),
        (b"/openshift.io/routes/a/b", "routes"),
        (b"/registry/health", "other"),
        (b"registry/pods/a", "other"),
        (b"/registry/\xff\xfe/a", "��"),
        (b"", "other"),
    ],
)
def test_kinds(key: bytes, kind: str) -> None:
    assert kind_of(key) == kind
