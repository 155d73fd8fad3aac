"""A host leaves groups of an ini inventory: its lines, its place in ranges, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import Refused, UsageError
from coordinator.inventories.edit_ini import named, without_host
from coordinator.inventories.ini import parse_ini

FIXTURES = Path(__file__).resolve().parents[5] / "shared/fixtures/ocp311-inventory"
GROUPS = ("masters", "nodes", "etcd")
TEXT = """\
[OSEv3:children]
masters
nodes
etcd

[OSEv3:vars]
# master-1.example.com is in a comment
openshift_master_identity_providers=[{'name': 'x', 'kind': 'HTPasswd'}]

[masters]
# the first
master-0.example.com openshift_ip=192.0.2.8
master-1.example.com openshift_ip=192.0.2.12   # rack 2
#master-2.example.com

[etcd]
master-[0:2].example.com

[lb]
master-1.example.com

[nodes]
master-[0:2].example.com openshift_node_group_name='node-config-master'
node-[01:12].example.com"""


def edited(text: str, host: str, *groups: str) -> str:
    return without_host(text, "hosts", host, groups or GROUPS).text


def test_lines_and_ranges_lose_the_host() -> None:
    after = edited(TEXT, "master-1.example.com")
    wanted = TEXT.replace("master-1.example.com openshift_ip=192.0.2.12   # rack 2\n", "")
    wanted = wanted.replace(
        "master-[0:2].example.com\n", "master-0.example.com\nmaster-2.example.com\n"
    )
    tail = " openshift_node_group_name='node-config-master'\n"
    wanted = wanted.replace(
        f"master-[0:2].example.com{tail}",
        f"master-0.example.com{tail}master-2.example.com{tail}",
    )
    assert after == wanted
    assert "master-1.example.com" in after.split("[lb]")[1]


def test_the_end_of_a_range_makes_it_shorter() -> None:
    after = edited(TEXT, "node-12.example.com")
    assert after == TEXT.replace("node-[01:12]", "node-[01:11]")
    after = edited(TEXT, "node-05.example.com", "nodes")
    assert after.endswith("node-[01:04].example.com\nnode-[06:12].example.com")


@pytest.mark.parametrize("text", [TEXT.replace("\n", "\r\n"), "\ufeff" + TEXT, TEXT + "\n"])
def test_line_ends_and_marks_stay(text: str) -> None:
    after = edited(text, "master-1.example.com")
    assert after.count("\r\n") in (0, after.count("\n"))
    assert after.startswith(text[:20])
    assert after.endswith("\n") == text.endswith("\n")


def test_a_host_in_a_group_below_is_not_taken_out_half() -> None:
    text = "[masters:children]\neast\n[east]\nm1\nm2\n[nodes]\nm1\nm2\n"
    with pytest.raises(Refused, match="through east"):
        edited(text, "m1", "masters", "nodes")


def test_what_is_no_inventory_is_an_error() -> None:
    with pytest.raises(UsageError, match="hosts:1"):
        edited("[masters:wrong]\n", "m1")


def test_a_host_is_known_by_what_its_variables_say() -> None:
    text = "[masters]\nalpha ansible_host=192.0.2.8\nbeta openshift_hostname=m1.example.com\n"
    groups = parse_ini(text.encode(), "hosts")
    assert named(groups, {"192.0.2.8"}, ["masters"]) == ("alpha",)
    assert named(groups, {"m1.example.com"}, ["masters"]) == ("beta",)
    assert named(groups, {"gamma"}, ["masters"]) == ()


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.booleans())
def test_what_is_left_of_a_range_is_all_but_one(a: int, b: int, gone: int, pad: bool) -> None:
    low, high = min(a, b), max(a, b)
    first, last = (f"0{low}", f"0{high}") if pad else (str(low), str(high))
    text = f"[nodes]\nn[{first}:{last}] x=1\nother\n"
    before = parse_ini(text.encode(), "h").hosts_of("nodes")
    host = f"n0{gone}" if pad else f"n{gone}"
    after = parse_ini(edited(text, host, "nodes").encode(), "h")
    assert set(after.hosts_of("nodes")) == set(before) - {host}
    assert all(after.variables_of(h) == {"x": "1"} for h in after.hosts_of("nodes") if h != "other")


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="no fixtures here")
@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.ini")), ids=lambda p: p.name)
def test_files_of_others_lose_a_host_and_nothing_else(path: Path) -> None:
    text = path.read_bytes().decode()
    groups = parse_ini(path.read_bytes(), path.name)
    known = [g for g in GROUPS if g in groups.groups]
    hosts = {h for g in known for h in groups.groups[g].hosts}
    assert hosts
    for host in sorted(hosts):
        above = [g for g in known if host not in groups.groups[g].hosts]
        if any(host in groups.hosts_of(g) for g in above):
            with pytest.raises(Refused, match="through"):
                without_host(text, path.name, host, known)
            continue
        after = without_host(text, path.name, host, known)
        now = parse_ini(after.text.encode(), path.name)
        for name, group in groups.groups.items():
            gone = {host} if name in known else set()
            assert list(now.groups[name].hosts) == [h for h in group.hosts if h not in gone]
            assert dict(now.groups[name].vars) == dict(group.vars)
        rows = text.split("\n")
        kept = [row for i, row in enumerate(rows, 1) if i not in after.lines]
        assert [row for row in after.text.split("\n") if row in kept] == kept
