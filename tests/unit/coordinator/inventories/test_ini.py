"""Ansible's ini inventory: tables from its documentation, other people's files, any input."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import UsageError
from coordinator.inventories.groups import plain_text
from coordinator.inventories.ini import parse_ini
from coordinator.inventories.patterns import MAX_RANGE, expand

FIXTURES = Path("../shared/fixtures/ocp311-inventory")

WHOLE = """\
# a comment
; another
lonely ansible_port=2200

[OSEv3:children]
masters
etcd   # trailing
nodes\t

[OSEv3:vars]
ansible_ssh_user = root
identity = [{ "name": "a b", "x": "y=z" }]
quoted="with # no comment"

[masters]
master[0:2].example.com  openshift_ip=192.168.3.100 labels="{'region': 'infra'}" # said

[etcd]
master[0:2].example.com

[nodes]
master[0:2].example.com
node-[a:c]:2222

[nodes:vars]
ansible_ssh_user=core
"""


def test_a_whole_file() -> None:
    found = parse_ini(WHOLE.encode(), "hosts")
    masters = tuple(f"master{n}.example.com" for n in range(3))
    assert found.hosts_of("masters") == found.hosts_of("etcd") == masters
    assert found.hosts_of("OSEv3") == (*masters, "node-a", "node-b", "node-c")
    assert found.hosts_of("ungrouped") == ("lonely",)
    assert set(found.hosts_of("all")) == {*found.hosts_of("OSEv3"), "lonely"}
    assert found.hosts_of("nobody") == ()
    first = found.variables_of(masters[0])
    assert first["openshift_ip"] == "192.168.3.100"
    assert first["labels"] == "{'region': 'infra'}"
    assert first["identity"] == '[{ "name": "a b", "x": "y=z" }]'
    assert plain_text(first["quoted"]) == "with # no comment"
    assert first["ansible_ssh_user"] == "core", "the inner group's word counts"
    assert found.variables_of("node-b")["ansible_port"] == "2222"
    assert found.variables_of("lonely") == {"ansible_port": "2200"}


@pytest.mark.parametrize(
    ("pattern", "names", "port"),
    [
        ("master-0", ["master-0"], 0),
        ("master-0:2222", ["master-0"], 2222),
        ("192.0.2.1:22", ["192.0.2.1"], 22),
        ("2001:db8::1", ["2001:db8::1"], 0),
        ("[2001:db8::1]:2222", ["2001:db8::1"], 2222),
        ("[fe80::1%eth0]", ["fe80::1%eth0"], 0),
        ("m[0:2]", ["m0", "m1", "m2"], 0),
        ("m[:2]", ["m0", "m1", "m2"], 0),
        ("m[1:6:2].x:23", ["m1.x", "m3.x", "m5.x"], 23),
        ("m[08:11]", ["m08", "m09", "m10", "m11"], 0),
        ("[a:c]x", ["ax", "bx", "cx"], 0),
        ("r[1:2]n[1:2]", ["r1n1", "r1n2", "r2n1", "r2n2"], 0),
    ],
)
def test_patterns(pattern: str, names: list[str], port: int) -> None:
    assert expand(pattern) == (names, port)


@pytest.mark.parametrize(
    "pattern",
    ["m[2:0]", "m[0:x]", "m[01:100]", "m[0:1:0]", "m[", "m[1]", "m[0:99999999]", "m[z:a]",
     "m[0:999][0:999]", "m[0:9999999999999999999999]"],
)  # fmt: skip
def test_ranges_that_are_none(pattern: str) -> None:
    with pytest.raises(UsageError):
        expand(pattern)


@given(st.integers(0, 5000), st.integers(0, 300), st.integers(1, 9))
def test_every_number_of_a_range_is_there_once(low: int, more: int, step: int) -> None:
    names, _port = expand(f"h[{low}:{low + more}:{step}]")
    assert names == [f"h{n}" for n in range(low, low + more + 1, step)]
    assert len(names) <= MAX_RANGE


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[masters\nm", "hosts:1"),
        ("[a]\nm\n[a:kids]\n", "hosts:3"),
        ("[a:children]\nb\n", "hosts:2: .*no group"),
        ("[a:vars]\nx=1\n", "hosts:1: .*no group a"),
        ("[a]\nm x\n", "hosts:2: expected key=value"),
        ("[a]\nm x='y\n", "hosts:2"),
        ("[a]\nm\n[a:vars]\nnothing\n", "hosts:4: expected key=value"),
        ("[a]\nm[0:9999]\n" * 3, "hosts:.*hosts"),
    ],
)
def test_what_does_not_fit_is_told_with_its_line(text: str, line: str) -> None:
    with pytest.raises(UsageError, match=line):
        parse_ini(text.encode(), "hosts")


def test_groups_in_a_circle_end() -> None:
    found = parse_ini(b"[a:children]\nb\n[b:children]\na\n[b]\nm\n[a:vars]\nx=1\n", "hosts")
    assert found.hosts_of("a") == ("m",)
    assert found.variables_of("m")["x"] == "1"


def test_a_deep_chain_of_groups_is_no_trouble() -> None:
    text = "".join(f"[g{n}:children]\ng{n + 1}\n" for n in range(900)) + "[g900]\nm\n"
    found = parse_ini(text.encode(), "hosts")
    assert found.hosts_of("g0") == ("m",)


@given(st.binary(max_size=400) | st.text("[]:=#;\n\"' amx0123", max_size=200).map(str.encode))
def test_any_input_is_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(UsageError):
        found = parse_ini(data, "hosts")
        assert set(found.hosts_of("all")) == set(found.host_vars)


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="other people's files are not here")
def test_files_of_real_installations() -> None:
    read = {p.name[:2]: parse_ini(p.read_bytes(), p.name) for p in FIXTURES.glob("*.ini")}
    assert read["07"].hosts_of("etcd") == ("master",)
    assert read["07"].variables_of("node0")["glusterfs_devices"] == (
        '[ "/dev/vdb", "/dev/vdc", "/dev/vdd" ]'
    )
    assert read["09"].hosts_of("etcd") == ("master.foo.com",)
    assert read["09"].variables_of("master.foo.com")["ansible_ssh_user"] == "vagrant"
    for found in read.values():
        assert found.hosts_of("masters")
        assert found.hosts_of("etcd")
