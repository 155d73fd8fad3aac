"""Disks that are full, read-only, failing or slow, and little memory: nothing is lost to them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

import pytest

from tests.lab import diskfaults as disk
from tests.lab.evidence import (
    DATA,
    STATE,
    power_off,
    quarantined,
    require_one_cluster,
    seed_keys,
    stored,
)
from tests.lab.faults import crash_loop
from tests.lab.host import Host, wait_until
from tests.lab.lab import Lab
from tests.lab.operator import (
    OK,
    PAUSED,
    REFUSED,
    STEP_FAILED,
    UNREACHABLE,
    fab,
    rescue_quorum,
    start_fab,
)

MakeLab = Callable[..., Lab]
Fault = Callable[[Host], AbstractContextManager[object]]
OLD = ("master-1", "master-2")
SMALL = {"master-0": "500m", "master-1": "500m"}
MANIFESTS = "/etc/kubernetes/manifests"
DB = f"{DATA}/member/snap/db"


def full_small(
    directory: str,
    options: str,
    how: Callable[[Host, str], AbstractContextManager[None]] = disk.full,
) -> Fault:
    """A directory on a small file system of its own, which has no room left."""

    def fault(host: Host) -> AbstractContextManager[object]:
        stack = ExitStack()
        stack.enter_context(disk.small(host, directory, options))
        stack.enter_context(how(host, directory))
        return stack

    return fault


BEFORE: dict[str, tuple[Fault, str]] = {
    "data: no space": (lambda host: disk.full(host, DATA), "MiB for new data beside the old"),
    "data: no inodes": (lambda host: disk.without_inodes(host, DATA), "and 0 inodes are free"),
    "data: read-only": (lambda host: disk.read_only(host, DATA), "mounted read-only"),
    "data: not readable": (
        lambda host: disk.agent_through(host, disk.injected("read:error=EIO", only=DB)),
        f"{DB}: Input/output error",
    ),
    "state: no space": (
        full_small(STATE, "size=30m,mode=700"), "cannot be written to: No space left on device",
    ),
    "state: too little": (
        lambda host: disk.small(host, STATE, "size=30m,mode=700"),
        "the etcd binary need 64 MiB",
    ),
    "state: no inodes": (
        full_small(STATE, "size=100m,mode=700", disk.without_inodes),
        "inodes are free",
    ),
    "state: read-only": (lambda host: disk.read_only(host, STATE), "Read-only file system"),
    "manifests: read-only": (
        lambda host: disk.read_only(host, "/etc/kubernetes"),
        "/etc/kubernetes/manifests is on a file system that is mounted read-only",
    ),
    "manifests: no space": (full_small(MANIFESTS, "size=256k"), "must have room to come back"),
}  # fmt: skip


class Untouched:
    """The survivor as it is: its etcd's process, its manifest, its data; held against later."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._seen = self._look()

    def _look(self) -> tuple[object, ...]:
        return self._host.etcd_pids(), stored(self._host), quarantined(self._host)

    def require(self) -> None:
        assert self._look() == self._seen


def lose_quorum(lab: Lab) -> dict[str, bytes]:
    keys = seed_keys(lab)
    power_off(lab, *OLD)
    return keys


@pytest.mark.reliability(
    "Resources",
    "no space, no inodes, read-only or unreadable, in the data, the tool's own directory or the "
    "manifests: refused before anything stops, saying what, why and the next command",
)
def test_what_can_be_known_is_found_before_anything_stops(
    make_lab: MakeLab, figure: Callable[[str, int], None]
) -> None:
    lab = make_lab(data_dir_size=SMALL)
    host, keys = lab.hosts["master-0"], lose_quorum(lab)
    fab("diagnose").expect(OK)  # the agent is there from now on
    before = Untouched(host)
    for name, (fault, words) in BEFORE.items():
        with fault(host):
            ended = rescue_quorum(*OLD).end().expect(REFUSED, 4)
            assert words in ended.err, f"{name}: {ended.err}"
            assert "next:" in ended.err, f"{name}: {ended.err}"
            before.require()
    figure("resource faults", len(BEFORE))
    assert not [row for row in fab("journal").expect(OK).result if row["state"] == "open"]
    rescue_quorum(*OLD).end().expect(PAUSED)
    require_one_cluster(lab, ["master-0"], keys)


@pytest.mark.reliability(
    "Resources",
    "a host that is to rejoin has no room: told before the survivor stops where it can be reached, "
    "else before its own old data leaves its place; with room made, resume finishes",
)
def test_a_joiner_without_room_is_found_in_time(make_lab: MakeLab) -> None:
    lab = make_lab(data_dir_size=SMALL)
    keys = seed_keys(lab)
    survivor, joiner = lab.hosts["master-0"], lab.hosts["master-1"]
    lab.hosts["master-2"].power_cut()
    crash_loop(joiner)
    words = ("rescue-quorum", "--yes", "--lost", "master-2", "--accept", "master-1")
    before = Untouched(survivor)
    with disk.full(joiner, DATA):
        ended = fab(*words).expect(REFUSED)
        assert "master-1: /var/lib/etcd needs" in ended.err
        before.require()

    joiner.power_cut()
    rescue_quorum(*OLD).end().expect(PAUSED)
    joiner.boot()
    with disk.full(joiner, DATA):
        ended = fab("resume").expect(REFUSED)
        assert "master-1: /var/lib/etcd needs" in ended.err
        assert quarantined(joiner) == []
        assert len(lab.members("master-0")) == 1
    fab("resume", "--drop", "master-2").expect(OK)
    require_one_cluster(lab, ("master-0", "master-1"), keys)


@pytest.mark.reliability(
    "Resources",
    "a disk fails, fills up or turns read-only in the middle of a rescue: rollback puts everything "
    "back, also on the full disk; or resume goes on from there once that is mended",
)
def test_a_disk_that_fails_in_the_middle(make_lab: MakeLab) -> None:
    lab = make_lab(data_dir_size=SMALL)
    host, keys = lab.hosts["master-0"], lose_quorum(lab)
    before = stored(host)

    def require_back() -> None:
        wait_until(lambda: bool(host.etcd_pids()), 20, "etcd to be started again")
        assert stored(host) == before

    with disk.agent_through(
        host, disk.injected("utimensat:error=EIO:when=2+")
    ):  # the first is the binary's
        ended = rescue_quorum(*OLD).end().expect(STEP_FAILED)
        assert "(copy_data): Input/output error" in ended.err
        assert not host.etcd_pids()
        fab("rollback", "--yes").expect(OK)
        require_back()

    with ExitStack() as stack:
        run = rescue_quorum(*OLD)
        run.on("ok master-0: preflight", lambda: stack.enter_context(disk.full(host, DATA)))
        ended = run.end().expect(REFUSED)
        assert "MiB for new data beside the old" in ended.err
        fab("rollback", "--yes").expect(OK)
        require_back()

    with disk.agent_through(host, disk.injected("utimensat:error=ENOSPC")):
        ended = rescue_quorum(*OLD).end().expect(STEP_FAILED)
        assert "(copy_data): No space left on device" in ended.err
    with ExitStack() as stack:
        run = start_fab("resume")
        run.on("ok master-0: seed", lambda: stack.enter_context(disk.read_only(host, STATE)))
        assert "Read-only file system" in run.end().expect(STEP_FAILED).err
    fab("resume").expect(PAUSED)
    require_one_cluster(lab, ["master-0"], keys)


@pytest.mark.reliability(
    "Resources",
    "128 MiB of memory for the agent are enough for a rescue; with less it is "
    "refused before anything stops, saying which limit it is",
)
def test_little_memory(make_lab: MakeLab) -> None:
    lab = make_lab(data_dir_size=SMALL)
    host, keys = lab.hosts["master-0"], lose_quorum(lab)
    fab("diagnose").expect(OK)  # the agent is there from now on
    before = Untouched(host)
    for mib, words in ((24, ""), (96, "only 96 MiB of memory are allowed here")):
        with disk.agent_through(host, f"exec prlimit --data={mib << 20}: --"):
            ended = rescue_quorum(*OLD).end().expect(REFUSED, UNREACHABLE)
            assert words in ended.err, ended.err
            assert "next:" in ended.err, ended.err
            before.require()
    assert not [row for row in fab("journal").expect(OK).result if row["state"] == "open"]
    with disk.agent_through(host, f"exec prlimit --data={128 << 20}: --"):
        rescue_quorum(*OLD).end().expect(PAUSED)
    require_one_cluster(lab, ["master-0"], keys)


@pytest.mark.reliability(
    "Resources", "a disk that takes 0.1 s for every fsync, with /tmp and /var/tmp full: rescued"
)
def test_a_slow_disk_and_no_room_for_temporary_files(make_lab: MakeLab) -> None:
    lab = make_lab(data_dir_size=SMALL)
    host, keys = lab.hosts["master-0"], lose_quorum(lab)
    slow = disk.injected("fsync,fdatasync:delay_exit=100000")
    with ExitStack() as stack:
        stack.enter_context(disk.agent_through(host, slow))
        host.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", "/var/tmp"])
        host.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", "/tmp"])
        for place in ("/tmp", "/var/tmp"):
            stack.enter_context(disk.full(host, place))
        rescue_quorum(*OLD).end().expect(PAUSED)
    require_one_cluster(lab, ["master-0"], keys)
