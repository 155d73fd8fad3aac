"""Alarms on a real etcd: taken back only with space, and CORRUPT only of a member that is gone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from agent.actions import alarms, members
from agent.actions.alarms import (
    ClearRemovedAlarm,
    CompactArgs,
    CompactHistory,
    Defragment,
    DisarmNospace,
    NospaceArgs,
    RemovedArgs,
)
from agent.actions.base import Context, NoArgs, wait_for
from agent.errors import PreconditionFailed
from agent.etcd.client import EtcdError
from agent.etcd.transport import Connection, real_files
from agent.host import Host
from agent.platforms.kubeadm import Kubeadm
from tests.unit.etcd_lab import Node, Plain, etcd_binaries, needs_etcd, running

QUOTA = 4 * 1024 * 1024
pytestmark = needs_etcd()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    folder = tmp_path_factory.mktemp("etcd")
    wish = Plain(size=3, extra=(f"--quota-backend-bytes={QUOTA}",))
    with running(folder, etcd_binaries()[0], wish) as found:
        yield found


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that gives the context of a step beside one of the nodes."""

    def context(node: Node) -> Context:
        for module in (alarms, members):
            monkeypatch.setattr(module, "current_config", lambda _ctx: node.config)
        return Context(Host("/"), Kubeadm(), "p", "01", lambda _text: None)

    return context


def fill(node: Node) -> None:
    with node.client(10) as client:
        for number in range(100):
            try:
                client.put(b"/fill", str(number).encode() * 40_000)
            except EtcdError as error:
                assert "space exceeded" in error.seen  # noqa: PT017 - what the filling is for
                return
    raise AssertionError("the quota was never reached")


def remove(node: Node, member_id: str) -> None:
    """Remove a member once etcd lets it: all must have been connected for 5 s."""

    def probe() -> tuple[bool, str]:
        with node.client() as client:
            try:
                client.member_remove(member_id)
            except EtcdError as error:
                return False, error.seen
        return True, "removed"

    wait_for(lambda _text: None, "etcd to remove a member", probe, 30, 0.2)


def test_it_goes_only_with_space_on_every_member(nodes: list[Node], at: Any) -> None:
    fill(nodes[0])
    with nodes[0].client() as client:
        quotas = {member.id: QUOTA for member in client.members()}
    args = NospaceArgs(quotas)
    with pytest.raises(PreconditionFailed, match="allowed") as refused:
        DisarmNospace().check(at(nodes[0]), args)
    assert "raised again at once" in refused.value.why
    CompactHistory().act(at(nodes[0]), CompactArgs(keep=1), {})
    again = CompactHistory().act(at(nodes[0]), CompactArgs(keep=1), {})
    assert "forgotten already" in again["left"]
    for node in nodes[:2]:
        Defragment().check(at(node), NoArgs())
        told = Defragment().act(at(node), NoArgs(), {})
        assert told["after"] < told["before"]
    with pytest.raises(PreconditionFailed, match="m2"):
        DisarmNospace().check(at(nodes[0]), args)
    Defragment().act(at(nodes[2]), NoArgs(), {})
    step, ctx = DisarmNospace(), at(nodes[0])
    step.check(ctx, args)
    assert not step.is_done(ctx, args, None)
    step.act(ctx, args, {})
    step.prove(ctx, args, {})
    assert step.is_done(ctx, args, None)
    with nodes[1].client() as client:
        client.put(b"/after", b"there is space")


def test_little_history_is_left_alone(nodes: list[Node], at: Any) -> None:
    done = CompactHistory().act(at(nodes[0]), CompactArgs(keep=10**9), {})
    assert "leaves no history" in done["left"]


def test_no_room_for_a_second_file(
    nodes: list[Node], at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Host, "free", lambda _self, _path: (1000, 1000))
    with pytest.raises(PreconditionFailed, match="are needed"):
        Defragment().check(at(nodes[0]), NoArgs())


def test_corrupt_goes_only_with_its_member(nodes: list[Node], at: Any) -> None:
    with nodes[0].client() as client:
        listed = {m.name: m.id for m in client.members()}
        gone, leader = listed["m2"], client.status().leader_id
        leading = next(node for node in nodes if listed[node.config.name] == leader)
        if leading is not nodes[0]:  # a leader that is removed leaves an election behind
            with leading.client() as before:
                before.transfer_leadership(listed["m0"])
        body = {"action": "ACTIVATE", "memberID": str(int(gone, 16)), "alarm": "CORRUPT"}
        with Connection(nodes[0].endpoint, real_files(Host(), nodes[0].config.client_tls)) as line:
            line.call("POST", "/v3/maintenance/alarm", json.dumps(body).encode(), 5)
        with pytest.raises(EtcdError, match="corrupt"):
            client.put(b"/never", b"")
    step, ctx, args = ClearRemovedAlarm(), at(nodes[0]), RemovedArgs(gone)
    with pytest.raises(PreconditionFailed, match="is in the cluster") as refused:
        step.check(ctx, args)
    assert "fab rescue-node" in refused.value.next
    assert not step.is_done(ctx, args, None)
    remove(nodes[0], gone)
    nodes[2].stop()
    step.check(ctx, args)
    assert "2 members hold the same" in step.act(ctx, args, {})["seen"]
    step.prove(ctx, args, {})
    with nodes[1].client() as client:
        client.put(b"/again", b"writes work")
