"""A story that needs every recipe: restart, replace, reseed, restore in both ways, remove."""

from __future__ import annotations

from pathlib import Path

from tests.lab import restored, units
from tests.lab.console import act
from tests.lab.evidence import power_off, quarantined, require_one_cluster, seed_keys
from tests.lab.faults import ids, rescue, wait_for_diagnosis
from tests.lab.host import Host, wait_until
from tests.lab.lab import MANIFEST, Lab
from tests.lab.openshift311 import layout as layout311
from tests.lab.operator import OK, PAUSED, fab, rescue_quorum

THREE = ["master-0", "master-1", "master-2"]
SETTINGS = {
    "etcd.env": "/etc/etcd.env",
    "etcd.conf": "/etc/etcd/etcd.conf",
    "default": "/etc/default/etcd",
    "config-file": "/etc/etcd/etcd.conf.yml",
    "drop-in": "/etc/systemd/system/etcd.service.d/10-cluster.conf",
}


def settings_of(lab: Lab, host: Host) -> str:
    """The file of a host that says --initial-cluster."""
    if lab.options.layout == "kubeadm":
        return MANIFEST
    if lab.options.layout == "openshift311":
        return layout311.CONF
    return SETTINGS[units.conf_of(lab.options.conf, host.index)]


def require_membership_in_files(lab: Lab, names: list[str]) -> None:
    """The file that counts names exactly these members, of a cluster that exists."""
    for name in names:
        text = lab.hosts[name].read(settings_of(lab, lab.hosts[name])).decode()
        for other in THREE:
            pair = f"{other}=https://{lab.hosts[other].address}:2380"
            assert (pair in text) == (other in names), f"{name}: {pair}\n{text}"
        assert "existing" in text, name


def require_true_view(lab: Lab) -> None:
    """The survey's merged view of every unit is what the running etcd was really given."""
    if lab.options.layout != "systemd":
        return
    told = {o["host"]: o["survey"]["config"] for o in fab("survey").expect(OK).result}
    for name, host in lab.hosts.items():
        (pid,) = host.etcd_pids()
        proc = Path(f"/proc/{pid}")
        environ = dict(
            e.split("=", 1) for e in proc.joinpath("environ").read_text().split("\0") if e
        )
        argv = proc.joinpath("cmdline").read_text().split("\0")[1:-1]
        config = told[name]
        assert set(config["sources"]) == set(config["flags"])
        if "--config-file" in argv:
            assert config["sources"]["name"].startswith(argv[argv.index("--config-file") + 1])
            continue
        given = {
            k[5:].lower().replace("_", "-"): v for k, v in environ.items() if k.startswith("ETCD_")
        }
        given |= {argv[i][2:]: argv[i + 1] for i in range(0, len(argv), 2)}
        assert config["flags"] == given, name


def stop_etcd(lab: Lab, host: Host) -> None:
    """Stop a member as an administrator would, and leave it so."""
    if lab.options.layout == "systemd":
        host.run(["systemctl", "stop", "etcd"])
    else:
        fab("diagnose").expect(OK)  # which delivers the agent
        act(host, "park-definition")
        act(host, "stop-etcd")
    wait_until(lambda: not host.etcd_pids(), 20, f"etcd's end on {host.name}")


def restarted(lab: Lab) -> None:
    """restart-member: what is merely stopped is started, with the identity it had."""
    before = ids(lab, "master-0")
    stop_etcd(lab, lab.hosts["master-1"])
    rescue("master-1").expect(OK)
    assert ids(lab, "master-0") == before


def replaced(lab: Lab) -> None:
    """replace-member: what is beyond repair gets a new identity; its data is kept."""
    before, host = ids(lab, "master-0"), lab.hosts["master-2"]
    has_data = lab.options.layout != "systemd" or not units.owner_of(lab.options.conf, host.index)
    if has_data:
        host.crash_etcd()
    else:  # an etcd that is not root's cannot make its directory: who brings it back gives it away
        host.run(["rm", "-r", "/var/lib/etcd"])
        host.stop_etcd_kill9()
    wait_for_diagnosis(
        lambda d: (d["target"], d["recipe"]) == ("master-2", "replace-member"), "the diagnosis"
    )
    rescue("master-2").expect(OK)
    now = ids(lab, "master-0")
    assert now.pop("master-2") != before.pop("master-2")
    assert now == before
    assert len(quarantined(host)) == has_data


def reseeded(lab: Lab) -> None:
    """reseed and rejoin: two of three lose power, and come back with their old data."""
    power_off(lab, "master-1", "master-2")
    rescue_quorum("master-1", "master-2").end().expect(PAUSED)
    lab.hosts["master-1"].boot()
    lab.hosts["master-2"].boot()
    fab("resume").expect(OK)


def removed(lab: Lab) -> None:
    """remove-member: a host that is gone for good leaves the member list and every definition."""
    lab.hosts["master-2"].power_cut()
    wait_for_diagnosis(lambda d: d["serving"] == 2, "two serving voters")
    fab("remove-member", "master-2", "--yes").expect(OK)


def play(lab: Lab, backups: Path | None = None) -> None:
    """The whole story; nothing is lost in it. backups: where a snapshot goes; none: no restore."""
    keys = seed_keys(lab)
    require_true_view(lab)
    for chapter in (restarted, replaced, reseeded):
        chapter(lab)
        keys |= lab.put_keys(10, f"/registry/{chapter.__name__}/")
        require_one_cluster(lab, THREE, keys)
    require_membership_in_files(lab, THREE)
    if backups is not None:
        taken = restored.take(lab, backups)
        for restore in (restored.alone, restored.together):
            restore(lab, taken)
            require_membership_in_files(lab, THREE)
        keys = taken.keys | lab.put_keys(10, "/registry/restored/")
    removed(lab)
    require_one_cluster(lab, THREE[:2], keys)
    if lab.options.layout != "kubeadm":  # a changed manifest would restart one of two: it is left
        require_membership_in_files(lab, THREE[:2])
    assert {j["state"] for j in fab("journal").expect(OK).result} == {"complete"}
