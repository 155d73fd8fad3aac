"""Masters of OpenShift 3.11: one is lost, one is retired; what the others then say of them."""

from __future__ import annotations

import json
import os
import re
import ssl
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tests.lab.evidence import require_one_cluster, seed_keys
from tests.lab.faults import ids, wait_for_diagnosis
from tests.lab.host import Host, wait_until
from tests.lab.lab import Lab
from tests.lab.openshift311 import layout
from tests.lab.openshift311.test_etcd import LAYOUT, require_no_variable
from tests.lab.operator import OK, REFUSED, STEP_FAILED, fab
from tests.lab.story import require_membership_in_files

MakeLab = Callable[..., Lab]
INVENTORY = """\
# the site's own inventory
[OSEv3:children]
masters
nodes
etcd

[OSEv3:vars]
openshift_deployment_type=origin

[masters]
# the first one has the CA
master-[0:2]

[etcd]
master-0
master-1   # rack 2
master-2

[lb]
lb

[nodes]
master-[0:2] openshift_node_group_name='node-config-master'
node-0 openshift_node_group_name='node-config-compute'
"""


def write_inventory(folder: Path) -> Path:
    path = folder / "hosts.ini"
    path.write_text(INVENTORY)
    path.chmod(0o640)
    return path


def through_lb(lab: Lab, path: str = "/healthz") -> str:
    """Which master answers behind the load balancer."""
    assert lab.lb is not None
    context = ssl.create_default_context(cafile=str(lab.hosts["master-1"].disk.pki / "ca.crt"))
    url = f"https://{lab.lb.address}:8443{path}"
    with urllib.request.urlopen(url, timeout=5, context=context) as answer:
        return str(answer.headers["X-Master"])


def endpoints(host: Host) -> list[str]:
    said = host.run(["oc", "get", "endpoints", "kubernetes", "-n", "default", "-o", "json"]).stdout
    return [row["ip"] for row in json.loads(said)["subsets"][0]["addresses"]]


def wait_for_api(lab: Lab) -> None:
    """Wait until every master's API has its lease."""
    host = lab.hosts["master-1"]

    def all_there() -> bool:
        try:
            return len(endpoints(host)) == len(lab.hosts)
        except Exception:
            return False

    wait_until(all_there, 30, "the API servers")


def restarts(host: Host) -> list[str]:
    log = host.path("/var/log/master-restart.log")
    return [line.split()[1] for line in log.read_text().splitlines()] if log.exists() else []


def flannel_of(host: Host) -> tuple[str, str]:
    """What flannel is told, and what the running flanneld was started with."""
    text = host.read("/etc/sysconfig/flanneld").decode()
    told = re.search(r"^FLANNEL_ETCD_ENDPOINTS=(.*)$", text, re.M)
    assert told is not None
    return told[1], host.read("/var/log/flanneld.log").decode().splitlines()[-1]


def only_words_left(before: str, after: str, words: set[str]) -> None:
    """Lines left the file, each with one of these words in it; no other changed."""
    gone = [line for line in before.splitlines() if line not in after.splitlines()]
    assert gone
    assert all(any(word in line for word in words) for line in gone), gone
    kept = [line for line in before.splitlines() if line not in gone]
    assert kept == after.splitlines()


def test_a_master_is_lost_and_the_others_say_so(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab(**LAYOUT)
    keys = seed_keys(lab)
    wait_for_api(lab)
    inventory = write_inventory(tmp_path)
    lab.hosts["master-2"].power_cut()
    wait_for_diagnosis(lambda d: d["serving"] == 2, "two serving voters")
    pids = {n: lab.hosts[n].etcd_pids() for n in ("master-0", "master-1")}

    fab("remove-member", "master-2", "--yes", "--inventory", str(inventory)).expect(OK)

    require_one_cluster(lab, ["master-0", "master-1"], keys)
    require_membership_in_files(lab, ["master-0", "master-1"])
    for name in ("master-0", "master-1"):
        host = lab.hosts[name]
        assert host.etcd_pids() == pids[name], "etcd was restarted"
        assert restarts(host) == ["api", "controllers"]
        wanted = "https://master-0:2379,https://master-1:2379"
        assert flannel_of(host) == (wanted, wanted)
    text = inventory.read_text()
    assert text == INVENTORY.replace("rack 2\nmaster-2\n", "rack 2\n")
    assert os.stat(inventory).st_mode & 0o777 == 0o640
    require_no_variable(lab)


def test_a_master_is_retired(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab(**LAYOUT)
    assert lab.lb is not None
    keys = seed_keys(lab)
    wait_for_api(lab)
    client = lab.client("master-1")
    for name in (*lab.hosts, "node-0"):
        client.put(f"/lab/nodes/{name}", b"on")
    client.put("/lab/pods/master-0/web", b"x")
    client.put("/lab/pods/node-0/db", b"x")
    inventory, before = write_inventory(tmp_path), lab.lb.read(layout.HAPROXY).decode()
    member = ids(lab, "master-1")["master-0"]

    told = fab("retire-master", "master-0").expect(REFUSED).err
    assert "--lb HOST" in told
    words = ["--yes", "--inventory", str(inventory)]

    # A haproxy.cfg that is broken already stops it there, and all of it is taken back.
    broken = before.replace("balance source", "balance sauce")
    lab.lb.write(layout.HAPROXY, broken, 0o644)
    told = fab("retire-master", "master-0", *words).expect(REFUSED, STEP_FAILED).err
    assert "haproxy does not take" in told
    fab("rollback", "--yes").expect(OK)
    assert lab.lb.read(layout.HAPROXY).decode() == broken
    assert not lab.hosts["master-1"].path("/etc/etcd/ca").exists()
    assert inventory.read_text() == INVENTORY
    lab.lb.write(layout.HAPROXY, before, 0o644)

    fab("retire-master", "master-0", *words).expect(OK)

    cfg = lab.lb.read(layout.HAPROXY).decode()
    only_words_left(before, cfg, {"master-0 10.77.0.10:8443"})
    assert len(re.findall(r"^\s+server\s", cfg, re.M)) == 4
    assert "# the masters; master-0 is the oldest" in cfg
    assert through_lb(lab) in ("master-1", "master-2")
    host = lab.hosts["master-0"]
    assert sorted(p.name for p in host.path(layout.PODS).iterdir()) == []
    assert not host.is_listening(8443)
    assert not host.is_listening(8444)
    assert not host.etcd_pids()
    assert lab.hosts["master-1"].read("/etc/etcd/ca/ca.key") == host.read("/etc/etcd/ca/ca.key")
    assert lab.hosts["master-1"].read(f"{layout.MASTER}/ca.serial.txt") == b"0F\n"
    assert sorted(endpoints(lab.hosts["master-1"])) == ["10.77.0.11", "10.77.0.12"]
    assert member not in ids(lab, "master-1").values()
    require_one_cluster(lab, ["master-1", "master-2"], keys)
    require_membership_in_files(lab, ["master-1", "master-2"])
    have = client.get_all()
    assert [k for k in have if k.startswith("/lab/pods/")] == ["/lab/pods/node-0/db"]
    assert have["/lab/nodes/master-0"] == b"off"
    text = inventory.read_text()
    assert "master-[1:2]\n" in text
    assert "master-[1:2] openshift_node_group_name='node-config-master'\n" in text
    assert text.count("master-0") == 0
    require_no_variable(lab)
    fab("retire-master", "master-1", "--lb", "lb", "--yes", hosts="master-1").expect(REFUSED)
