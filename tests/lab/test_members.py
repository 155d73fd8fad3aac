"""etcdctl by its own words, alarms that are made to go, and kubeadm's way to join; real hosts."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import kubeadm_standin as kubeadm
from tests.lab.etcd_client import EtcdUnavailable
from tests.lab.evidence import STATE, require_one_cluster, seed_keys
from tests.lab.faults import ids, lead, remove_by_hand, rescue, wait_for_diagnosis
from tests.lab.host import Host, wait_until
from tests.lab.lab import Lab
from tests.lab.operator import OK, REFUSED, USAGE, Ended, fab, start_fab

MakeLab = Callable[..., Lab]
THREE = ["master-0", "master-1", "master-2"]
QUOTA = 8 * 1024 * 1024


def etcdctl(*words: str, host: str = "") -> Ended:
    return fab("etcdctl", *([host] if host else []), "--", *words, output="")


def fill(lab: Lab) -> dict[str, bytes]:
    """Overwrite the same keys until etcd has no space; what it then holds.

    That may be what it has just refused: the write that crosses the quota is applied, and answered
    with the error all the same (etcd server/etcdserver/apply.go: quotaApplierV3).
    """
    for number in range(100):
        try:
            pairs = {f"/fill/{i:03d}": f"{number:04d}".encode() * 2500 for i in range(50)}
            lab.client("master-0", timeout=30).put_many(pairs.items())
        except EtcdUnavailable as error:
            assert "space exceeded" in str(error)  # noqa: PT017 - what the filling is for
            held = lab.get_all("master-0")
            return {key: value for key, value in held.items() if key.startswith("/fill/")}
    raise AssertionError("the quota was never reached")


def alarms(lab: Lab) -> list[dict[str, str]]:
    found: list[dict[str, str]] = (
        lab.client("master-0").call("maintenance/alarm", {"action": "GET"}).get("alarms", [])
    )
    return found


@pytest.mark.parametrize("version", ["3.5", "3.4"])
def test_etcdctl_and_alarms(make_lab: MakeLab, version: str) -> None:
    lab = make_lab(hosts=3, quota=QUOTA, etcd=version)
    keys = seed_keys(lab)
    check_etcdctl(lab, keys)
    lab.client("master-0").call("kv/deleterange", {"key": "Y3VyaW91cw=="})
    full = fill(lab)
    if version == "3.5":  # what is the same with every version is shown with one
        check_watch_ends(lab.hosts["master-1"])
        check_no_space_is_no_disarming(lab)
    check_no_space(lab, {**keys, **full})
    if version == "3.5":
        check_joining_afterwards(lab, lab.get_all())
    lab = make_lab(hosts=3, quota=QUOTA, etcd=version)  # its log tells of no full database
    seed_keys(lab)
    check_corrupt(lab)


def check_etcdctl(lab: Lab, keys: dict[str, bytes]) -> None:
    listed = etcdctl("member", "list", "-w", "json").expect(OK)
    assert {m["name"] for m in listed.result["members"]} == set(THREE)
    name, value = next(iter(keys.items()))
    assert etcdctl("get", name, "--print-value-only", host="master-1").out.encode() == value + b"\n"
    curious = "a b; $(touch /tmp/spilt) 'q' \"d\" \\ * \u00fc"
    assert etcdctl("put", "curious", curious).expect(OK).out == "OK\n"
    assert etcdctl("get", "curious", "--print-value-only").expect(OK).out == f"{curious}\n"
    assert not any(host.path("/tmp/spilt").exists() for host in lab.hosts.values())
    status = etcdctl("endpoint", "status", "--cluster", "-w", "json", host="master-2").expect(OK)
    assert len(status.result) == 3
    wrong = etcdctl("get")
    assert wrong.code not in (OK, REFUSED)
    assert "command" in wrong.err.lower()
    hinted = etcdctl("member", "remove", "123456789abcdef0")
    assert hinted.code not in (OK, REFUSED)
    assert "fab remove-member" in hinted.err
    assert len(lab.members("master-0")) == 3
    assert fab("survey", "--", "id", output="").expect(USAGE).out == ""


def check_watch_ends(host: Host) -> None:
    """A watch has no end of its own: it ends with the operator who asked for it."""

    def runs() -> bool:
        return host.run(["pgrep", "-x", "etcdctl"], check=False).returncode == 0

    watching = start_fab("etcdctl", host.name, "--", "watch", "/registry", output="")
    wait_until(runs, 30, "etcdctl to watch")
    watching.kill()
    wait_until(lambda: not runs(), 30, "etcdctl to end with its operator")


def check_no_space_is_no_disarming(lab: Lab) -> None:
    """With all history kept there is nothing to gain: the alarm stays, and the plan goes."""
    seen = wait_for_diagnosis(lambda d: d["recipe"] == "clear-alarm", "the alarm to be seen")
    assert any("fab clear-alarm" in text for text in seen["warnings"])
    refused = fab("clear-alarm", "--keep", "100000", "--yes").expect(REFUSED)
    assert "allowed" in refused.err
    assert alarms(lab)
    fab("rollback", "--yes").expect(OK)


def check_no_space(lab: Lab, keys: dict[str, bytes]) -> None:
    before = ids(lab, "master-0")
    assert {a["alarm"] for a in alarms(lab)} == {"NOSPACE"}
    ended = fab("clear-alarm", "--keep", "2", "--yes").expect(OK)
    assert (ended.result["serving"], ended.result["state"]) == (3, "healthy")
    assert alarms(lab) == []
    lab.client("master-0").put("/after", b"there is space")
    wanted = {**keys, "/after": b"there is space"}
    require_one_cluster(lab, THREE, wanted)
    assert ids(lab, "master-0") == before
    sizes = [int(lab.client(name).status()["dbSize"]) for name in THREE]
    assert max(sizes) < 0.9 * QUOTA


def check_joining_afterwards(lab: Lab, keys: dict[str, bytes]) -> None:
    """A member that joins is sent the log of the full time; the alarm does not come with it."""
    lead(lab, "master-0")  # and go on remembering what master-2 has confirmed
    lab.hosts["master-2"].wipe_etcd()
    wait_for_diagnosis(lambda d: d["target"] == "master-2", "the wiped member to be seen")
    ended = rescue("master-2", through="master-0").expect(OK)
    assert (ended.result["recipe"], ended.result["state"]) == ("replace-member", "healthy")
    records = fab("journal", ended.result["plan"][:12]).expect(OK).result
    (rewritten,) = [r["data"]["rewritten"] for r in records if "rewritten" in r["data"]]
    assert rewritten["before"] > 0.8 * QUOTA > rewritten["after"]
    assert int(lab.client("master-2").status()["dbSize"]) < QUOTA // 2
    large = b"x" * 1000 * 1000  # with what it was sent in its file, beyond the quota
    lab.client("master-2").put("/large", large)
    lab.client("master-2").put("/after-that", b"")
    assert alarms(lab) == []
    require_one_cluster(lab, THREE, {**keys, "/large": large, "/after-that": b""})


def check_corrupt(lab: Lab) -> None:
    before, keys = ids(lab, "master-0"), lab.get_all()
    body = {"action": "ACTIVATE", "memberID": str(before["master-2"]), "alarm": "CORRUPT"}
    lab.client("master-0").call("maintenance/alarm", body)
    with pytest.raises(EtcdUnavailable, match="corrupt"):
        lab.client("master-0").put("/never", b"")
    refused = fab("clear-alarm", "--yes").expect(REFUSED)
    assert "never taken back" in refused.err
    assert alarms(lab)
    ended = rescue("master-2", through="master-0").expect(OK)
    assert ended.result["recipe"] == "replace-member"
    assert alarms(lab) == []
    now = ids(lab, "master-0")
    assert now["master-2"] != before["master-2"]
    lab.client("master-1").put("/again", b"writes work")
    require_one_cluster(lab, THREE, {**keys, "/again": b"writes work"})


@pytest.mark.reliability(
    "Secrets", "token and certificate key of a join are printed on request, and written nowhere"
)
def test_a_join_command_is_printed_and_run(lab: Lab) -> None:
    standin = Path(kubeadm.__file__).read_bytes()
    for name in ("master-0", "master-1", "master-2"):
        lab.hosts[name].write("/usr/local/bin/kubeadm", standin, 0o755)
    lab.hosts["master-0"].write("/etc/kubernetes/admin.conf", "not read by the stand-in\n")
    made = fab("join-command", "--through", "master-0", output="").expect(OK)
    words = shlex.split(made.out)
    assert words[:3] == ["kubeadm", "join", kubeadm.ENDPOINT]
    assert words[-3:] == ["--control-plane", "--certificate-key", kubeadm.KEY]
    assert kubeadm.KEY not in made.err
    assert kubeadm.TOKEN not in made.err
    member = fab("join-command", "master-2", "--run", "--yes", output="").expect(REFUSED)
    assert "fab rescue-node master-2" in member.err
    host = lab.hosts["master-2"]
    remove_by_hand(lab, "master-0", ids(lab, "master-0")["master-2"])
    host.run(["systemctl", "stop", "kubelet"])
    host.stop_etcd_kill9()
    left = fab("join-command", "master-2", "--run", "--yes", hosts="master-0,master-2", output="")
    assert "earlier life" in left.expect(REFUSED).err
    for path in ("/etc/kubernetes/manifests/etcd.yaml", "/var/lib/etcd/member"):
        host.path(path).rename(host.path(f"/root/{Path(path).name}"))
    ended = fab("join-command", "master-2", "--run", "--yes", hosts="master-0,master-2", output="")
    ended.expect(OK)
    assert host.read(kubeadm.RECORD).decode() == kubeadm.CONFIG_GIVEN
    for secret in (kubeadm.KEY, kubeadm.TOKEN):
        assert secret not in ended.out + ended.err
        for any_host in lab.hosts.values():
            files = [p for p in any_host.path(STATE).rglob("*") if p.is_file()]
            assert not [p for p in files if secret.encode() in p.read_bytes()]
