"""Hosts out of ini and yaml inventories: which group, and how each is reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import UsageError
from coordinator.hosts import HostSpec
from coordinator.inventories.ansible import hosts_from_inventory, read_groups
from coordinator.inventories.choose import hosts_from
from coordinator.inventories.yaml_groups import parse_yaml_groups

FIXTURES = Path("../shared/fixtures/ocp311-inventory")

YAML = """\
all:
  vars: {ansible_user: core}
  hosts:
    bastion: {ansible_host: 192.0.2.1}
  children:
    kube_control_plane:
      hosts:
        master[0:1]:
        master9: {ansible_host: "2001:db8::9", ansible_port: 2222, secret: !vault "x"}
      vars:
        ansible_ssh_common_args: -o ProxyCommand="ssh -W %h:%p -q -p 2022 ann@bastion"
    etcd:
      children:
        kube_control_plane:
    kube_node: {hosts: "node[0:3]"}
"""


def test_a_yaml_inventory(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_text(YAML)
    assert hosts_from(f"ansible:{path}") == (
        HostSpec("master0", user="core", jump="ann@bastion:2022"),
        HostSpec("master1", user="core", jump="ann@bastion:2022"),
        HostSpec("master9", "2001:db8::9", "core", 2222, "ann@bastion:2022"),
    )
    assert len(hosts_from(f"ansible:{path}:kube_node")) == 4
    with pytest.raises(UsageError, match="no hosts in nobody"):
        hosts_from(f"ansible:{path}:nobody")


@pytest.mark.parametrize(
    ("variables", "spec"),
    [
        ("", HostSpec("m")),
        ("ansible_connection=local", HostSpec("m", transport="local")),
        ("ansible_host=192.0.2.7 ansible_port=2022", HostSpec("m", "192.0.2.7", port=2022)),
        ("ansible_ssh_host=192.0.2.7 ansible_ssh_user=ann", HostSpec("m", "192.0.2.7", "ann")),
        ("ansible_host=[2001:db8::7]", HostSpec("m", "2001:db8::7")),
        ("ansible_ssh_private_key_file=/k", HostSpec("m", key="/k")),
        ("ansible_ssh_common_args='-J ann@b:2022,c'", HostSpec("m", jump="ann@b:2022,c")),
        ("ansible_ssh_common_args='-o ProxyJump=b'", HostSpec("m", jump="b")),
        ("ansible_ssh_extra_args='-oProxyJump=b -q'", HostSpec("m", jump="b")),
        (
            "ansible_ssh_common_args='-o ProxyCommand=\"ssh -l ann -W %h:%p b\"'",
            HostSpec("m", jump="ann@b"),
        ),
        ("ansible_password=hunter2 ansible_become=true", HostSpec("m")),
    ],
)
def test_how_a_host_is_reached(tmp_path: Path, variables: str, spec: HostSpec) -> None:
    path = tmp_path / "hosts"
    path.write_text(f"[etcd]\nm {variables}\n")
    assert hosts_from_inventory(path) == (spec,)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("m ansible_host='{{ ip }}'", "a template"),
        ("m ansible_port=no", "not a port"),
        ("m ansible_connection=winrm", "winrm"),
        ("m ansible_user='a;b'", "login name"),
        ("m ansible_host='a b'", "not a address"),
        ("-oProxyCommand=x", "not a host name"),
        ("m ansible_ssh_common_args='-o ProxyCommand=nc'", "understood"),
        ("m ansible_ssh_common_args='-J -oProxyCommand=x'", "not a host name"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "hosts"
    path.write_text(f"[etcd]\n{line}\n")
    with pytest.raises(UsageError, match=said) as caught:
        hosts_from_inventory(path)
    assert "hosts" in caught.value.seen


def test_the_hosts_of_etcd_come_before_those_of_masters(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("[masters]\nm[0:2]\n[etcd]\ne[0:2]\n")
    assert [spec.name for spec in hosts_from_inventory(path)] == ["e0", "e1", "e2"]
    path.write_text("[masters]\nm[0:2]\n[etcd]\n")
    assert [spec.name for spec in hosts_from_inventory(path)] == ["m0", "m1", "m2"]


def test_a_program_is_not_run(tmp_path: Path) -> None:
    path, mark = tmp_path / "hosts", tmp_path / "ran"
    path.write_text(f"#!/bin/sh\ntouch {mark}\n")
    path.chmod(0o755)
    with pytest.raises(UsageError, match="a program") as caught:
        read_groups(path)
    assert "ansible-inventory" in caught.value.next
    assert not mark.exists()


@pytest.mark.parametrize("text", ["- a\n", "all: [x]\n", "all: {hosts: 3}\n", "a: &x {}\nb: *x\n"])
def test_yaml_that_is_no_inventory(text: str) -> None:
    with pytest.raises(UsageError, match=r"^hosts\.yaml"):
        parse_yaml_groups(text.encode(), "hosts.yaml")


@pytest.mark.parametrize("source", ["", "kubectl", "ansible", "ansible:", "ansible:/no/such/file"])
def test_sources_that_are_none(source: str) -> None:
    with pytest.raises(UsageError):
        hosts_from(source)


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="other people's files are not here")
def test_a_real_yaml_inventory_with_ranges() -> None:
    path = next(FIXTURES.glob("04-*.yaml"))
    assert hosts_from_inventory(path) == tuple(
        HostSpec(f"master{n}.example.com", user="root") for n in range(3)
    )
