"""What a real etcd says of itself, with and without a quorum, and how long asking takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.etcd.transport import RealFiles, real_files
from agent.host import Host
from agent.model.facts import EtcdConfig, OnlineFacts
from agent.survey.online import local_endpoint, local_endpoints, probe, read_online, sight
from tests.unit.etcd_lab import (
    Node,
    Plain,
    etcd_binaries,
    free_port,
    needs_etcd,
    running,
    silent_port,
)

HOST = Host("/")


@pytest.fixture(scope="module", params=etcd_binaries(), ids=lambda p: str(Path(p).parent.name))
def three(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Node]]:
    with running(tmp_path_factory.mktemp("three"), request.param, Plain(size=3)) as nodes:
        yield nodes


def timed(config: EtcdConfig, timeout: float = 0.8) -> tuple[OnlineFacts, float]:
    began = time.monotonic()
    facts = read_online(HOST, config, timeout)
    return facts, time.monotonic() - began


def config_with(urls: tuple[str, ...], **flags: str) -> EtcdConfig:
    return EtcdConfig(
        definition="/etc/kubernetes/manifests/etcd.yaml",
        sha256="",
        name="m0",
        data_dir="/var/lib/etcd",
        listen_client_urls=urls,
        advertise_client_urls=("https://10.0.0.1:2379",),
        flags={name.replace("_", "-"): value for name, value in flags.items()},
    )


@pytest.mark.parametrize(
    ("urls", "flags", "expected"),
    [
        (("https://10.0.0.1:2379", "https://127.0.0.1:2379"), {},
         ("https://127.0.0.1:2379", "https://10.0.0.1:2379")),
        (("https://0.0.0.0:2379",), {}, ("https://127.0.0.1:2379", "https://10.0.0.1:2379")),
        (("https://[::]:2379",), {}, ("https://[::1]:2379", "https://10.0.0.1:2379")),
        (("https://[fd00::1]:2379",), {}, ("https://[fd00::1]:2379",)),
        (("https://127.0.0.1:2379",), {"listen_client_http_urls": "http://127.0.0.1:2382"},
         ("http://127.0.0.1:2382",)),
        (("unix:///run/etcd.sock",), {}, ()),
        ((), {}, ()),
    ],
)  # fmt: skip
def test_the_endpoint_is_chosen(
    urls: tuple[str, ...], flags: dict[str, str], expected: tuple[str, ...]
) -> None:
    config = config_with(urls, **flags)
    assert local_endpoints(config) == expected
    if expected:
        assert local_endpoint(config) == expected[0]
    else:
        assert "no http(s) URL" in read_online(HOST, config).error


@needs_etcd()
def test_a_healthy_member(three: list[Node]) -> None:
    facts, seconds = timed(three[0].config)
    assert seconds < 0.5
    assert facts.answers
    assert facts.linearizable
    assert facts.error == ""
    assert facts.endpoint == three[0].endpoint
    assert {m.name for m in facts.members} == {"m0", "m1", "m2"}
    assert facts.member_id in {m.id for m in facts.members}
    assert facts.leader_id in {m.id for m in facts.members}
    assert facts.version.startswith("3.")
    assert facts.applied_index > 0
    assert facts.alarms == ()


@needs_etcd()
def test_seen_from_outside(three: list[Node]) -> None:
    closed = free_port()
    config = three[0].config
    files = real_files(Host(), config.client_tls)
    urls = (config.listen_client_urls[0], config.listen_peer_urls[0], f"https://127.0.0.1:{closed}")
    ports = sorted(int(url.rsplit(":", 1)[1]) for url in urls[:2])
    seen = probe(urls, files, "here")
    assert (seen.open_ports, seen.closed_ports) == (tuple(ports), (closed,))
    assert seen.linearizable
    assert not probe(urls[1:], files).linearizable
    assert not probe(urls, RealFiles()).linearizable
    assert probe(urls, RealFiles()).open_ports == tuple(ports)


@needs_etcd()
def test_the_peer_port_speaks_where_the_client_port_is_silent(three: list[Node]) -> None:
    """As an etcd restarted after the loss of its quorum: clients connect and get no answer."""
    with silent_port() as port:
        config = replace(three[0].config, listen_client_urls=(f"https://127.0.0.1:{port}",))
        facts, seconds = timed(config)
    assert seconds < 1.0  # 0.8 and what a busy machine adds
    assert not facts.answers
    assert {m.name for m in facts.members} == {"m0", "m1", "m2"}
    assert len(facts.cluster_id) == 16
    assert "TLS handshake" in facts.error


@needs_etcd()
def test_the_next_address_is_asked_where_the_certificate_lacks_the_first(three: list[Node]) -> None:
    config = three[0].config
    port = config.listen_client_urls[0].rsplit(":", 1)[1]
    urls = (f"https://localhost:{port}", *config.listen_client_urls)
    swapped = replace(config, listen_client_urls=urls, advertise_client_urls=urls)
    assert read_online(HOST, swapped).answers


@needs_etcd()
def test_without_a_certificate_the_error_says_so(three: list[Node]) -> None:
    bare = replace(three[0].config.client_tls, cert="", key="")
    facts, _ = timed(replace(three[0].config, client_tls=bare))
    assert not facts.answers
    assert "certificate" in facts.error


@needs_etcd()
def test_without_quorum_all_but_the_read_through_it(three: list[Node]) -> None:
    """Last of the cluster's tests: it leaves one member restarted after the loss."""
    three[1].stop()
    three[2].stop()
    deadline = time.monotonic() + 5
    while True:
        facts, seconds = timed(three[0].config)
        assert seconds < 1.0  # 0.8 and what a busy machine adds
        if not facts.linearizable and not facts.leader_id:
            break
        assert time.monotonic() < deadline
    assert facts.answers
    assert "quorum" in facts.error
    assert len(facts.members) == 3
    three[0].stop()
    three[0].start()
    time.sleep(1.5)
    facts, seconds = timed(three[0].config)
    assert seconds < 1.0  # 0.8 and what a busy machine adds
    assert not facts.linearizable
    assert len(facts.members) == 3, facts.error


@pytest.mark.parametrize("timeout", [0.3, 0.8])
def test_silent_ports_cost_no_more_than_the_timeout(timeout: float) -> None:
    with silent_port() as client, silent_port() as peer:
        config = replace(
            config_with((f"https://127.0.0.1:{client}",)),
            listen_peer_urls=(f"https://127.0.0.1:{peer}",),
        )
        facts, seconds = timed(config, timeout)
        assert seconds < timeout + 0.2
        assert not facts.answers
        seen = probe((f"https://127.0.0.1:{client}",), RealFiles(), timeout=timeout)
        assert seen.open_ports == (client,)


def test_nothing_running_is_quick_and_says_refused() -> None:
    port = free_port()
    facts, seconds = timed(config_with((f"http://127.0.0.1:{port}",)))
    assert seconds < 0.3
    assert not facts.answers
    assert "refused" in facts.error
    assert "quorum" not in facts.error


def test_a_host_without_etcd_can_still_look_at_ports(tmp_path: Path) -> None:
    closed = free_port()
    with silent_port() as port:
        seen = sight(Host(str(tmp_path)), "127.0.0.1", (port, closed), timeout=0.3)
    assert (seen.address, seen.open_ports, seen.closed_ports) == ("127.0.0.1", (port,), (closed,))
    assert not seen.linearizable
