"""Rescues on hosts in OpenShift 4's layout: the operator brings members back, the API can wait."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.host import STATE_DIR
from tests.lab.evidence import quarantined, require_one_cluster, seed_keys, tree, wait_for_keys
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.openshift4.actor import Actor
from tests.lab.openshift4.api_on_hosts import CREDENTIALS
from tests.lab.openshift4.layout import KUBECONFIGS, MANIFEST, RESOURCES
from tests.lab.operator import OK, PAUSED, REFUSED, fab, start_fab

DATA = "/var/lib/etcd"
THREE = ("master-0", "master-1", "master-2")


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    """Three fresh hosts in OpenShift's layout."""
    return make_lab(layout="openshift4")


def guard_of(actor: Actor) -> object:
    etcd = actor.get("etcds.operator.openshift.io", "cluster")
    assert etcd is not None
    return etcd["spec"].get("unsupportedConfigOverrides")


def revision_of(host: Host) -> str:
    text = host.read(MANIFEST).decode()
    return text.split('"revision":"', 1)[1].split('"', 1)[0]


def contents(host: Host, inside: str) -> dict[str, str]:
    """File → hash, whatever its times are."""
    found = {n: v.split() for n, v in tree(host, inside).items()}
    return {name: words[-1] for name, words in found.items() if len(words) == 4}


def log_of(host: Host, inside: str) -> dict[str, str]:
    """File → hash of a write-ahead log; the database is written to by every attempt at a start."""
    return {n: v for n, v in contents(host, inside).items() if n.endswith(".wal")}


def api(lab: Lab, verb: str) -> None:
    """Stop or start the API server of every host."""
    for host in lab.hosts.values():
        host.run(["systemctl", verb, "lab-api"])


def bring_kubeconfig(lab: Lab, folder: Path) -> str:
    """Take the kubeconfigs of all hosts away, and give the path of one on the operator's machine.

    Its certificates are files beside it, and its server is one that any host can reach.
    """
    text = lab.hosts["master-0"].read(f"{KUBECONFIGS}/lb-int.kubeconfig").decode()
    for name in ("ca.crt", "admin.crt", "admin.key"):
        (folder / name).write_bytes(lab.hosts["master-0"].read(f"{CREDENTIALS}/{name}"))
    file = folder / "kubeconfig"
    file.write_text(text.replace(f"{CREDENTIALS}/", ""))
    for host in lab.hosts.values():
        host.run(["rm", "-r", KUBECONFIGS, CREDENTIALS])
    return str(file)


def test_a_crash_looping_pod_is_left_to_the_operator(lab: Lab, tmp_path: Path) -> None:
    keys = seed_keys(lab)
    own = ("--kubeconfig", bring_kubeconfig(lab, tmp_path))
    with Actor(lab, guard=True, machine_api=False) as actor:
        broken = lab.hosts["master-2"]
        old = {s["metadata"]["name"]: s["metadata"]["uid"]
               for s in actor.list("secrets", "openshift-etcd")}  # fmt: skip
        broken.crash_etcd()
        damaged = log_of(broken, f"{DATA}/member")

        # The operator's machine goes away in the middle; the plan is on the hosts.
        run = start_fab("rescue-node", "master-2", "--yes", *own)
        run.wait_for("ok master-.: force redeployment")
        run.kill()
        ended = fab("resume", *own).expect(OK)
        assert ended.result["serving"] == 3

        require_one_cluster(lab, THREE, keys)
        assert log_of(broken, str(quarantined(broken)[-1])) == damaged
        assert guard_of(actor) is None
        new = {s["metadata"]["name"]: s["metadata"]["uid"]
               for s in actor.list("secrets", "openshift-etcd")}  # fmt: skip
        changed = {name for name in old if new.get(name) != old[name]}
        assert changed == {f"etcd-{r}-master-2" for r in ("peer", "serving", "serving-metrics")}
        assert len({revision_of(host) for host in lab.hosts.values()}) == 1
        sets = [h for h in THREE if lab.hosts[h].path("/var/lib/etcd-rescue/backups").is_dir()]
        assert len(sets) == 1
        assert not lab.hosts["master-2"].path("/var/lib/etcd-rescue/fence.json").exists()
        look = ["grep", "-rlE", "client-key-data|PRIVATE KEY"]
        look += [f"{STATE_DIR}/journal", f"{STATE_DIR}/work"]
        assert [h.run(look, check=False).stdout for h in lab.hosts.values()] == [""] * 3


def test_a_lost_quorum_comes_back_with_the_api_down(lab: Lab) -> None:
    keys = seed_keys(lab)
    with Actor(lab, guard=True, machine_api=False) as actor:
        api(lab, "stop")
        lab.hosts["master-1"].crash_etcd()
        lab.hosts["master-2"].crash_etcd()
        run = start_fab("rescue-quorum", "--yes")
        run.wait_for("ok master-0: relocate data")
        run.kill()
        # The API stays down: how long each request is tried again is a matter of patience alone.
        ended = fab("resume", "--api-patience", "3").expect(PAUSED)
        assert ended.result["put_off"] == ["kubernetes-api"]
        assert (ended.result["serving"], ended.result["voters"]) == (3, 3)
        assert "the Kubernetes API does not answer" in ended.err
        assert "fab resume" in ended.err
        wait_for_keys(lab, "master-1", keys)
        before = revision_of(lab.hosts["master-0"])

        api(lab, "start")
        fab("resume").expect(OK)
        assert guard_of(actor) is None
        assert {revision_of(host) for host in lab.hosts.values()} != {before}
        require_one_cluster(lab, THREE, keys)


@pytest.mark.parametrize(
    ("whose", "way"), [("ours", ("--all-nodes",)), ("openshift's", ("--on", "master-0"))]
)
def test_a_set_in_openshifts_layout_is_restored(
    lab: Lab, tmp_path: Path, whose: str, way: tuple[str, ...]
) -> None:
    keys = seed_keys(lab)
    with Actor(lab, machine_api=False):
        done = fab("backup-master", "master-1", "--to", str(tmp_path)).expect(OK).result
        found = Path(done["path"])
        assert sorted(p.name.split("_")[0] for p in found.iterdir()) == [
            "SHA256SUMS", "snapshot", "static",
        ]  # fmt: skip
        assert lab.hosts["master-1"].path(done["directory"]).is_dir()
        later = lab.put_keys(20, prefix="/later/")
        if whose == "openshift's":  # it writes no sums
            (found / "SHA256SUMS").unlink()
        refused = fab("restore", str(found), "--yes").expect(REFUSED)
        assert "--discard" in refused.err
        for host in lab.hosts.values():
            host.wipe_etcd()
        lost = lab.hosts["master-0"].path(f"{RESOURCES}/kube-scheduler-pod-6")
        kept = contents(lab.hosts["master-0"], f"{RESOURCES}/kube-scheduler-pod-6")
        lab.hosts["master-0"].run(["rm", "-r", f"{RESOURCES}/kube-scheduler-pod-6"])

        run = start_fab("restore", str(found), "--yes", *way)
        run.wait_for("ok master-0: relocate data")
        run.kill()
        fab("resume").expect(OK)
        require_one_cluster(lab, THREE, keys)
        assert not set(later) & set(lab.get_all())
        assert lost.is_dir()
        assert contents(lab.hosts["master-0"], f"{RESOURCES}/kube-scheduler-pod-6") == kept

        again = fab("restore", str(found), "--yes").expect(REFUSED)  # what serves is not discarded
        assert "--discard" in again.err
