"""What a row of the matrix is: how a cluster gets to need a recipe, the command, the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from tests.lab.faults import PASSING
from tests.lab.lab import Lab
from tests.lab.operator import OK, REFUSED, Ended, Running, fab, start_fab


@dataclass(frozen=True)
class Row:
    """One recipe, or one way through it.

    recipe: the name in its plans. prepare: breaks a healthy cluster; what it does to the disks,
    and which hosts have power then, is kept for all trials. ready: what is done or waited for
    after a boot of that. words: the command. voters: the cluster at the end. drop: what
    `resume` is told to give up. again: exit codes of the same command, given once more at the
    end. revive: makes the cluster whole after a rollback; none: the command is given again.
    has_way_back: its command can be rolled back at first. around: what is at work in a cluster
    during a trial. through: the host that -H names. watched: the kubelet's directory. pods:
    what lies in it at the end, for each host (etcd.yaml alone, if nothing else is said).
    folders: what a rollback brings back as it was, bit for bit. settled: folders whose files
    are at the end what an undisturbed run makes of them.
    """

    name: str
    recipe: str
    prepare: Callable[[Lab], None]
    ready: Callable[[Lab], None]
    words: tuple[str, ...]
    voters: tuple[str, ...]
    drop: tuple[str, ...] = ()
    again: tuple[int, ...] = (OK,)
    revive: Callable[[Lab], None] | None = None
    has_way_back: bool = True
    options: dict[str, Any] = field(default_factory=dict)
    around: Callable[[Lab], AbstractContextManager[object]] = nullcontext
    through: str = "master-0"
    watched: str = "/etc/kubernetes/manifests"
    pods: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    folders: tuple[str, ...] = ("/etc/kubernetes",)
    settled: tuple[str, ...] = ()

    def start(self) -> Running:
        """The operator types the command."""
        return start_fab(*self.words, hosts=self.through)

    def run_whole(self) -> Ended:
        """The operator types the command, and again where it says to look again."""
        for _ in range(4):
            ended = self.start().end()
            if ended.code != REFUSED or not PASSING.search(ended.err):
                break
        return ended

    def start_resume(self) -> Running:
        """The operator begins to go on with what is unfinished."""
        return start_fab("resume", *self.drop, hosts=self.through)

    def resume(self) -> Ended:
        """The operator goes on with what is unfinished."""
        return self.start_resume().end()

    def roll_back(self) -> Ended:
        """The operator takes it back."""
        return fab("rollback", "--yes", hosts=self.through)
