"""Hosts from cluster.yaml, from -H, and from a member list."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import UsageError
from agent.model.facts import DbFacts, EtcdConfig, Member, OfflineFacts, OnlineFacts, Survey
from coordinator.connection import Access
from coordinator.hosts import HostSpec, checked_name, split_address
from coordinator.inventory import (
    Inventory,
    gather,
    hosts_from_members,
    load_inventory,
    with_names,
)
from coordinator.probe import probe_ports


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "cluster.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_whole_file(tmp_path: Path) -> None:
    (tmp_path / "ssh_config").write_text("")
    path = written(
        tmp_path,
        """
        cluster: production
        ssh: {user: core, jump: "ann@bastion:2022", config: ssh_config, connect_timeout: 2.5}
        hosts:
          - master-0
          - {name: master-1, address: 192.0.2.11, user: root, port: 2222, jump: none}
          - {name: master-2, address: "2001:db8::2"}
          - {name: here, transport: local}
        """,
    )
    inventory = load_inventory(path)
    jump = "ann@bastion:2022"
    assert inventory.cluster == "production"
    assert inventory.access == Access(str(tmp_path / "ssh_config"), 2.5)
    assert inventory.hosts == (
        HostSpec("master-0", "", "core", 0, jump),
        HostSpec("master-1", "192.0.2.11", "root", 2222, "none"),
        HostSpec("master-2", "2001:db8::2", "core", 0, jump),
        HostSpec("here", "", "core", 0, jump, "local"),
    )
    assert inventory.host("here").transport == "local"
    with pytest.raises(UsageError, match="no host 'x'"):
        inventory.host("x")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected keys and values"),
        ("[]", "expected keys and values"),
        ("hosts: []", "1 to 256 hosts"),
        ("hosts: {a: b}", "1 to 256 hosts"),
        ("hosts: [a]\nhost: b", "unknown key 'host'"),
        ("hosts: [a, a]", "a is there twice"),
        ("hosts: [a]\nhosts: [b]", "cluster.yaml:2: the key 'hosts' is there twice"),
        ("hosts: [no]", "expected keys and values, found bool"),
        ("hosts: [{address: a}]", r"hosts\[0\]: None is not a host name"),
        ("hosts: [a, {name: b, ip: c}]", r"hosts\[1\]: unknown key 'ip'"),
        ("hosts: [{name: a, port: 70000}]", "not a port"),
        ("hosts: [{name: a, port: '22'}]", "not a port"),
        ("hosts: [{name: a, user: 'x y'}]", "not a login name"),
        ("hosts: [{name: a, jump: '-oX=y'}]", "not a host name"),
        ("hosts: [{name: a, transport: telnet}]", "none of ssh, local"),
        ("hosts: ['a;reboot']", "not a host name"),
        ('hosts: ["a\\nb"]', "not a host name"),
        ("hosts: [-a]", "not a host name"),
        ("hosts: [ünter]", "not a host name"),
        ("hosts: [../a]", "not a host name"),
        ("hosts: [&x a, *x]", "aliases"),
        ("hosts: [a\n", "cluster.yaml:2:"),
        ("hosts: " + "[" * 5000, "levels deep"),
        ("hosts: " + "{a: " * 5000, "levels deep"),
        ("hosts: [!!python/object:os.system a]", "could not determine a constructor"),
        ("hosts: [a]\nssh: {config: nowhere}", "is not a file"),
        ("hosts: [a]\nssh: {config: 5}", "not a path"),
        ("hosts: [a]\nssh: {connect_timeout: never}", "not 0 to 60"),
        ("hosts: [a]\ncluster: 'a b'", "not a cluster name"),
        ("hosts: [2001-99-99]", "cluster.yaml"),
        ("#" * 1024 * 1024 + "\nhosts: [a]", "larger than"),
        (b"hosts: [\xff]", "not UTF-8 at offset 8"),
        ("hosts: [" + ", ".join(f"h{n}" for n in range(257)) + "]", "1 to 256 hosts"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load_inventory(written(tmp_path, text))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load_inventory(tmp_path / "cluster.yaml")


@given(st.binary(max_size=200))
def test_no_content_is_a_crash(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "random.yaml"
    path.write_bytes(b"hosts: " + data)
    with contextlib.suppress(UsageError):
        load_inventory(path)


# ---- -H ------------------------------------------------------------------------------------------


def test_names_on_the_command_line() -> None:
    known = Inventory((HostSpec("m1", "192.0.2.1", "core", 22), HostSpec("m2")))
    found = with_names(known, ["ann@m1:2222,m3", "[2001:db8::1]:22", "local"])
    assert found.hosts == (
        HostSpec("m1", "192.0.2.1", "ann", 2222),
        HostSpec("m3"),
        HostSpec("2001:db8::1", port=22),
        HostSpec("local", transport="local"),
    )


@pytest.mark.parametrize(
    "text",
    ["", ",", "a,,b", "a b", "-a", "a;b", "$(a)", "a\n", "a:b", "a:99999", "@a", "a@", "a,a", "::g",
     "a|b", "`a`", "'a'", "a\0", "a/b", "u$@a", "[a", "á"],
)  # fmt: skip
def test_names_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        with_names(Inventory(), [text])


@given(st.text())
def test_a_name_that_passes_is_harmless(text: str) -> None:
    try:
        name = checked_name(text)
    except UsageError:
        return
    assert name == text
    assert name.isascii()
    assert not name.startswith(("-", "."))
    assert not set(name) & set(" \t\n\0'\"`$;&|<>()[]{}*?!#~/\\")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("m1", ("", "m1", 0)),
        ("a@m1:22", ("a", "m1", 22)),
        ("dom\\ann@m1", ("dom\\ann", "m1", 0)),
        ("a@b@m1", ("a@b", "m1", 0)),
        ("[::1]:22", ("", "::1", 22)),
        ("[::1]", ("", "::1", 0)),
        ("fe80::1%eth0", ("", "fe80::1%eth0", 0)),
    ],
)
def test_addresses(text: str, parts: tuple[str, str, int]) -> None:
    if text == "fe80::1%eth0":
        with pytest.raises(UsageError):
            split_address("fe80::1%")
    assert split_address(text) == parts


def test_what_is_given_is_gathered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no hosts are given"):
        gather()
    assert gather(host="m3").hosts == (HostSpec("m3"),)
    assert gather(names=["m1,m2"], host="m3").hosts == (HostSpec("m1"), HostSpec("m2"))
    assert not gather(names=["m1"]).complete
    text = "hosts: [{name: m1, user: core}, m2]\nssh: {connect_timeout: 2}"
    path = written(tmp_path, text).rename(tmp_path / "other.yaml")
    found = gather(str(path), host="m2", ssh_config="/x")
    assert [spec.name for spec in found.hosts] == ["m1", "m2"]
    assert found.complete
    assert found.access == Access("/x", 2)
    found = gather(str(path), ["m1"])
    assert (found.hosts, found.complete) == ((HostSpec("m1", user="core"),), False)
    path.rename(tmp_path / "cluster.yaml")
    assert len(gather().hosts) == 2


# ---- members -------------------------------------------------------------------------------------


def member(number: int, name: str | None = None, host: str | None = None) -> Member:
    host = host or f"192.0.2.{number}"
    url = f"https://{host}:2380"
    return Member(f"{number:016x}", f"m{number}" if name is None else name, (url,))


def survey(
    online: tuple[Member, ...] = (), offline: tuple[Member, ...] = (), own: int = 1
) -> Survey:
    return Survey(
        format=1, agent_version="0", hostname="m1", machine_id="", boot_id="", time=0.0,
        platform="kubeadm", addresses=("192.0.2.1",), duration_ms=1,
        config=EtcdConfig("", "", "m1", "/var/lib/etcd"),
        online=OnlineFacts("https://127.0.0.1:2379", bool(online), members=online,
                           member_id=f"{own:016x}" if online else ""),
        offline=OfflineFacts("/var/lib/etcd", True, db=DbFacts(0, 0, 0, 0, 0, 0, members=offline)),
    )  # fmt: skip


@pytest.fixture
def access(tmp_path: Path) -> Access:
    config = tmp_path / "config"
    config.write_text(
        "Host m1\n  User core\n  Port 2022\n  ProxyJump bastion\n"
        "Host m2\n  HostName 198.51.100.2\n  User ann\n  Port 2222\n  ProxyJump other\n"
    )
    return Access(config=str(config))


FIRST = HostSpec("m1")


def test_the_other_members_are_found_and_take_over_what_is_not_configured(access: Access) -> None:
    found = hosts_from_members(survey(online=(member(1), member(2), member(3))), FIRST, access)
    assert found == [
        HostSpec("m2"),
        HostSpec("m3", "192.0.2.3", "core", 2022, "bastion"),
    ]


def test_what_the_first_host_was_given_is_given_to_the_others(access: Access) -> None:
    first = HostSpec("m1", "203.0.113.1", "root", 22, "none")
    found = hosts_from_members(survey(offline=(member(1), member(3))), first, access)
    assert found == [HostSpec("m3", "192.0.2.3", "root", 22, "none")]


def test_a_running_etcd_is_asked_before_its_files(access: Access) -> None:
    found = hosts_from_members(
        survey(online=(member(1), member(3)), offline=(member(1), member(4))), FIRST, access
    )
    assert [spec.name for spec in found] == ["m3"]


@pytest.mark.parametrize(
    ("others", "names"),
    [
        ((member(5, ""),), ["192.0.2.5"]),
        ((member(5, "a;reboot"),), ["192.0.2.5"]),
        ((member(5, "-oX"),), ["192.0.2.5"]),
        ((member(5, "x", "2001:db8::5".join("[]")),), ["x"]),
        ((member(5, "x"), member(6, "x")), ["x", "192.0.2.6"]),
        ((member(5, "m1"),), ["192.0.2.5"]),
        ((member(5, "", "a;b"),), []),
        (
            (Member("5", "", ("not a url",)), Member("6", "", ()), Member("7", "", ("http://[",))),
            [],
        ),
    ],
)
def test_odd_members(access: Access, others: tuple[Member, ...], names: list[str]) -> None:
    found = hosts_from_members(survey(online=(member(1), *others)), FIRST, access)
    assert [spec.name for spec in found] == names


def test_the_name_under_which_the_first_host_was_given_does_not_matter(access: Access) -> None:
    given_by_address = HostSpec("192.0.2.1")
    found = hosts_from_members(survey(offline=(member(1), member(3))), given_by_address, access)
    assert [spec.name for spec in found] == ["m3"]


def test_a_name_that_resolves_is_left_to_the_resolver(access: Access) -> None:
    found = hosts_from_members(survey(online=(member(1), member(5, "localhost"))), FIRST, access)
    assert (found[0].name, found[0].address) == ("localhost", "")


def test_no_members_no_hosts(access: Access) -> None:
    assert hosts_from_members(survey(), FIRST, access) == []


# ---- ports ---------------------------------------------------------------------------------------


def test_open_closed_and_silent_ports_are_told_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        opened, closed = server.getsockname()[1], unused.getsockname()[1]
        sighting = probe_ports("127.0.0.1", (closed, opened), 1.0)
    assert (sighting.open_ports, sighting.closed_ports) == ((opened,), (closed,))
    assert sighting.seen_from == socket.gethostname()


@pytest.mark.parametrize("address", ["no-such-host.invalid", "192.0.2.1", "a" * 300])
def test_no_answer_is_neither_and_ends_in_time(address: str) -> None:
    started = time.monotonic()
    sighting = probe_ports(address, (random.randint(40000, 50000),), 0.3)
    assert time.monotonic() - started < 1.5
    assert sighting.open_ports == ()


def test_another_inventory_in_place_of_cluster_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "hosts: [other]")
    (tmp_path / "hosts").write_text("[etcd]\nm[0:2] ansible_port=2222\n")
    inventory = gather(source="ansible:hosts")
    assert [spec.name for spec in inventory.hosts] == ["m0", "m1", "m2"]
    assert not inventory.complete, "the members may name more"
    (chosen,) = gather(source="ansible:hosts", names=["ann@m1"]).hosts
    assert chosen == HostSpec("m1", "", "ann", 2222)
    with pytest.raises(UsageError, match="--hosts-from and --cluster"):
        gather("cluster.yaml", source="ansible:hosts")
    (tmp_path / "hosts").write_text("[etcd]\nm[0:299]\n")
    with pytest.raises(UsageError, match="300 hosts"):
        gather(source="ansible:hosts")


def test_what_is_found_through_a_host_takes_its_key() -> None:
    told = survey(online=(Member("b", "x", ("https://192.0.2.2:2380",)),))
    (found,) = hosts_from_members(told, HostSpec("m0", "192.0.2.1", key="/none", transport="local"))
    assert found.key == "/none"


@pytest.mark.parametrize(
    ("url", "known"),
    [
        ("https://192.0.2.2:2380", "192.0.2.2"),
        ("https://[2001:db8::2]:2380", "2001:db8:0:0::2"),
        ("https://[2001:DB8:0:0::2]:2380", "2001:db8::2"),
        ("https://Master-2.example.com:2380", "master-2.EXAMPLE.com"),
    ],
)
def test_a_member_at_a_known_address_is_no_other_host(url: str, known: str) -> None:
    told = survey(online=(Member("b", "another-name", (url,)),))
    model = HostSpec("m0", "192.0.2.1", transport="local")
    assert len(hosts_from_members(told, model)) == 1
    assert hosts_from_members(told, model, addresses=[known]) == []
