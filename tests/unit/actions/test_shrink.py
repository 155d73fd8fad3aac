"""A joiner that was sent the log of a full database: what it would do to all, and does not."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from agent.actions import shrink
from agent.actions.base import Context, Places, wait_for
from agent.actions.restore_tool import RestoreTool
from agent.actions.scratch import caught_up
from agent.actions.shrink import WITHOUT_QUOTA, db_of, db_size, is_bloated, quota_of
from agent.errors import PreconditionFailed
from agent.etcd.client import EtcdClient, EtcdError
from agent.host import Host
from agent.model.facts import EtcdConfig
from agent.platforms.kubeadm import Kubeadm
from tests.unit.etcd_lab import Node, Plain, etcd_binaries, make_nodes, needs_etcd

MIB = 1024 * 1024
QUOTA = 8 * MIB


@pytest.mark.parametrize(
    ("given", "quota"),
    [({}, 2048 * MIB), ({"quota-backend-bytes": "0"}, 2048 * MIB),
     ({"quota-backend-bytes": "8589934592"}, 8192 * MIB), ({"quota-backend-bytes": "-1"}, 0),
     ({"quota-backend-bytes": "$Q"}, 2048 * MIB)],
)  # fmt: skip
def test_what_a_definition_allows(given: dict[str, str], quota: int) -> None:
    assert quota_of(EtcdConfig("", "", "m0", "/d", flags=given)) == quota


@pytest.mark.parametrize(
    ("size", "model", "quota", "expected"),
    [
        (2000, 200, 2048, True),
        (2000, 1990, 2048, False),  # as the others: nothing to gain
        (1000, 100, 2048, False),  # with half of it free
        (1100, 100, 2048, True),
        (1100, 900, 2048, False),
        (9000, 100, 0, False),  # no quota, no alarm
    ],
)
def test_when_a_file_is_worth_a_rewrite(size: int, model: int, quota: int, expected: bool) -> None:
    assert is_bloated(size * MIB, model * MIB, quota * MIB) is expected


@dataclass
class Cleaned:
    """A member whose full database was cleaned up, and one that joins it."""

    member: Node
    joiner: Node
    where: Places

    def context(self) -> Context:
        return Context(Host(), Kubeadm(), "p", "01", lambda _text: None)


@contextmanager
def cleaned(folder: Path, binary: str) -> Iterator[Cleaned]:
    # What is written and compacted within one commit would never make the file grow.
    extra = (f"--quota-backend-bytes={QUOTA}", "--backend-batch-limit=1")
    member, joiner = nodes = make_nodes(folder, binary, Plain(size=2, extra=extra))
    member.config = replace(member.config, initial_cluster=member.config.initial_cluster[:1])
    flags = {"quota-backend-bytes": str(QUOTA)}
    joiner.config = replace(joiner.config, initial_cluster_state="existing", flags=flags)
    try:
        member.start()
        member.wait_healthy()
        clean(member)
        yield Cleaned(member, joiner, Places("", "", joiner.config.data_dir))
    finally:
        for node in nodes:
            node.stop()


def clean(node: Node) -> None:
    """Fill its database to the quota, and do what a clean-up does."""
    with node.client(10) as client:
        fill(client)
        client.compact(client.status().revision, physical=True)
        client.defragment()
        for alarm in client.alarms():
            client.alarm_disarm(alarm)
        assert client.status().db_size < QUOTA // 4
        client.put(b"/after", b"there is space")


def fill(client: EtcdClient) -> None:
    for number in range(200):
        try:
            client.put(b"/fill", str(number % 10).encode() * 100_000)
        except EtcdError as error:
            assert "space exceeded" in error.seen  # noqa: PT017 - what the filling is for
            return
    raise AssertionError("the quota was never reached")


def join(found: Cleaned) -> None:
    """Let it catch up as a scratch etcd does, and end."""
    node, facts = found.joiner, dict[str, object]()
    with found.member.client() as client:
        client.member_add([node.peer_url], learner=True)
        target = client.status()
    own, node.extra = node.extra, (*node.extra, WITHOUT_QUOTA)
    node.start()
    wait_for(
        print, "the learner", lambda: caught_up(Host(), node.endpoint, node.config, target, facts),
        20,
    )  # fmt: skip
    shrink.wait_until_compacted(found.context(), found.where, node.config, target.revision)
    assert node.process is not None
    node.process.send_signal(signal.SIGTERM)
    node.process.wait(20)
    node.extra = own


def promote(found: Cleaned) -> None:
    """Start it with its own quota, as a definition does, and make it a voter."""
    found.joiner.start()

    def is_voter() -> tuple[bool, str]:
        with found.member.client() as client:
            try:
                learner = next(m for m in client.members(linearizable=True) if m.is_learner)
                client.member_promote(learner.id)
            except EtcdError as error:
                return False, error.seen
        return True, ""

    wait_for(print, "the promotion", is_voter, 30, 0.1)
    found.joiner.wait_healthy()


def tool_of(binary: str) -> RestoreTool:
    name = "etcdutl" if (Path(binary).parent / "etcdutl").exists() else "etcdctl"
    return RestoreTool(str(Path(binary).parent / name), name, "", True)


def alarms_after_a_write(found: Cleaned) -> list[str]:
    with found.joiner.client(10) as client:
        client.put(b"/large", b"x" * MIB)
        client.put(b"/second", b"")
        return [alarm.kind for alarm in client.alarms()]


@needs_etcd()
@pytest.mark.parametrize("binary", etcd_binaries())
def test_a_joiner_does_not_raise_the_alarm_anew(
    binary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shrink, "find_tool", lambda *_: tool_of(binary))
    with cleaned(tmp_path, binary) as found:
        join(found)
        with found.member.client() as client:
            model, keys = client.status().db_size, client.range(b"/", b"0")
            assert not client.alarms()  # while it caught up, too
        size = db_size(Host(), db_of(found.where))
        assert size > 0.8 * QUOTA
        did = shrink.shrink(found.context(), found.where, found.joiner.config, model)
        assert did["rewritten"]["before"] == size
        assert did["rewritten"]["after"] == db_size(Host(), db_of(found.where)) < QUOTA // 4
        again = shrink.shrink(found.context(), found.where, found.joiner.config, model)
        assert again == {}
        promote(found)
        with found.joiner.client() as client:
            assert client.range(b"/", b"0") == keys
        assert alarms_after_a_write(found) == []


@needs_etcd()
def test_what_happens_without_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cause, so that the test above can fail; and a node without a tool, which is told."""

    def none(*_: object) -> RestoreTool:
        raise PreconditionFailed("no etcdutl or etcdctl that can restore")

    monkeypatch.setattr(shrink, "find_tool", none)
    with cleaned(tmp_path, etcd_binaries()[0]) as found:
        join(found)
        did = shrink.shrink(found.context(), found.where, found.joiner.config, MIB)
        assert "no etcdutl" in did["left"]
        promote(found)
        with pytest.raises(EtcdError, match="space exceeded"):
            alarms_after_a_write(found)


@needs_etcd()
def test_no_room_for_the_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = etcd_binaries()[0]
    monkeypatch.setattr(shrink, "find_tool", lambda *_: tool_of(binary))
    monkeypatch.setattr(Host, "free", lambda *_: (65 * MIB, 9999))
    with cleaned(tmp_path, binary) as found:
        join(found)
        before = db_size(Host(), db_of(found.where))
        with pytest.raises(PreconditionFailed, match="are needed") as refused:
            shrink.shrink(found.context(), found.where, found.joiner.config, 2 * MIB)
        assert "fab resume" in refused.value.next
        assert db_size(Host(), db_of(found.where)) == before
