"""Actions on OpenShift 3.11 on a tree of files: what they refuse, place, keep and take back."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.actions.base import Context, NoArgs
from agent.actions.edits import former_text
from agent.actions.kind import file_hash
from agent.actions.openshift311.ca_files import (
    CaFilesArgs,
    CheckCaFiles,
    InstallCaFiles,
    lend_ca_files,
)
from agent.actions.openshift311.master_file import PlaceFileArgs, PlaceMasterFile
from agent.actions.openshift311.remaining import FlannelArgs, SetFlannelEndpoints
from agent.actions.openshift311.retiring import DrainArgs, DrainNode, ParkMaster, ParkMasterArgs
from agent.errors import CommandFailed, Damaged, PreconditionFailed, Refused, StepFailed
from agent.host import Completed
from agent.platforms import detect
from tests.unit.host311 import CONF, POD, SETTINGS, master
from tests.unit.killing import count_lines, fresh, killed
from tests.unit.rooted import Rooted, picture

PODS = "/etc/origin/node/pods"
FLANNEL = "/etc/sysconfig/flanneld"
TEXT = "FLANNEL_ETCD_ENDPOINTS=https://a:2379,https://b:2379\n"


class Told(Rooted):
    """A host whose programs answer as given: (how a command begins, output or what it fails with).

    Every command is noted.
    """

    def __init__(self, root: str, *answers: tuple[str, str | CommandFailed]) -> None:
        super().__init__(root)
        self.answers, self.ran = list(answers), list[str]()

    def which(self, name: str) -> str:
        return f"/usr/bin/{name}"

    def run(self, argv: Sequence[str], *args: Any, **words: Any) -> Completed:
        said = " ".join(argv)
        self.ran.append(said)
        for number, (begins, out) in enumerate(self.answers):
            if begins in said:
                if isinstance(out, CommandFailed):
                    del self.answers[number]  # it fails once
                    raise out
                return Completed(tuple(argv), 0, out, "")
        return Completed(tuple(argv), 0, "", "")


def context(
    root: Path, files: dict[str, str], *answers: tuple[str, str | CommandFailed]
) -> Context:
    root.mkdir(exist_ok=True)
    master(root, files)
    return context_of(root, *answers)


def context_of(root: Path, *answers: tuple[str, str | CommandFailed]) -> Context:
    host = Told(str(root), *answers)
    return Context(host, detect(host), "plan", "01", lambda _text: None)


# ---- CA files ------------------------------------------------------------------------------------

CA = {"/etc/origin/master/ca.serial.txt": "0F\n", "/etc/etcd/ca/ca.key": "key",
      "/etc/etcd/generated_certs/etcd-m1/peer.crt": "crt"}  # fmt: skip


def lent(tmp_path: Path) -> dict[str, str]:
    source = context(tmp_path / "source", CA)
    (tmp_path / "source/etc/etcd/ca/ca.key").chmod(0o600)
    assert CheckCaFiles().act(source, NoArgs(), {})["files"] == 3
    return lend_ca_files(source)


def test_ca_files_go_to_the_next_master_and_back(tmp_path: Path) -> None:
    target = replace(context(tmp_path / "target", {}), secrets=lent(tmp_path))
    action, args = InstallCaFiles(), CaFilesArgs("m0")
    action.check(target, args)
    undo = action.prepare(target, args)
    action.act(target, args, undo)
    action.act(target, args, undo)  # repeated from any point of itself
    action.prove(target, args, undo)
    root = tmp_path / "target"
    assert {p: (root / p[1:]).read_text() for p in CA} == CA
    assert (root / "etc/etcd/ca/ca.key").stat().st_mode & 0o777 == 0o600
    assert "key" not in json.dumps(undo).replace(".key", "")
    assert undo["made"] == [
        "/etc/etcd/ca", "/etc/etcd/generated_certs", "/etc/etcd/generated_certs/etcd-m1",
    ]  # fmt: skip
    action.undo(target, args, undo)
    assert not any((root / p[1:]).exists() for p in CA)
    ran = [said.split()[-1] for said in target.host.ran]  # type: ignore[attr-defined]
    assert ran == undo["made"][::-1]


def test_other_ca_files_are_never_replaced(tmp_path: Path) -> None:
    other = {"/etc/etcd/ca/ca.key": "another"}
    target = replace(context(tmp_path / "target", other), secrets=lent(tmp_path))
    with pytest.raises(PreconditionFailed, match=r"ca\.key is here already"):
        InstallCaFiles().check(target, CaFilesArgs("m0"))


@pytest.mark.parametrize("path", ["/etc/passwd", "/etc/etcd/ca/../../passwd", "etc/etcd/ca/x"])
def test_a_host_that_lends_something_else_is_not_believed(tmp_path: Path, path: str) -> None:
    rows = json.dumps([{"path": path, "mode": 0o644, "data": ""}])
    target = replace(context(tmp_path / "target", {}), secrets={"files": rows})
    with pytest.raises(Damaged, match="no CA file"):
        InstallCaFiles().check(target, CaFilesArgs("m0"))
    with pytest.raises(PreconditionFailed, match="did not come"):
        InstallCaFiles().check(replace(target, secrets={}), CaFilesArgs("m0"))


# ---- flannel, parking, draining ------------------------------------------------------------------


def test_flannel_s_file_is_kept_and_put_back(tmp_path: Path) -> None:
    ctx = context(tmp_path / "h", {FLANNEL: TEXT}, ("systemctl show", "ActiveState=inactive\n"))
    action, args = SetFlannelEndpoints(), FlannelArgs(("b",))
    undo = action.prepare(ctx, args)
    action.act(ctx, args, undo)
    action.prove(ctx, args, undo)
    place = tmp_path / "h" / FLANNEL[1:]
    assert place.read_text() == "FLANNEL_ETCD_ENDPOINTS=https://a:2379\n"
    assert not any("restart" in said for said in ctx.host.ran)  # type: ignore[attr-defined]
    action.undo(ctx, args, undo)
    assert place.read_text() == TEXT


def test_flannel_s_file_has_its_age_again_and_flanneld_reads_it(tmp_path: Path) -> None:
    """Also where the undo was cut right after the file was put back."""
    age = 1_700_000_000_123_456_789
    started = ("systemctl show", "ActiveState=active\nActiveEnterTimestampMonotonic=1\n")
    ctx = context(tmp_path / "h", {FLANNEL: TEXT}, started)
    place = tmp_path / "h" / FLANNEL[1:]
    os.utime(place, ns=(age, age))
    action, args = SetFlannelEndpoints(), FlannelArgs(("b",))
    undo = action.prepare(ctx, args)
    action.act(ctx, args, undo)
    ran = ctx.host.ran  # type: ignore[attr-defined]
    for _cut in range(2):
        ran.clear()
        action.undo(ctx, args, undo)
        assert (place.read_text(), place.stat().st_mtime_ns) == (TEXT, age)
        assert "systemctl restart flanneld.service" in ran


def test_what_was_never_changed_restarts_nothing(tmp_path: Path) -> None:
    started = ("systemctl show", "ActiveState=active\nActiveEnterTimestampMonotonic=1\n")
    ctx = context(tmp_path / "h", {FLANNEL: TEXT}, started)
    action, args = SetFlannelEndpoints(), FlannelArgs(("b",))
    undo = {**action.prepare(ctx, args), "since": ctx.host.now() + 1}
    former_text(ctx, undo["file"], TEXT)  # killed right before the change
    action.undo(ctx, args, undo)
    assert not any("restart" in said for said in ctx.host.ran)  # type: ignore[attr-defined]


def test_a_change_of_somebody_else_is_not_thrown_away(tmp_path: Path) -> None:
    ctx = context(tmp_path / "h", {FLANNEL: TEXT}, ("systemctl show", "ActiveState=inactive\n"))
    action, args = SetFlannelEndpoints(), FlannelArgs(("b",))
    undo = action.prepare(ctx, args)
    (tmp_path / "h" / FLANNEL[1:]).write_text(TEXT + "X=1\n")
    with pytest.raises(StepFailed, match="neither as it was"):
        action.act(ctx, args, undo)


def test_a_master_is_parked_outside_the_watched_tree(tmp_path: Path) -> None:
    pods = {f"{PODS}/apiserver.yaml": "api", f"{PODS}/controller.yaml": "controllers"}
    ctx = context(tmp_path / "h", pods)
    action, args = ParkMaster(), ParkMasterArgs()
    action.check(ctx, args)
    undo = action.prepare(ctx, args)
    action.act(ctx, args, undo)
    action.check(ctx, args)  # asked again on a resume
    assert action.is_done(ctx, args, undo)
    left = sorted(p.name for p in (tmp_path / "h" / PODS[1:]).rglob("*"))
    assert left == [POD.rpartition("/")[2]]
    action.undo(ctx, args, undo)
    assert (tmp_path / "h" / PODS[1:] / "apiserver.yaml").read_text() == "api"


def test_a_host_without_api_is_not_parked(tmp_path: Path) -> None:
    with pytest.raises(PreconditionFailed, match="neither API nor controllers"):
        ParkMaster().check(context(tmp_path / "h", {}), ParkMasterArgs())


NODES = ("get nodes", json.dumps({"items": [{"metadata": {"name": "m0"}, "spec": {}}]}))
SLOW = CommandFailed("error: unable to drain: drain did not complete within 45s")


def test_a_slow_drain_is_gone_on_with(tmp_path: Path) -> None:
    ctx = context(
        tmp_path / "h", {}, NODES, ("adm drain", SLOW), ("adm drain", "node/m0 drained\n")
    )
    done = DrainNode().act(ctx, DrainArgs("m0", "m0"), {"was_off": False})
    assert done == {"seen": "node/m0 drained"}
    assert sum("adm drain" in said for said in ctx.host.ran) == 2  # type: ignore[attr-defined]


def test_a_refused_drain_ends_the_step(tmp_path: Path) -> None:
    refused = CommandFailed("error: cannot delete Pods with a PodDisruptionBudget")
    ctx = context(tmp_path / "h", {}, NODES, ("adm drain", refused))
    with pytest.raises(StepFailed, match="PodDisruptionBudget"):
        DrainNode().act(ctx, DrainArgs("m0", "m0"), {"was_off": False})


# ---- files of a backup ---------------------------------------------------------------------------


def place_args(root: Path, ctx: Context, path: str, data: str) -> PlaceFileArgs:
    source = "/var/lib/etcd-rescue/work/incoming/x/file"
    ctx.host.makedirs(os.path.dirname(source))
    (root / source[1:]).write_text(data)
    return PlaceFileArgs(
        path, source, file_hash(ctx.host, source), file_hash(ctx.host, path), 0o640,
        os.getuid(), os.getgid(),
    )  # fmt: skip


def test_a_file_comes_back_and_what_was_there_is_kept(tmp_path: Path) -> None:
    root = tmp_path / "h"
    ctx = context(root, {})
    before = (root / CONF[1:]).read_text()
    action, args = PlaceMasterFile(), place_args(root, ctx, CONF, "ETCD_NAME=x\n")
    action.check(ctx, args)
    undo = action.prepare(ctx, args)
    action.act(ctx, args, undo)
    action.prove(ctx, args, undo)
    assert (root / CONF[1:]).read_text() == "ETCD_NAME=x\n"
    assert (root / CONF[1:]).stat().st_mode & 0o777 == 0o640
    action.undo(ctx, args, undo)
    assert (root / CONF[1:]).read_text() == before


def _place(ctx: Context, args: PlaceFileArgs, undo: dict[str, Any]) -> None:
    action = PlaceMasterFile()
    if not action.is_done(ctx, args, undo):
        action.act(ctx, args, undo)
    action.prove(ctx, args, undo)


def _take_back(ctx: Context, args: PlaceFileArgs, undo: dict[str, Any]) -> None:
    PlaceMasterFile().undo(ctx, args, undo)


@pytest.mark.reliability(
    "Kill at every step",
    "an agent killed while it puts a master's file back, and while it takes it back: the file is "
    "the new one or the old one, with its owner, mode and times, and nothing lies beside it",
)
@pytest.mark.parametrize("text", ["ETCD_NAME=x\n", SETTINGS], ids=["other text", "same text"])
def test_killed_while_a_file_is_put_back(tmp_path: Path, text: str) -> None:
    template, root = tmp_path / "template", tmp_path / "h"
    ctx = context(template, {})
    (template / CONF[1:]).chmod(0o604)
    args = place_args(template, ctx, CONF, text)
    undo, before = PlaceMasterFile().prepare(ctx, args), picture(template, CONF)
    fresh(template, root)
    ctx = context_of(root)
    for at in range(1, count_lines(_place, ctx, args, undo) + 1):
        fresh(template, root)
        assert killed(at, _place, ctx, args, undo)
        fresh(root, tmp_path / "cut")
        _place(ctx, args, undo)
        info = (root / CONF[1:]).stat()
        assert ((root / CONF[1:]).read_text(), info.st_mode & 0o777) == (text, 0o640), at
        assert os.listdir(root / "etc/etcd") == os.listdir(template / "etc/etcd"), at
        fresh(tmp_path / "cut", root)
        killed(1 + at % 23, _take_back, ctx, args, undo)
        _take_back(ctx, args, undo)
        assert picture(root, CONF) == before, at
        assert os.listdir(root / "etc/etcd") == os.listdir(template / "etc/etcd"), at


def test_a_file_without_its_attributes_is_not_done_yet(tmp_path: Path) -> None:
    root = tmp_path / "h"
    ctx = context(root, {})
    action, plain = PlaceMasterFile(), place_args(root, ctx, CONF, "ETCD_NAME=x\n")
    undo = action.prepare(ctx, plain)
    action.act(ctx, plain, undo)  # as if killed before the attributes
    args = replace(plain, xattrs={"user.label": base64.b64encode(b"kept").decode()})
    assert not action.is_done(ctx, args, undo)
    action.act(ctx, args, undo)
    assert action.is_done(ctx, args, undo)
    assert os.getxattr(root / CONF[1:], "user.label") == b"kept"


@pytest.mark.parametrize("path", ["/etc/shadow", "/etc/origin/../shadow", "/etc/origin/node/pods"])
def test_no_other_file_is_put_back(tmp_path: Path, path: str) -> None:
    ctx = context(tmp_path / "h", {})
    args = PlaceFileArgs(path, "/x", "0" * 64)
    with pytest.raises((Refused, IsADirectoryError)):
        PlaceMasterFile().check(ctx, args)


def test_a_file_that_changed_since_the_diff_is_left(tmp_path: Path) -> None:
    root = tmp_path / "h"
    ctx = context(root, {})
    args = place_args(root, ctx, CONF, "ETCD_NAME=x\n")
    (root / CONF[1:]).write_text("ETCD_NAME=changed\n")
    with pytest.raises(PreconditionFailed, match="not the file that was compared"):
        PlaceMasterFile().check(ctx, args)
