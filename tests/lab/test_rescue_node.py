"""`fab rescue-node`: one member is ill while the others serve, on real hosts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.lab.console import act
from tests.lab.evidence import DATA, quarantined, require_one_cluster, seed_keys, tree
from tests.lab.faults import (
    add_learner,
    attempts,
    crash_loop,
    edit_manifest,
    has_ended,
    ids,
    lead,
    remove_by_hand,
    rescue,
    stop_kubelet_and_etcd,
    take_away_definition,
    verdict,
    wait_for_diagnosis,
    wait_until_looping,
)
from tests.lab.host import Host, wait_until
from tests.lab.kubelet.timing import KubeletTiming
from tests.lab.lab import MANIFEST, Lab
from tests.lab.names import OPERATOR_ADDRESS
from tests.lab.operator import OK, REFUSED, UNREACHABLE, fab

MakeLab = Callable[..., Lab]
THREE = ["master-0", "master-1", "master-2"]


def require_replaced(lab: Lab, host: str, before: dict[str, int], keys: dict[str, bytes]) -> None:
    """The host has a new member, the others are who they were, and every key is everywhere."""
    require_one_cluster(lab, list(lab.hosts), keys)
    now = ids(lab, host)
    assert now[host] != before[host]
    assert {n: i for n, i in now.items() if n != host} == {
        n: i for n, i in before.items() if n != host
    }
    assert fab("journal").expect(OK).result[-1]["state"] == "complete"


# ---- beyond repair: replaced ---------------------------------------------------------------------


def test_a_crash_looping_member_is_replaced_and_its_data_kept(lab: Lab) -> None:
    keys, before, host = seed_keys(lab), ids(lab, "master-0"), lab.hosts["master-1"]
    crash_loop(host)
    ended = rescue("master-1").expect(OK)
    assert (ended.result["serving"], ended.result["voters"]) == (3, 3)
    assert ended.result["warnings"] == []
    require_replaced(lab, "master-1", before, keys)
    assert len(quarantined(host)) == 1
    again = ids(lab, "master-0"), host.read(MANIFEST)
    assert "nothing to do" in rescue("master-1").expect(OK).err
    assert (ids(lab, "master-0"), host.read(MANIFEST)) == again


def test_a_back_off_of_five_minutes_is_not_waited_for(make_lab: MakeLab) -> None:
    lab = make_lab(hosts=3, kubelet=KubeletTiming(backoff_base=300.0, backoff_max=300.0))
    keys, before, host = seed_keys(lab), ids(lab, "master-0"), lab.hosts["master-1"]
    host.crash_etcd()
    wait_until(lambda: has_ended(host, 1), 30, "the long back-off")
    data, start = tree(host, f"{DATA}/member"), time.monotonic()
    rescue("master-1").expect(OK)
    assert time.monotonic() - start < 90
    require_replaced(lab, "master-1", before, keys)
    (kept,) = quarantined(host)
    assert tree(host, str(kept)) == data


def empty(host: Host) -> None:
    host.wipe_etcd()


def take_all(host: Host) -> None:
    host.run(["rm", "-rf", DATA])


def found_another(host: Host) -> None:
    """The empty member starts with state=new and all names: it founds a cluster of its own."""
    host.wipe_etcd()
    third = "--initial-cluster=master-2=https://10.77.0.12:2380,"
    edit_manifest(host, "--initial-cluster=", third)
    edit_manifest(host, "state=existing", "state=new")


@pytest.mark.parametrize("wipe", [empty, take_all, found_another])
def test_a_wiped_member_is_replaced(lab: Lab, wipe: Callable[[Host], None]) -> None:
    keys, before, host = seed_keys(lab), ids(lab, "master-0"), lab.hosts["master-1"]
    # A new leader remembers nothing of a member: it would fill an empty one up in silence.
    lead(lab, "master-0")
    stop_kubelet_and_etcd(host)
    wipe(host)
    host.run(["systemctl", "start", "kubelet"])
    wait_until(lambda: attempts(host) >= 2 or bool(host.etcd_pids()), 30, "a start on no data")
    wait_for_diagnosis(lambda d: d["target"] == "master-1", "the diagnosis of master-1")
    rescue("master-1").expect(OK)
    require_replaced(lab, "master-1", before, keys)


def test_the_first_node_wiped_knows_no_other_host_and_says_so(lab: Lab) -> None:
    keys, before, host = seed_keys(lab), ids(lab, "master-1"), lab.hosts["master-0"]
    # A leader that goes on remembers what the member has confirmed, and has since lost.
    lead(lab, "master-2")
    stop_kubelet_and_etcd(host)
    host.wipe_etcd()
    refused = rescue("master-0").expect(REFUSED)
    assert "fab -H OTHER rescue-node master-0" in refused.err
    assert not quarantined(host)
    host.run(["systemctl", "start", "kubelet"])
    wait_for_diagnosis(lambda d: d["target"] == "master-0", "the diagnosis", hosts="master-1")
    rescue("master-0", through="master-1").expect(OK)
    require_replaced(lab, "master-0", before, keys)


def test_a_rival_cluster_that_serves_is_the_operators_to_judge(lab: Lab) -> None:
    keys, before, host = seed_keys(lab), ids(lab, "master-1"), lab.hosts["master-0"]
    stop_kubelet_and_etcd(host)
    host.wipe_etcd()
    token = "--initial-cluster-token=other\n    - --initial-cluster="
    manifest = edit_manifest(host, "--initial-cluster=", token)
    host.run(["systemctl", "start", "kubelet"])
    wait_until(lambda: lab.is_healthy(host), 30, "the rival cluster")
    lab.client(host).put("/registry/rival", b"1")
    seen = fab("diagnose", hosts="master-1").expect(OK).result
    assert seen["state"] == "split"
    refused = rescue("master-0", through="master-1").expect(REFUSED)
    assert "two clusters serve" in refused.err
    assert "relocate-data" in refused.err
    assert lab.get_all("master-0") == {"/registry/rival": b"1"}
    assert ids(lab, "master-1") == before
    # What the refusal says: away with the other one's data, and the rescue knows what to do.
    host.path(MANIFEST).unlink()
    wait_until(lambda: not host.etcd_pids(), 15, "the rival's end")
    host.path(f"{DATA}/member").rename(host.path("/root/rival"))
    host.run(["systemctl", "stop", "kubelet"])
    host.write(MANIFEST, manifest, 0o600)
    rescue("master-0", through="master-1").expect(OK)
    require_replaced(lab, "master-0", before, keys)


# ---- gone for good -------------------------------------------------------------------------------


def test_a_host_gone_for_good_is_removed_only_by_that_name(lab: Lab) -> None:
    keys, before = seed_keys(lab), ids(lab, "master-0")
    lab.hosts["master-2"].power_cut()
    lab.wait_healthy(["master-0", "master-1"])
    assert rescue("master-2").code == UNREACHABLE
    refused = rescue("master-2", through="master-0").expect(REFUSED)
    assert "fab remove-member master-2" in refused.err
    assert ids(lab, "master-0") == before
    assert fab("remove-member", "master-1", "--yes").code == REFUSED
    assert ids(lab, "master-0") == before
    shown = fab("remove-member", "master-2", "--yes", output="table").expect(OK)
    assert "2/2 voters serve" in shown.out
    assert "failure tolerance 0" in shown.out
    assert set(ids(lab, "master-0")) == {"master-0", "master-1"}
    assert all(lab.get_all(name) == keys for name in ("master-0", "master-1"))
    warnings = fab("diagnose").expect(OK).result["warnings"]
    assert any("failure tolerance 0" in text for text in warnings)
    # It was not gone after all: it is no member any more, and joins anew.
    lab.hosts["master-2"].boot()
    wait_for_diagnosis(
        lambda d: d["target"] == "master-2", "the removed host", hosts="master-0,master-2"
    )
    rescue("master-2", through="master-0,master-2").expect(OK)
    require_replaced(lab, "master-2", before, keys)


def test_a_member_that_lives_is_not_removed_for_its_silent_ssh(lab: Lab) -> None:
    before = ids(lab, "master-0")
    crash_loop(lab.hosts["master-1"])
    lab.hosts["master-2"].cut_network(ports=[22])
    refused = fab("remove-member", "master-2", "--yes").expect(REFUSED)
    assert "answers" in refused.err
    assert rescue("master-2", through="master-0").code == REFUSED
    assert ids(lab, "master-0") == before


# ---- what a new member would not mend ------------------------------------------------------------


def bad_flag(host: Host) -> Callable[[], None]:
    text = edit_manifest(host, "--snapshot-count=", "--snapshot-counter=")
    return lambda: host.write(MANIFEST, text, 0o600)


def wrong_path(host: Host) -> Callable[[], None]:
    text = edit_manifest(host, "/server.crt", "/serving.crt")
    return lambda: host.write(MANIFEST, text, 0o600)


CAUSES: dict[str, tuple[Callable[[Host], Callable[[], None]], str]] = {
    "a bad flag": (bad_flag, "snapshot-counter"),
    "a wrong path": (wrong_path, "serving.crt"),
}


@pytest.mark.parametrize("name", CAUSES)
def test_a_cause_beside_the_data_is_named_and_left_to_be_mended(lab: Lab, name: str) -> None:
    apply, told = CAUSES[name]
    keys, before, host = seed_keys(lab), ids(lab, "master-0"), lab.hosts["master-1"]
    mend = apply(host)
    wait_until_looping(host)

    def is_seen(diagnosis: dict[str, Any]) -> bool:
        said = str(verdict(diagnosis, "master-1")) + str(diagnosis["warnings"])
        return diagnosis["state"] == "degraded" and told in said

    seen = wait_for_diagnosis(is_seen, f"{name} to be seen")
    assert seen["recipe"] == ""
    segments = {p.name for p in host.path(f"{DATA}/member/wal").iterdir()}
    refused = rescue("master-1", through="master-0").expect(REFUSED)
    assert told in refused.err
    assert "next:" in refused.err
    assert ids(lab, "master-0") == before
    assert not quarantined(host)
    assert segments <= {p.name for p in host.path(f"{DATA}/member/wal").iterdir()}
    assert fab("journal").expect(OK).result == []
    mend()
    host.kubelet_restart()
    lab.wait_healthy(timeout=40)
    assert ids(lab, "master-0") == before
    assert lab.get_all("master-1") == keys


def test_a_definition_taken_away_by_hand_is_asked_for(lab: Lab) -> None:
    keys, before, host = seed_keys(lab), ids(lab, "master-0"), lab.hosts["master-1"]
    text = take_away_definition(host)
    diagnosis = fab("diagnose").expect(OK).result
    assert diagnosis["recipe"] == ""
    assert verdict(diagnosis, "master-1")["notes"] == []
    refused = rescue("master-1", through="master-0").expect(REFUSED)
    assert "put etcd's definition back" in refused.err
    assert ids(lab, "master-0") == before
    host.write(MANIFEST, text, 0o600)
    lab.wait_healthy(timeout=30)
    # Parked by the agent, intact and still a member: started, and nothing else.
    act(host, "park-definition")
    act(host, "stop-etcd")
    assert rescue("master-1", through="master-0").expect(OK).result["recipe"] == "restart-member"
    require_one_cluster(lab, THREE, keys)
    assert host.read(MANIFEST).decode() == text
    assert ids(lab, "master-0") == before
    assert not quarantined(host)


# ---- learners ------------------------------------------------------------------------------------


def test_a_learner_that_never_started_is_seen_to_first(lab: Lab) -> None:
    keys, before = seed_keys(lab), ids(lab, "master-0")
    add_learner(lab, "master-0", f"https://{OPERATOR_ADDRESS}:2380")
    diagnosis = fab("diagnose").expect(OK).result
    (learner,) = [m for m in diagnosis["members"] if not m["voter"]]
    crash_loop(lab.hosts["master-1"])
    refused = rescue("master-1", through="master-0").expect(REFUSED)
    assert "one learner at a time" in refused.err
    gone = rescue(learner["host"], through="master-0").expect(REFUSED)
    assert f"fab remove-member {learner['host']}" in gone.err
    fab("remove-member", learner["host"], "--yes").expect(OK)
    assert ids(lab, "master-0") == before
    rescue("master-1", through="master-0").expect(OK)
    require_replaced(lab, "master-1", before, keys)


def test_a_replacement_begun_by_hand_and_left_there_is_finished(lab: Lab) -> None:
    keys, before, host = seed_keys(lab), ids(lab, "master-0"), lab.hosts["master-2"]
    lead(lab, "master-0")
    stop_kubelet_and_etcd(host)
    remove_by_hand(lab, "master-0", before["master-2"])
    add_learner(lab, "master-0", f"https://{host.address}:2380")
    seen = wait_for_diagnosis(
        lambda d: d["serving"] == 2, "the diagnosis", hosts="master-0,master-2"
    )
    assert (seen["recipe"], seen["target"]) == ("replace-member", "master-2")
    rescue("master-2", through="master-0,master-2").expect(OK)
    require_replaced(lab, "master-2", before, keys)


# ---- several at once -----------------------------------------------------------------------------


def test_two_ill_members_of_five_are_brought_back_one_after_the_other(make_lab: MakeLab) -> None:
    lab = make_lab(hosts=5)
    keys, before = seed_keys(lab), ids(lab, "master-0")
    parked = lab.hosts["master-4"]
    fab("survey").expect(OK)
    lead(lab, "master-0")
    crash_loop(lab.hosts["master-3"])
    act(parked, "park-definition")
    act(parked, "stop-etcd")
    seen = wait_for_diagnosis(lambda d: d["serving"] == 3, "three to serve")
    assert (seen["state"], seen["voters"], seen["quorum"]) == ("degraded", 5, 3)
    assert (seen["recipe"], seen["target"]) == ("restart-member", "master-4")
    rescue("master-3").expect(OK)
    assert fab("diagnose").expect(OK).result["target"] == "master-4"
    rescue("master-4").expect(OK)
    require_one_cluster(lab, list(lab.hosts), keys)
    now = ids(lab, "master-0")
    assert {name for name in now if now[name] != before[name]} == {"master-3"}
