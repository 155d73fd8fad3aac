"""The four scenarios of DC/OS Kubernetes, over real etcd processes behind a strict `dcos`."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.errors import RescueError
from coordinator.tasks import dcos as tasks
from coordinator.tasks.common import Options
from tests.lab.dcos.cluster import DEFAULT
from tests.lab.dcos.conftest import Dcos
from tests.lab.dcos.etcds import PODS
from tests.lab.host import wait_until
from tests.lab.lab import Lab
from tests.lab.operator import OK, REFUSED, STEP_FAILED, UNREACHABLE, USAGE, Ended, fab, start_fab

BUCKET: dict[str, Any] = {"bucket": "b", "region": "eu-1"}
UP: dict[str, Any] = {"remedy": "scale-up", **BUCKET}


def run(task: Callable[..., None], *args: Any) -> Ended:
    """A task in this process: starting `fab` a hundred times would take a minute."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            task(*args)
        except RescueError as error:
            print(error, file=err)
            code = error.exit_code
    print(err.getvalue(), file=sys.stderr)
    return Ended((task.__name__,), code, out.getvalue(), err.getvalue())


def rescue(dcos: Dcos, *lost: str, dry_run: bool = False, **asked: Any) -> Ended:
    options = Options(lost=lost, yes=True, output="json", dry_run=dry_run)
    words = {"to": str(dcos.top / "backups"), "timeout": 20, **asked}
    return run(tasks.rescue, options, tasks.Asked(**words))


def snapshot(dcos: Dcos) -> Ended:
    return run(tasks.snapshot, Options(output="json"), "", "", str(dcos.top / "backups"))


def diagnose(*lost: str, service: str = "") -> Ended:
    return run(tasks.diagnose, Options(lost=lost, output="json"), service)


def verdict(*lost: str) -> dict[str, Any]:
    found: dict[str, Any] = diagnose(*lost).expect(OK).result
    return found


def stored_backup(dcos: Dcos, name: str) -> dict[str, bytes]:
    """A backup in the bucket, of another day."""
    (dcos.top / "buckets/b").mkdir(parents=True, exist_ok=True)
    (dcos.top / f"buckets/b/{name}.json").write_text('{"/registry/old": "b2xk"}')
    return {"/registry/old": b"old", DEFAULT[0]: DEFAULT[1]}


def test_one_member_and_what_can_go_wrong_on_the_way(
    dcos: Dcos, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = dcos.install(high_availability=False, keys=200)
    found = verdict()
    assert (found["state"], found["scenario"], found["remedy"]) == ("healthy", 0, "none")
    assert rescue(dcos).expect(OK).result is None
    for remedy, said in (("restore", "quorum holds"), ("replace", "one member only")):
        assert said in rescue(dcos, remedy=remedy, **BUCKET).expect(REFUSED).err
    dcos.fail(cut=1)
    cut = snapshot(dcos).expect(UNREACHABLE).err
    assert "unexpected EOF" in cut
    assert "AAAA" not in cut, "the snapshot's bytes are in the error"
    assert dcos.files() == [], "half a snapshot is left"
    taken = snapshot(dcos).expect(OK).result
    assert taken["snapshot"]["keys"] == len(written)
    assert taken["snapshot"]["is_hashed"]
    assert dcos.files() == [Path(taken["path"])]
    assert not list(dcos.top.glob("agents/*/*/etcd-rescue-*.db")), "the task's copy stays"

    dcos.fail(login="expired")
    assert "dcos auth login" in diagnose().expect(UNREACHABLE).err
    dcos.fail(login="", garbage={"task --json": "<html>"})
    assert "something else than JSON" in diagnose().expect(USAGE).err
    dcos.heal()
    assert "services there: kubernetes" in diagnose(service="other").expect(USAGE).err
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert "no `dcos` command on PATH" in diagnose().expect(USAGE).err
    assert dcos.keys() == written


def test_a_scale_up_that_fails_is_taken_back_and_counted(dcos: Dcos) -> None:
    written = dcos.install(high_availability=False, keys=50)
    dcos.fail(scale=1)
    assert "did not complete" in rescue(dcos, **UP).expect(STEP_FAILED).err
    found = verdict()
    assert (found["scenario"], found["state"]) == (2, "scale-up-failed")
    assert (found["remedy"], found["failures"]) == ("rebuild", 1)
    assert rescue(dcos, **BUCKET).expect(OK).result["keys"] == len(written)
    assert dcos.keys() == written

    assert rescue(dcos, **UP).expect(OK).result["serving"] == [*PODS]
    assert dcos.keys() == written
    assert verdict()["failures"] == 0

    assert (dcos.top / "state/etcd-rescue/dcos").stat().st_mode & 0o777 == 0o700
    kept = [path for path in dcos.top.glob("state/**/*") if path.is_file()]
    assert kept
    assert all(path.stat().st_mode & 0o077 == 0 for path in kept)
    assert all(b"not-so-secret" not in path.read_bytes() for path in kept)


def test_three_members(dcos: Dcos) -> None:
    written = dcos.install(high_availability=True, keys=50)
    dcos.end_task("etcd-2")
    dcos.wait_serving("etcd-2")  # nothing but watching brings it back, with its data

    dcos.lead("etcd-1")
    dcos.power_off("etcd-1")  # the others are electing when they are asked
    refused = rescue(dcos, remedy="replace", pod="etcd-1").expect(REFUSED).err
    assert "may come back with its data" in refused

    before = dcos.task("etcd-1")
    dcos.fail(linger=5)
    words = ("--yes", "--to", str(dcos.top / "backups"), "--timeout", "20", "--lost", "etcd-1")
    going = start_fab("dcos-rescue", *words, hosts="")
    wait_until(lambda: dcos.task("etcd-1") != before, 60, "the pod's replacement")
    going.kill()
    replaced = dcos.task("etcd-1")
    rows = fab("journal", hosts="").expect(OK).result
    assert [(row["state"], row["begun"]) for row in rows] == [("open", ["02"])]
    done = fab("resume", hosts="").expect(OK)
    assert "was there already" in done.err
    assert done.result["serving"] == [*PODS]
    assert dcos.task("etcd-1") == replaced, "replaced twice"
    assert dcos.keys() == written
    assert len(dcos.files()) == 1, "no snapshot was taken first"

    dcos.power_off("etcd-0", "etcd-1")
    lost = ("etcd-0", "etcd-1")
    replace = rescue(dcos, *lost, remedy="replace", pod="etcd-1").expect(REFUSED)
    assert "the quorum is gone" in replace.err
    early = rescue(dcos, "etcd-0", remedy="restore", **BUCKET).expect(REFUSED)
    assert "1 of 3 members are lost for good" in early.err
    old = stored_backup(dcos, "kubernetes-backup")
    assert rescue(dcos, *lost, **BUCKET).expect(OK).result["serving"] == [*PODS]
    assert len(dcos.files()) == 2, "what the last member holds was not saved first"
    assert dcos.keys() == old


def test_the_only_member_and_its_agent_are_gone(dcos: Dcos) -> None:
    written = dcos.install(high_availability=False, keys=20)
    dcos.fail(hold=["etcd-0"])
    dcos.end_task("etcd-0")
    found = verdict()
    assert (found["scenario"], found["remedy"]) == (3, "watch")
    assert found["pods"][0]["state"] == "restarting"
    refused = rescue(dcos, remedy="restore", **BUCKET).expect(REFUSED)
    assert "0 of 1 members are lost" in refused.err
    dcos.heal()
    rescue(dcos, remedy="watch").expect(OK)
    assert dcos.keys() == written

    old = stored_backup(dcos, "mine")
    dcos.power_off("etcd-0")
    assert "--lost etcd-0" in verdict()["command"]
    rescue(dcos, "etcd-0", backup_name="mine", **BUCKET).expect(OK)
    assert dcos.keys() == old


def test_a_first_installation_that_fails(dcos: Dcos) -> None:
    dcos.fail(crash=["etcd-0"])
    dcos.install_failed()
    found = verdict()
    assert (found["scenario"], found["remedy"]) == (1, "reinstall")
    assert found["lost"] == "nothing: no key was ever stored"
    assert rescue(dcos).expect(OK).result["serving"] == ["etcd-0"]


def test_a_snapshot_restores_onto_another_platform(
    dcos: Dcos, make_lab: Callable[..., Lab]
) -> None:
    written = dcos.install(high_availability=True, keys=300)
    taken = snapshot(dcos).expect(OK).result
    lab = make_lab(hosts=1)
    words = ("restore", taken["path"], "--yes", "--discard-current")
    assert "is of another cluster" in fab(*words).expect(REFUSED).err
    fab(*words, "--other-cluster").expect(OK)
    lab.wait_healthy()
    assert lab.get_all() == written
