"""Static pod resources out of a backup set: what is missing comes back, what is there stays."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from agent.actions.base import Context
from agent.actions.openshift4.resources import ResourcesArgs, RestoreStaticResources
from agent.errors import PreconditionFailed
from agent.host import Host
from agent.platforms.openshift4 import RESOURCES, OpenShift4
from tests.unit.snapshot.test_openshift4_set import FOUR, archive

ACTION = RestoreStaticResources()


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    (tmp_path / "set.tar.gz").write_bytes(archive(*FOUR))
    own = tmp_path / RESOURCES.lstrip("/") / "etcd-pod-7"
    own.mkdir(parents=True)
    (own / "etcd-pod.yaml").write_text("this node's own")
    return Context(Host(str(tmp_path)), OpenShift4(), "plan", "03", lambda text: None)


def args(ctx: Context) -> ResourcesArgs:
    data = ctx.host.read_bytes("/set.tar.gz")
    return ResourcesArgs("/set.tar.gz", hashlib.sha256(data).hexdigest())


def there(ctx: Context) -> dict[str, str]:
    top = Path(ctx.host.real(RESOURCES))
    return {str(p.relative_to(top)): p.read_text() for p in top.rglob("*") if p.is_file()}


def test_what_is_missing_comes_back_and_what_is_there_stays(ctx: Context) -> None:
    before = there(ctx)
    ACTION.check(ctx, args(ctx))
    undo = ACTION.prepare(ctx, args(ctx))
    assert undo == {"missing": sorted(set(FOUR) - {"etcd-pod-7"}), "there": ["etcd-pod-7"]}
    assert not ACTION.is_done(ctx, args(ctx), undo)
    for _again in range(2):
        ACTION.act(ctx, args(ctx), undo)
        ACTION.prove(ctx, args(ctx), undo)
        assert ACTION.is_done(ctx, args(ctx), undo)
    after = there(ctx)
    assert after["etcd-pod-7/etcd-pod.yaml"] == "this node's own"
    assert after["kube-apiserver-pod-7/kube-apiserver-pod.yaml"] == "kube-apiserver-pod-7"
    assert len(after) == len(FOUR)
    for _again in range(2):
        ACTION.undo(ctx, args(ctx), undo)
        assert there(ctx) == before


def test_a_run_that_was_killed_is_gone_on_with(ctx: Context) -> None:
    undo = ACTION.prepare(ctx, args(ctx))
    half = Path(ctx.host.real(f"{RESOURCES}/.kube-apiserver-pod-7.plan"))
    half.mkdir()
    (half / "kube-apiserver-pod.yaml").write_text("kube-")
    ACTION.act(ctx, args(ctx), undo)
    ACTION.prove(ctx, args(ctx), undo)


def test_another_archive_is_refused(ctx: Context) -> None:
    wanted = args(ctx)
    Path(ctx.host.real("/set.tar.gz")).write_bytes(archive(*FOUR[:2]))
    with pytest.raises(PreconditionFailed, match="not the archive"):
        ACTION.check(ctx, wanted)
