"""Every way to say which hosts, and every way onto them: one small lab, and one over IPv6."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import names
from tests.lab.evidence import require_one_cluster
from tests.lab.lab import Lab
from tests.lab.operator import OK, PAUSED, REFUSED, UNREACHABLE, USAGE, Ended, fab
from tests.lab.pool import LabPool
from tests.lab.reach import ways

BOTH = ["master-0", "master-1"]
ADDRESSES = {"master-0": "10.77.0.10", "master-1": "10.77.0.11"}


@pytest.fixture
def lab(lab_pool: LabPool) -> Lab:
    """Two hosts, over IPv4."""
    return lab_pool.get(hosts=2)


@pytest.fixture
def lab6(lab_pool: LabPool) -> Iterator[Lab]:
    """Two hosts that have no IPv4 address: etcd's URLs, SSH, everything is IPv6."""
    lab_pool.close()
    resolved, before = Path("/etc/hosts"), Path("/etc/hosts").read_text()
    names.use_family(6)
    try:
        resolved.write_text(names.hosts_file())  # the enclosure's own
        with Lab.start(hosts=2) as lab:
            yield lab
    finally:
        names.use_family(4)
        resolved.write_text(before)


def survey(*words: str, hosts: str = "") -> Ended:
    return fab("survey", *words, hosts=hosts)


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_ways_to_say_which_hosts(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ini = written(tmp_path / "hosts", "[masters]\nmaster-[0:1] # two\n[masters:vars]\n"
                  "ansible_user=core\n[nodes]\nnode-[0:99]\n")  # fmt: skip
    plain = written(tmp_path / "inventory.yaml", "all:\n  children:\n    etcd:\n      hosts:\n"
                    "        a: {ansible_host: 10.77.0.10, ansible_user: core}\n"
                    "        b: {ansible_host: 10.77.0.11, ansible_user: core}\n")  # fmt: skip
    cluster = written(tmp_path / "cluster.yaml", "hosts: [master-0, master-1]\n")
    monkeypatch.setenv("PATH", ways.kubectl(tmp_path, ADDRESSES))
    for words, found in (
        (("--hosts-from", f"ansible:{ini}"), BOTH),
        (("--hosts-from", f"ansible:{ini}:masters"), BOTH),
        (("--hosts-from", f"ansible:{plain}"), ["a", "b"]),
        (("--hosts-from", "kubeconfig"), BOTH),
        (("--cluster", cluster), BOTH),
    ):
        assert ways.surveyed(survey(*words).expect(OK)) == found, words
    assert ways.surveyed(survey(hosts="master-0").expect(OK)) == BOTH, "not found through one"

    monkeypatch.setenv("PATH", ways.kubectl(tmp_path, None))
    down = survey("--hosts-from", "kubeconfig").expect(UNREACHABLE).err
    assert "was refused" in down
    assert "-H HOST" in down
    assert "ansible:" in down
    assert (
        "no hosts in workers" in survey("--hosts-from", f"ansible:{ini}:workers").expect(USAGE).err
    )


def test_through_a_bastion_to_another_port_with_every_key_verified(
    lab: Lab, tmp_path: Path
) -> None:
    second = lab.hosts["master-1"]
    ways.sshd(second, "Port 22", "Port 2222")
    ways.close_to_operator(second)
    jump = "-o ProxyJump=core@master-0"
    ini = written(
        tmp_path / "hosts",
        "[etcd]\nmaster-0\nmaster-1 ansible_port=2222 "
        f"ansible_ssh_common_args='-o ConnectTimeout=5 {jump}'\n[etcd:vars]\nansible_user=core\n",
    )
    cluster = written(
        tmp_path / "cluster.yaml",
        "hosts:\n- master-0\n- {name: master-1, port: 2222, jump: core@master-0}\n",
    )
    assert ways.surveyed(survey("--cluster", cluster).expect(OK)) == BOTH
    assert ways.surveyed(survey("--hosts-from", f"ansible:{ini}").expect(OK)) == BOTH
    with ways.only_in_agent() as agent, pytest.MonkeyPatch.context() as patch:
        for name, value in agent.items():
            patch.setenv(name, value)
        assert ways.surveyed(survey("--cluster", cluster).expect(OK)) == BOTH

    only = written(tmp_path / "only.yaml",
                   "hosts: [{name: master-1, port: 2222, jump: core@master-0}]\n")  # fmt: skip
    for name, other in (("master-0", "master-1"), ("master-1", "master-0")):
        with ways.known_as(name, other):
            refused = survey("--cluster", only).expect(REFUSED).err
            assert f"HOST KEY OF {name}" in refused
            assert "HAS CHANGED" in refused


def test_passwords_one_for_the_host_another_for_its_bastion(lab: Lab, tmp_path: Path) -> None:
    first, second = lab.hosts.values()
    ways.set_password(first, "bastion's word")
    ways.set_password(second, "host's word")
    ways.close_to_operator(second)
    cluster = written(tmp_path / "cluster.yaml",
                      "hosts: [{name: master-1, jump: core@master-0}]\n")  # fmt: skip
    asked = ("--ask-ssh-password", "--ask-jump-password", "--output", "json")
    right = [("on the hosts: ", "host's word"), ("on the jump hosts: ", "bastion's word")]
    done = ways.fab_at_terminal(right, "survey", "--cluster", cluster, *asked).expect(OK)
    assert ways.surveyed(done) == ["master-1"]
    assert "'s word" not in done.err + done.out
    swapped = [("on the hosts: ", "bastion's word"), ("on the jump hosts: ", "host's word")]
    failed = ways.fab_at_terminal(swapped, "survey", "--cluster", cluster, *asked)
    assert "master-0: login as core failed" in failed.expect(UNREACHABLE).err


def test_a_rescue_where_everything_is_ipv6(lab6: Lab, tmp_path: Path) -> None:
    first, second = lab6.hosts.values()
    keys = lab6.put_keys(50)
    link = first.run(["ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "link"]).stdout
    scoped = f"{link.split()[3].split('/')[0]}%{names.BRIDGE}"
    ways.trust_as(first, scoped)
    cluster = written(tmp_path / "cluster.yaml", "ssh: {user: core}\nhosts:\n"
                      f'- {{name: m, address: "{scoped}"}}\n')  # fmt: skip
    assert ways.surveyed(survey("--cluster", cluster).expect(OK)) == ["m"]
    brackets = ",".join(f"core@[{host.address}]:22" for host in lab6.hosts.values())
    found = ways.surveyed(survey(hosts=brackets).expect(OK))
    assert found == sorted(host.address for host in lab6.hosts.values())

    second.power_cut()
    paused = fab("rescue-quorum", "--lost", "master-1", "--yes").expect(PAUSED)
    assert "still to rejoin: master-1" in paused.err + paused.out
    second.boot()
    fab("resume").expect(OK)
    require_one_cluster(lab6, BOTH, keys)
