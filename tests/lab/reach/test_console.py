"""A rescue by consoles and a stick alone: no coordinator, and no network while it is planned."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.evidence import (
    DATA,
    STATE,
    quarantined,
    require_one_cluster,
    require_tidy_manifests,
    seed_keys,
    stored,
    tree,
)
from tests.lab.faults import has_ended, ids
from tests.lab.host import Host, wait_until
from tests.lab.kubelet.timing import KubeletTiming
from tests.lab.lab import MANIFEST, Lab
from tests.lab.operator import OK, PAUSED, REFUSED, UNREACHABLE, fab
from tests.lab.reach.consoles import STICK, Person

MakeLab = Callable[..., Lab]
SLOW = KubeletTiming(backoff_base=300.0, backoff_max=300.0)
"""A broken etcd is tried twice, and then left alone for long, as by a real kubelet."""
THREE = ("master-0", "master-1", "master-2")


def lose_quorum(lab: Lab) -> None:
    """Two of three members lose their logs; all hosts are there, and no network is."""
    for name in THREE[1:]:
        lab.hosts[name].crash_etcd()
    for host in lab.hosts.values():
        host.cut_network()


def heal_but_ssh(lab: Lab) -> None:
    """The members reach each other again; nobody reaches a host by SSH."""
    for host in lab.hosts.values():
        host.heal_network()
        host.cut_network(ports=[22])


def make_plan(person: Person, recipe: str, target: str = "") -> str:
    """Plan at master-0, from what is on the stick; the plan's short ID."""
    words = f"rescue-agent plan {target} --stick {STICK} --output text"
    said = person.type(words, at="master-0")
    found = re.search(rf"^Plan ([0-9a-f]{{12}}): {recipe}", said, re.M)
    assert found is not None
    assert max(map(len, said.partition("\n")[2].splitlines())) <= 79
    return found[1]


def survey_all(person: Person) -> None:
    """Write each host's file to the stick; the survivor's console then knows what fits."""
    for name in THREE[1:]:
        export_at_rest(person, name)
    person.type(f"rescue-agent export {STICK}", at="master-0")
    told = person.type(f"rescue-agent diagnose --stick {STICK} --output text")
    assert "quorum-lost" in told
    assert "Fits: reseed master-0" in told
    assert told.count("a carried file") == 2


def newest_container(host: Host) -> str:
    """The ID of etcd's newest container."""
    label = "io.kubernetes.container.name=etcd"
    listed = host.run(["crictl", "ps", "-a", "-q", "--label", label]).stdout.split()
    return listed[0] if listed else ""


def is_at_rest(host: Host) -> bool:
    """Whether etcd was started again, and has ended once more."""
    return bool(newest_container(host)) and has_ended(host, 1)


def export_at_rest(person: Person, name: str) -> None:
    """Write a broken host's file between two attempts of its etcd: in one, it may seem to start."""
    host = person.lab.hosts[name]
    while True:
        wait_until(lambda: is_at_rest(host), 60, f"etcd's end on {name}")
        before = newest_container(host)
        person.type(f"rescue-agent export {STICK}", at=name)
        if newest_container(host) == before:
            return


def walk(person: Person, plan: str, first: str, *disturb: str) -> list[str]:
    """Follow the consoles from the first step to the last, through a kill and a power cut.

    disturb: what is told to be next when something happens. Gives the consoles in the order in
    which they were gone to.
    """
    way, left = [first], set(disturb)
    person.type(f"rescue-agent apply {plan} --stick {STICK} --yes", PAUSED, at=first)
    resume = f"rescue-agent resume {plan} --stick {STICK}"
    while person.told is not None:
        told = person.told
        way.append(told.host)
        assert len(way) < 40, way
        if told.action in left:
            left.remove(told.action)
            if told.action == "prejoin":
                person.cut_power_during(f"{told.words} --yes", "prejoin", told.host)
            else:
                person.kill_during(f"{told.words} --yes", "seed_cluster", told.host)
            assert "is at work" not in person.type(resume, PAUSED)
        else:
            person.type(f"{told.words} --yes", OK, PAUSED, at=told.host)
    assert not left
    return way


def test_a_whole_rescue_by_consoles_and_a_stick(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab(hosts=3, kubelet=SLOW)
    keys, survivor = seed_keys(lab), lab.hosts["master-0"]
    lose_quorum(lab)
    person = Person(lab)
    survey_all(person)
    heal_but_ssh(lab)
    plan = make_plan(person, "reseed")
    there = f"rescue-agent apply {plan} --stick {STICK} --yes --host master-0"
    assert "is not master-0" in person.type(there, REFUSED, at="master-1")

    way = walk(person, plan, "master-0", "peers silent", "prejoin")
    assert set(way) == set(THREE)
    require_one_cluster(lab, THREE, keys)
    require_tidy_manifests(lab, THREE)
    for name in THREE:
        assert len(quarantined(lab.hosts[name])) == 1
        assert not lab.hosts[name].path(f"{STATE}/fence.json").exists()
    assert tree(survivor, f"{DATA}/member")
    on_stick = {p.name: p for p in person.files() if p.name.startswith("carried-")}
    assert set(on_stick) == {f"carried-{name}.json" for name in THREE}
    assert {p.stat().st_mode & 0o777 for p in on_stick.values()} == {0o600}
    assert not [p for p in on_stick.values() if b"PRIVATE KEY" in p.read_bytes()]
    _the_operator_learns_of_it(lab, person, tmp_path)


def _the_operator_learns_of_it(lab: Lab, person: Person, folder: Path) -> None:
    """What the stick holds is known on the operator's machine, whose SSH still reaches nobody."""
    hosts = "".join(f"  - {{name: {n}, address: {lab.hosts[n].address}}}\n" for n in THREE)
    inventory = folder / "cluster.yaml"
    inventory.write_text(f"ssh:\n  connect_timeout: 1\nhosts:\n{hosts}")
    stick = folder / "stick"
    shutil.copytree(lab.hosts[person.at].path(STICK), stick)
    words = ("--cluster", str(inventory))
    rows = fab("import", str(stick), *words, hosts="").expect(OK).result
    assert {(r["host"], r["state"]) for r in rows if len(r["done"]) > 1} == {
        (name, "complete") for name in THREE
    }
    assert (folder / "carried").stat().st_mode & 0o777 == 0o700
    known = fab("diagnose", *words, hosts="").expect(UNREACHABLE).result
    assert known["state"] == "healthy"
    assert sum("judged by what was carried from it" in text for text in known["warnings"]) == 3
    rows = fab("journal", *words, hosts="").expect(UNREACHABLE).result
    assert {r["host"] for r in rows} == {f"{name} (carried)" for name in THREE}
    for host in lab.hosts.values():
        host.heal_network()
    assert "no unfinished plan" in fab("resume", *words, hosts="").expect(OK).err
    assert fab("diagnose", *words, hosts="").expect(OK).result["state"] == "healthy"


@pytest.mark.wide("LAB_CONSOLE")
def test_one_member_is_replaced_by_consoles_and_a_stick(make_lab: MakeLab) -> None:
    lab = make_lab(hosts=3, kubelet=SLOW)
    keys, before, ill = seed_keys(lab), ids(lab, "master-0"), lab.hosts["master-1"]
    ill.crash_etcd()
    for host in lab.hosts.values():
        host.cut_network(ports=[22])
    person = Person(lab)
    export_at_rest(person, "master-1")
    for name in ("master-2", "master-0"):
        person.type(f"rescue-agent export {STICK}", at=name)
    begin_and_take_back(person, make_plan(person, "replace-member", "master-1"))
    way = walk(person, make_plan(person, "replace-member", "master-1"), "master-1")
    assert "master-0" in way or "master-2" in way
    require_one_cluster(lab, THREE, keys)
    now = ids(lab, "master-0")
    assert {name for name in now if now[name] != before[name]} == {"master-1"}


def begin_and_take_back(person: Person, plan: str) -> None:
    """The member is fenced at its console, and that is taken back there."""
    ill = person.lab.hosts["master-1"]
    before = stored(ill)
    apply = f"rescue-agent apply {plan} --stick {STICK} --yes"
    assert "on master-1" in person.type(apply, REFUSED, at="master-0")
    person.type(apply, PAUSED, at="master-1")
    assert not ill.path(MANIFEST).exists()
    person.type(f"rescue-agent rollback {plan} --stick {STICK}")
    assert stored(ill) == before
    export_at_rest(person, "master-1")
