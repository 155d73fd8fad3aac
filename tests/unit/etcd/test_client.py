"""etcd's API as a real etcd of each version at hand answers it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from agent.etcd.answers import KvHash, parse_hash
from agent.etcd.client import (
    Condition,
    EtcdClient,
    EtcdError,
    peer_hash_kv,
    peer_members,
    prefix_end,
)
from agent.etcd.transport import RealFiles, real_files
from agent.host import Host
from agent.model.facts import Alarm
from agent.survey.online import read_online
from tests.unit.etcd_lab import (
    Node,
    Pki,
    Plain,
    etcd_binaries,
    free_port,
    make_nodes,
    needs_etcd,
    running,
    silent_port,
)

pytestmark = needs_etcd()


GATEWAY_OFF = ("--enable-grpc-gateway=false",)
WAYS = [(binary, extra) for binary in etcd_binaries() for extra in ((), GATEWAY_OFF)]


@pytest.fixture(
    scope="module",
    params=WAYS,
    ids=lambda way: f"{Path(way[0]).parent.name}-{'gRPC' if way[1] else 'gateway'}",
)
def node(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Node]:
    """One member; everything is asked of it through its gateway, and by gRPC where that is off."""
    binary, extra = request.param
    with running(tmp_path_factory.mktemp("one"), binary, Plain(extra=extra)) as nodes:
        yield nodes[0]


@pytest.fixture
def client(node: Node) -> Iterator[EtcdClient]:
    with node.client() as client:
        yield client


def test_status_and_members_agree_about_who_this_is(client: EtcdClient, node: Node) -> None:
    status = client.status()
    (member,) = client.members()
    assert status.member_id == status.leader_id == member.id
    assert len(status.cluster_id) == 16
    assert (member.name, member.peer_urls) == ("m0", (node.peer_url,))
    assert client.version() == status.version
    assert status.raft_term >= 2
    assert status.applied_index <= status.raft_index
    assert not status.is_learner
    assert client.members(linearizable=False) == (member,)


def test_what_is_put_is_found_counted_and_deleted(client: EtcdClient) -> None:
    value = bytes(range(256))
    before = client.put(b"/a/0", b"")
    assert client.put(b"/a/\xff", value) == before + 1
    found = client.get(b"/a/\xff")
    assert found is not None
    assert (found.value, found.mod_revision) == (value, before + 1)
    assert client.get(b"/a/none") is None
    assert client.count(b"/a/") == client.count(b"/a/", serializable=True) == 2
    everything = client.range(b"/a/", prefix_end(b"/a/"), limit=1)
    assert (len(everything.kvs), everything.count, everything.revision) == (1, 2, before + 1)
    assert client.range(b"/a/", prefix_end(b"/a/"), keys_only=True).kvs[1].value == b""
    assert client.delete(b"/a/", prefix_end(b"/a/")) == 2
    assert client.count(b"/a/") == 0


def test_compacted_history_is_gone_and_defragmenting_works(client: EtcdClient) -> None:
    first = client.put(b"k", b"1")
    last = client.put(b"k", b"2")
    client.compact(last, physical=True)
    with pytest.raises(EtcdError) as caught:
        client.range(b"k", revision=first)
    assert caught.value.condition is Condition.COMPACTED
    client.defragment()
    assert client.linearizable_read()
    assert client.serializable_read()


def peer_files(node: Node) -> RealFiles:
    return real_files(Host(), node.config.peer_tls)


def test_the_hash_at_one_revision_is_the_same_by_both_ways(client: EtcdClient, node: Node) -> None:
    revision = client.put(b"h", b"1")
    by_peer = peer_hash_kv(node.peer_url, peer_files(node), revision)
    client.put(b"h", b"2")
    assert peer_hash_kv(node.peer_url, peer_files(node), revision).hash == by_peer.hash
    # Measured: 3.4.23 and 3.5.1 have no hashkv at their gateway; 3.5.16, 3.5.30, 3.6 do; by gRPC
    # all have it.
    is_new = tuple(int(part) for part in client.version().split(".")) >= (3, 5, 16)
    if is_new or GATEWAY_OFF[0] in node.extra:
        assert client.hash_kv(revision).hash == by_peer.hash
    else:
        with pytest.raises(EtcdError) as caught:
            client.hash_kv(revision)
        assert caught.value.condition is Condition.UNSUPPORTED


def test_the_peer_port_tells_the_membership(client: EtcdClient, node: Node) -> None:
    view = peer_members(node.peer_url, peer_files(node))
    assert view.members == client.members()
    assert view.cluster_id == client.status().cluster_id


def test_member_changes_and_their_refusals(client: EtcdClient) -> None:
    learner = client.member_add(["http://127.0.0.1:1"], learner=True)
    apply = 0.3  # raft drops a change while the one before is not applied; see EtcdClient
    time.sleep(apply)
    try:
        assert learner.is_learner
        assert learner in client.members()
        with pytest.raises(EtcdError) as caught:
            client.member_promote(learner.id)
        assert caught.value.is_not_in_sync
        assert caught.value.code == 9
        with pytest.raises(EtcdError) as caught:
            client.member_add(["http://127.0.0.1:2"], learner=True)
        assert caught.value.condition is Condition.TOO_MANY_LEARNERS
        time.sleep(apply)
        with pytest.raises(EtcdError) as caught:
            client.member_add(["http://127.0.0.1:1"], learner=True)
        assert caught.value.condition is Condition.MEMBER_EXISTS
        time.sleep(apply)
        after = client.member_update(learner.id, ["http://127.0.0.1:3"])
        assert ("http://127.0.0.1:3",) in [m.peer_urls for m in after or client.members()]
    finally:
        time.sleep(apply)
        client.member_remove(learner.id)
        time.sleep(apply)
    assert len(client.members()) == 1
    with pytest.raises(EtcdError) as caught:
        client.member_remove("00000000000000ff")
    assert caught.value.condition is Condition.MEMBER_NOT_FOUND
    with pytest.raises(EtcdError) as caught:
        client.member_promote(client.status().member_id)
    assert caught.value.condition is Condition.NOT_LEARNER


def test_an_unknown_client_certificate_is_a_tls_error(node: Node, tmp_path: Path) -> None:
    stranger = Pki(tmp_path).issue("stranger")
    files = RealFiles(stranger.cert, stranger.key, node.config.client_tls.ca)
    with pytest.raises(EtcdError) as caught:
        EtcdClient(node.endpoint, files, 2).status()
    assert caught.value.condition is Condition.TLS


def test_a_server_of_another_ca_is_refused(node: Node, tmp_path: Path) -> None:
    files = RealFiles(
        node.config.client_tls.cert, node.config.client_tls.key, Pki(tmp_path).ca_path
    )
    with pytest.raises(EtcdError) as caught:
        EtcdClient(node.endpoint, files, 2).status()
    assert caught.value.condition is Condition.TLS
    assert "does not verify" in caught.value.seen
    assert caught.value.exit_code == 4


def test_a_certificate_for_another_name_is_refused(node: Node) -> None:
    port = node.endpoint.rsplit(":", 1)[1]
    with pytest.raises(EtcdError, match=r"not valid for|mismatch") as caught:
        EtcdClient(
            f"https://localhost:{port}", real_files(Host(), node.config.client_tls), 2
        ).status()
    assert caught.value.condition is Condition.TLS


@pytest.mark.parametrize(
    "files", [RealFiles(ca="/nowhere/ca.crt"), RealFiles("/no.crt", "/no.key")]
)
def test_a_missing_file_is_named(node: Node, files: RealFiles) -> None:
    with pytest.raises(EtcdError) as caught:
        EtcdClient(node.endpoint, files, 2).status()
    assert "No such file" in caught.value.seen
    assert "/no" in caught.value.seen


def test_a_gateway_that_cannot_log_in_is_gone_around(node: Node, tmp_path: Path) -> None:
    """A server certificate without clientAuth serves all clients but etcd's own gateway."""
    (other,) = make_nodes(tmp_path, node.binary, Plain())
    pki = Pki(tmp_path / "other-pki")
    other.config = replace(
        other.config,
        server_tls=pki.issue("server", usages=(ExtendedKeyUsageOID.SERVER_AUTH,)),
        peer_tls=pki.issue("peer"),
        client_tls=pki.issue("client", sans=()),
    )
    other.start()
    try:
        with other.client() as client:
            _wait(client.health)
            assert client.put(b"written", b"first")  # not sent to who may hang up in the middle
            assert client.linearizable_read()
            assert client.version() == client.status().version
        facts = read_online(Host("/"), other.config)
    finally:
        other.stop()
    assert facts.answers
    assert facts.linearizable
    assert [m.id for m in facts.members] == [facts.member_id]
    assert facts.error == ""


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while True:
        with contextlib.suppress(EtcdError):
            if until():
                return
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_kept_alive_connection_that_the_server_closed_is_made_anew(node: Node) -> None:
    with node.client() as client:
        first = client.status().member_id
        node.stop()
        node.start()
        node.wait_healthy()
        assert client.status().member_id == first


def test_an_alarm_is_seen_in_the_status_and_disarmed(node: Node, tmp_path: Path) -> None:
    small = Plain(tls=False, extra=("--quota-backend-bytes=1000000",))
    with running(tmp_path, node.binary, small) as (other,), other.client() as client:
        with pytest.raises(EtcdError) as caught:
            _fill(client)
        assert caught.value.condition is Condition.NO_SPACE
        alarms = (Alarm(client.status().member_id, "NOSPACE"),)
        assert client.status().alarms == client.alarms() == alarms
        client.alarm_disarm(alarms[0])
        assert client.alarms() == ()


def _fill(client: EtcdClient) -> None:
    for i in range(100):
        client.put(f"{i}".encode(), b"x" * 100_000)


def test_three_members_without_two_of_them(node: Node, tmp_path: Path) -> None:
    with running(tmp_path, node.binary, Plain(size=3)) as nodes:
        with nodes[0].client() as client:
            leader = next(n for n in nodes if _is_leader(n))
            other = next(n for n in nodes if n is not leader)
            with leader.client() as at_leader, other.client() as at_other:
                with pytest.raises(EtcdError) as caught:
                    at_other.transfer_leadership(at_leader.status().member_id)
                assert caught.value.condition is Condition.NOT_LEADER
                at_leader.transfer_leadership(at_other.status().member_id)
                assert at_other.status().leader_id == at_other.status().member_id
            client.put(b"before", b"1")
            for gone in nodes[1:]:
                gone.stop()
            began = time.monotonic()
            assert not client.linearizable_read(timeout=0.4)
            assert time.monotonic() - began < 0.6
            assert client.serializable_read()
            assert client.status().revision == 2
            assert len(client.members(linearizable=False)) == 3
            with pytest.raises(EtcdError) as caught:
                client.put(b"x", b"y", timeout=0.4)
            assert caught.value.is_quorum_missing
            assert caught.value.sent
        view = peer_members(nodes[0].peer_url, peer_files(nodes[0]))
        assert {m.name for m in view.members} == {"m0", "m1", "m2"}


def _is_leader(node: Node) -> bool:
    with node.client() as client:
        status = client.status()
    return status.leader_id == status.member_id


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_port_that_never_answers_costs_no_more_than_the_timeout(scheme: str) -> None:
    with silent_port() as port:
        began = time.monotonic()
        with pytest.raises(EtcdError) as caught:
            EtcdClient(f"{scheme}://127.0.0.1:{port}", RealFiles(), 0.3).status()
        assert 0.25 < time.monotonic() - began < 0.5
    assert caught.value.condition is Condition.TIMEOUT
    assert caught.value.sent == (scheme == "http")


def test_a_closed_port_is_unreachable() -> None:
    with pytest.raises(EtcdError) as caught:
        EtcdClient(f"http://127.0.0.1:{free_port()}", RealFiles(), 1).status()
    assert caught.value.condition is Condition.UNREACHABLE
    assert not caught.value.sent


@pytest.mark.parametrize("never", [-1, "-1"])
def test_a_history_that_was_never_compacted_is_hashed_too(never: object) -> None:
    told = {"header": {"revision": 3}, "hash": 3995142993, "compact_revision": never}
    assert parse_hash(told, 3) == KvHash(3995142993, 3, -1)
