"""One run of the timer against a real etcd: what it keeps, leaves alone, and leaves behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.errors import Locked, Refused, RescueError, StepFailed, Unreachable
from agent.host import STATE_DIR, Host
from agent.model.schedule import Limits
from agent.records.locks import mark_at_work, take_lock
from agent.snapshot import grpc_stream, running
from agent.snapshot.backup_set import verify_set
from agent.snapshot.metrics import FILE
from agent.snapshot.scheduled import SCHEDULED, Taken, holdings, take_scheduled
from agent.snapshot.staging import STAGING
from tests.unit.etcd_lab import Node, etcd_binaries, needs_etcd
from tests.unit.snapshot.test_take import host_with_etcd

pytestmark = needs_etcd()
TIGHT = Limits(keep=2, min_free=0)
COLLECTOR = "/var/lib/collector"


@pytest.fixture
def member(tmp_path: Path) -> Iterator[tuple[Host, Node]]:
    with host_with_etcd(tmp_path, etcd_binaries()[0]) as (host, node):
        host.makedirs(COLLECTOR, 0o755)
        yield host, node


def run(host: Host, limits: Limits = TIGHT) -> Taken:
    return take_scheduled(host, limits, 0, COLLECTOR, lambda _: None)


def names(host: Host, directory: str = SCHEDULED) -> list[str]:
    return host.listdir(directory)


def result(host: Host) -> str:
    text = host.read_text(f"{COLLECTOR}/{FILE}")
    (line,) = [x for x in text.splitlines() if x.startswith("etcd_") and x.endswith("} 1")]
    return line.split('"')[1]


def test_the_newest_are_kept_and_whole(member: tuple[Host, Node]) -> None:
    host, _node = member
    taken = [run(host) for _ in range(3)]
    kept = holdings(host)
    assert {s.name for s in kept.sets} == {t.found.name for t in taken[1:]}
    assert [t.expired for t in taken] == [(), (), (taken[0].found.name,)]
    for each in kept.sets:
        verify_set(host, f"{SCHEDULED}/{each.name}")
    assert result(host) == "ok"
    assert names(host, STAGING) == names(host, f"{STATE_DIR}/work/expired") == []


def test_what_is_no_set_of_ours_is_left_alone(member: tuple[Host, Node], tmp_path: Path) -> None:
    host, _node = member
    first = run(host)
    (below := Path(host.real(SCHEDULED))).joinpath("notes").mkdir()
    (below / "notes/mine").write_text("precious")
    (below / "file").write_text("precious")
    (below / first.found.name).rename(below / "another-name")
    run(host)
    last = run(host, Limits(keep=1, min_free=0))
    assert set(names(host)) == {"notes", "file", "another-name", last.found.name}
    assert set(holdings(host).unknown) == {"notes", "file", "another-name"}
    assert "etcd_rescue_snapshot_unknown 3\n" in host.read_text(f"{COLLECTOR}/{FILE}")


def no_room(host: Host, node: Node) -> None:
    run(host, Limits(keep=1, min_free=1 << 50))


def no_etcd(host: Host, node: Node) -> None:
    node.stop()
    run(host, Limits(keep=1, min_free=0))


def a_rescue(host: Host, node: Node) -> None:
    take_lock(host, "a" * 64, "ann@desk", 1)
    mark_at_work(host, 1)
    run(host, Limits(keep=1, min_free=0))


@pytest.mark.parametrize(
    ("act", "error", "told"),
    [
        (no_room, Refused, "refused"), (no_etcd, Unreachable, "unreachable"),
        (a_rescue, Locked, "locked"),
    ],
)  # fmt: skip
def test_a_run_that_fails_takes_nothing_away(
    member: tuple[Host, Node],
    act: Callable[[Host, Node], None],
    error: type[RescueError],
    told: str,
) -> None:
    host, node = member
    before = {run(host).found.name, run(host).found.name}
    with pytest.raises(error):
        act(host, node)
    assert set(names(host)) == before
    assert result(host) == told
    assert "etcd_rescue_snapshot_kept 2\n" in host.read_text(f"{COLLECTOR}/{FILE}")


def begin_a_rescue(host: Host) -> None:
    take_lock(host, "a" * 64, "ann@desk", 1)
    mark_at_work(host, 1)
    signal.pause()


def be_told_to_end(host: Host) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("act", "error", "told"),
    [(begin_a_rescue, Locked, "locked"), (be_told_to_end, StepFailed, "failed")],
)
def test_one_that_is_cut_in_the_middle_leaves_nothing_half(
    member: tuple[Host, Node],
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[Host], None],
    error: type[RescueError],
    told: str,
) -> None:
    host, _node = member
    before = run(host).found.name
    stream = grpc_stream.iter_snapshot

    def cut(*args: object) -> Iterator[tuple[bytes, int]]:
        for row in stream(*args):  # type: ignore[arg-type]
            act(host)
            yield row

    monkeypatch.setattr(running, "iter_snapshot", cut)
    with pytest.raises(error):
        run(host)
    assert names(host) == [before]
    assert names(host, STAGING) == []
    assert result(host) == told


def test_what_a_killed_run_had_put_out_of_the_way_goes(member: tuple[Host, Node]) -> None:
    host, _node = member
    gone = run(host).found.name
    host.makedirs(f"{STATE_DIR}/work/expired")
    host.rename_new(f"{SCHEDULED}/{gone}", f"{STATE_DIR}/work/expired/{gone}")
    run(host)
    assert names(host, f"{STATE_DIR}/work/expired") == []
    assert len(names(host)) == 1


def test_metrics_that_cannot_be_written_are_no_success(member: tuple[Host, Node]) -> None:
    host, _node = member
    with pytest.raises(Refused, match="no such directory"):
        take_scheduled(host, TIGHT, 0, "/nowhere", lambda _: None)
    assert len(names(host)) == 1  # the snapshot itself is there
