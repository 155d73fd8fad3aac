"""Steps on a host whose etcd is a unit: bytes on disk, and what systemd is asked for.

systemd itself is not in a tree of files: `Units` says what systemctl would, of one unit. The real
one is asked in the lab.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import pytest

from agent.actions.base import Context
from agent.actions.unit_kind import UnitKind
from agent.errors import PreconditionFailed, StepFailed
from agent.host import Completed
from agent.model.plan import Plan
from agent.platforms.systemd import SystemdEtcd
from agent.records.journal import Journal
from agent.runner import Runner
from agent.survey.units import block_path
from tests.unit.killing import chosen, count_lines, fresh, killed
from tests.unit.rooted import Rooted, picture, plan_of
from tests.unit.unit_host import ENV, PLAIN, UNIT, make_host

BLOCK = block_path("etcd.service")
ENV_FILE = "/etc/etcd.env"
NEW = "m0=https://10.0.0.10:2380,m1=https://10.0.0.11:2380"


class Units(Rooted):
    """A host with a service manager that runs one unit, and does as systemd's does."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.active, self.said = "active", list[str]()
        self.takes, self.loaded = True, False
        self.dependents = ""
        self.user = self.group = ""

    def run(
        self,
        argv: Sequence[str],
        timeout: float = 10.0,
        ok: Sequence[int] = (0,),
        env: Optional[Mapping[str, str]] = None,
        input: Optional[bytes] = None,
    ) -> Completed:
        words = " ".join(argv)
        self.said.append(words)
        out = ""
        if argv[0] == "rmdir":
            folder = Path(self.root, argv[-1].lstrip("/"))
            if not any(folder.iterdir()):
                folder.rmdir()
        elif "DropInPaths" in words:
            out = f"DropInPaths={BLOCK if self.loaded else ''}\n"
        elif argv[1] == "daemon-reload":
            self.loaded = self.takes and self.exists(BLOCK)
        elif "RequiredBy" in words:
            out = f"RequiredBy={self.dependents}\n"
        elif "User" in words:
            out = f"User={self.user}\nGroup={self.group}\n"
        elif argv[1] == "show":
            out = f"LoadState=loaded\nActiveState={self.active}\nSubState=x\nNRestarts=0\n"
        elif argv[1] == "stop":
            self.active = "inactive"
        elif argv[1] == "start":
            self.active = "inactive" if self.loaded else "activating"
        return Completed(tuple(argv), 0, out, "")


@pytest.fixture
def host(tmp_path: Path) -> Units:
    make_host(tmp_path, {UNIT: PLAIN, ENV_FILE: ENV, "/etc/hostname": "m0\n"})
    (tmp_path / "var/lib/etcd/member/snap").mkdir(parents=True)
    return Units(str(tmp_path))


def run_all(host: Units, plan: Plan) -> list[str]:
    runner = Runner(host, Journal.create(host, plan), lambda text: None)
    return [runner.run(step.id)["outcome"] for step in plan.steps()]


def roll_back(host: Units, plan: Plan) -> None:
    runner = Runner(host, Journal.create(host, plan), lambda text: None)
    for step in reversed(plan.steps()):
        runner.undo(step.id)


def test_parked_and_put_back_byte_for_byte(host: Units, tmp_path: Path) -> None:
    before = picture(tmp_path, "etc")
    plan = plan_of(("park_definition", {}), ("stop_etcd", {"hold": 0.0}))
    assert run_all(host, plan) == ["done", "done"]
    assert host.active == "inactive"
    assert b"AssertPathExists=!/" in (tmp_path / BLOCK[1:]).read_bytes()
    assert picture(tmp_path, UNIT) == {UNIT[1:]: before[UNIT[1:]]}
    back = plan_of(("unpark_definition", {}), created=2.0)
    assert run_all(host, back) == ["done"]
    assert host.active == "activating"
    assert picture(tmp_path, "etc") == {**before, "etc/systemd/system": _now(tmp_path)}


def _now(root: Path) -> tuple[Any, ...]:
    """The unit directory has a new time: something was in it for a while."""
    found: tuple[Any, ...] = picture(root, "etc")["etc/systemd/system"]
    return found


def test_a_rollback_starts_only_what_ran(host: Units, tmp_path: Path) -> None:
    plan = plan_of(("park_definition", {}), ("stop_etcd", {"hold": 0.0}))
    run_all(host, plan)
    roll_back(host, plan)
    assert host.active == "activating"
    host.active = "inactive"
    plan = plan_of(("park_definition", {}), created=2.0)
    run_all(host, plan)
    roll_back(host, plan)
    assert host.active == "inactive"
    assert not (tmp_path / BLOCK[1:]).exists()


def test_a_parking_or_its_rollback_cut_anywhere_is_taken_back_whole(
    host: Units, tmp_path: Path
) -> None:
    template, root = tmp_path / "template", tmp_path / "h"
    shutil.copytree(tmp_path, template, ignore=lambda *_: ["template"])
    before, plan = picture(template, "etc"), plan_of(("park_definition", {}))
    fresh(template, root)
    run_all(Units(str(root)), plan)  # what is imported then is no line of a later run
    fresh(template, root)
    lines = count_lines(run_all, Units(str(root)), plan)
    for at in chosen(lines, 30):
        fresh(template, root)
        assert killed(at, run_all, Units(str(root)), plan)
        killed(1 + at % 37, roll_back, Units(str(root)), plan)
        roll_back(Units(str(root)), plan)
        after = picture(root, "etc")
        assert after.keys() == before.keys(), at
        assert after[UNIT[1:]] == before[UNIT[1:]], at


def test_what_requires_etcd_is_started_again(host: Units) -> None:
    host.dependents = "kube-apiserver.service multi-user.target"
    run_all(host, plan_of(("park_definition", {})))
    run_all(host, plan_of(("unpark_definition", {}), created=2.0))
    assert "systemctl start --no-block kube-apiserver.service" in host.said


def test_a_block_that_systemd_does_not_take_is_no_block(host: Units) -> None:
    host.takes = False
    with pytest.raises(StepFailed, match="does not take"):
        run_all(host, plan_of(("park_definition", {})))


@pytest.mark.parametrize("path", [UNIT, ENV_FILE])
def test_a_changed_definition_is_not_put_back_unseen(
    host: Units, tmp_path: Path, path: str
) -> None:
    run_all(host, plan_of(("park_definition", {})))
    with (tmp_path / path[1:]).open("a") as file:
        file.write("# by somebody else\n")
    with pytest.raises(PreconditionFailed, match="not the definition that was parked"):
        run_all(host, plan_of(("unpark_definition", {}), created=2.0))


def test_a_fence_around_a_unit(host: Units, tmp_path: Path) -> None:
    plan = plan_of(("fence", {"reason": "a test"}))
    assert run_all(host, plan) == ["done"]
    assert (tmp_path / "var/lib/etcd-rescue/fence.json").exists()
    host.run(["systemctl", "start", "etcd.service"])
    assert host.active == "inactive"
    roll_back(host, plan)
    assert host.active == "activating"
    assert not (tmp_path / BLOCK[1:]).exists()


def test_a_unit_that_cannot_be_read_cannot_be_fenced(host: Units, tmp_path: Path) -> None:
    (tmp_path / UNIT[1:]).write_text("[Service]\nExecStart=/usr/local/bin/wrapper\n")
    with pytest.raises(PreconditionFailed, match="not etcd"):
        run_all(host, plan_of(("fence", {"reason": "a test"})))


def test_a_masked_unit_is_the_operators_word(host: Units, tmp_path: Path) -> None:
    (tmp_path / UNIT[1:]).unlink()
    (tmp_path / UNIT[1:]).symlink_to("/dev/null")
    with pytest.raises(PreconditionFailed, match="systemctl unmask"):
        run_all(host, plan_of(("park_definition", {})))


@pytest.mark.parametrize("is_parked", [True, False])
def test_membership_goes_into_the_file_that_counts(
    host: Units, tmp_path: Path, is_parked: bool
) -> None:
    before = picture(tmp_path, ENV_FILE)
    change = ("set_initial_cluster", {"members": NEW, "state": "existing"})
    steps = [("park_definition", {}), change, ("unpark_definition", {})] if is_parked else [change]
    plan = plan_of(*steps)
    assert set(run_all(host, plan)) == {"done"}
    old = {"m0=https://10.0.0.10:2380\n": f"{NEW}\n", "STATE=new": "STATE=existing"}
    wanted = ENV
    for was, now in old.items():
        head, _, tail = wanted.rpartition(was)
        wanted = head + now + tail
    assert (tmp_path / ENV_FILE[1:]).read_text() == wanted
    assert host.active == ("activating" if is_parked else "active")  # not restarted for it
    roll_back(host, plan)
    assert picture(tmp_path, ENV_FILE) == before


def test_the_flag_can_be_set_on_a_parked_unit_only_and_cleared(host: Units, tmp_path: Path) -> None:
    with pytest.raises(PreconditionFailed, match="in place"):
        run_all(host, plan_of(("set_force_new_cluster", {})))
    run_all(host, plan_of(("park_definition", {}), created=2.0))
    run_all(host, plan_of(("set_force_new_cluster", {}), created=3.0))
    assert "ETCD_FORCE_NEW_CLUSTER=true" in (tmp_path / ENV_FILE[1:]).read_text()
    with pytest.raises(PreconditionFailed, match="force-new-cluster"):
        run_all(host, plan_of(("unpark_definition", {}), created=4.0))
    run_all(host, plan_of(("clear_force_new_cluster", {}), created=5.0))
    assert (tmp_path / ENV_FILE[1:]).read_text() == ENV
    assert run_all(host, plan_of(("unpark_definition", {}), created=6.0)) == ["done"]


def test_no_flag_is_written_where_a_binary_lies_on_the_host(host: Units) -> None:
    args = {"path": UNIT, "sha256": "0"}
    with pytest.raises(PreconditionFailed, match="runs etcd here"):
        run_all(host, plan_of(("seed_in_manifest", args)))


def test_a_run_that_ended_before_systemd_was_told_parks_again(host: Units, tmp_path: Path) -> None:
    plan = plan_of(("park_definition", {}))
    host.takes = False
    with pytest.raises(StepFailed):
        run_all(host, plan)
    assert (tmp_path / BLOCK[1:]).exists()
    host.takes, host.said = True, []
    assert run_all(host, plan) == ["done"]
    assert "systemctl stop --no-block etcd.service" in host.said


PASSWD = "root:x:0:0:root:/root:/bin/bash\netcd:x:105:110::/var/lib/etcd:/usr/sbin/nologin\n"


@pytest.mark.parametrize(
    ("user", "group", "owner"),
    [
        ("", "", (0, 0)),
        ("etcd", "", (105, 110)),
        ("etcd", "ssl-cert", (105, 120)),
        ("998", "", (998, 998)),
        ("", "ssl-cert", (0, 120)),
    ],
)
def test_a_unit_says_who_owns_its_data(
    host: Units, tmp_path: Path, user: str, group: str, owner: tuple[int, int]
) -> None:
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text("root:x:0:\nssl-cert:x:120:etcd\n")
    host.user, host.group = user, group
    assert UnitKind().owner(Context(host, SystemdEtcd(), "plan", "01", print)) == owner


def test_a_user_that_is_not_there_is_named(host: Units, tmp_path: Path) -> None:
    (tmp_path / "etc/passwd").write_text(PASSWD)
    host.user = "etcd2"
    with pytest.raises(StepFailed, match="has no etcd2"):
        UnitKind().owner(Context(host, SystemdEtcd(), "plan", "01", print))
