"""SELinux labels are set where SELinux is on, and nothing is run where it is not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.actions.base import Context
from agent.actions.relabel import relabel
from agent.errors import StepFailed
from agent.host import Completed
from agent.platforms import detect
from tests.unit.host311 import master
from tests.unit.rooted import ProgramsOutside

DATA = "/var/lib/etcd/member"


class Labels(ProgramsOutside):
    """A host whose restorecon is another program of this machine."""

    program = "true"

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.ran: list[list[str]] = []

    def run(self, argv: Sequence[str], *args: Any, **words: Any) -> Completed:
        self.ran.append(list(argv))
        return super().run([self.program, *argv[1:]], *args, **words)


def context(tmp_path: Path, selinux: bool) -> tuple[Context, Labels]:
    master(tmp_path, {"/sys/fs/selinux/enforce": "0"} if selinux else {})
    host = Labels(str(tmp_path))
    return Context(host, detect(host), "plan", "01", print), host


def test_labels_are_set_where_selinux_is_on(tmp_path: Path) -> None:
    ctx, host = context(tmp_path, selinux=True)
    assert relabel(ctx, DATA)
    assert host.ran == [["restorecon", "-R", DATA]]


def test_nothing_is_run_without_selinux(tmp_path: Path) -> None:
    ctx, host = context(tmp_path, selinux=False)
    assert not relabel(ctx, DATA)
    assert host.ran == []


def test_labels_that_cannot_be_set_are_told(tmp_path: Path) -> None:
    ctx, host = context(tmp_path, selinux=True)
    host.program = "false"
    with pytest.raises(StepFailed) as error:
        relabel(ctx, DATA)
    assert f"restorecon -R -v {DATA}" in error.value.next
