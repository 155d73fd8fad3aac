"""The state of each member, and which host is which member."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.diagnosis.cluster import diagnose
from agent.model.facts import (
    Container,
    Damage,
    EtcdProcess,
    Observation,
    OfflineFacts,
    OnlineFacts,
    Runtime,
    Service,
    Stray,
)
from agent.model.verdict import MemberState, MemberVerdict
from tests.unit.builders import NOW, OTHER_CLUSTER, Lab, cause, corrupt_alarm, with_survey

LAB = Lab(3)
FOUR = Lab(4, learners=(3,))
GONE = LAB.member_id(2)
TORN = Damage("/var/lib/etcd/member/wal/0.wal", 99, "record ends early")


def verdict_on(third: Observation, lab: Lab = LAB, number: int = 2) -> MemberVerdict:
    """The verdict on one host beside healthy ones."""
    others = [lab.healthy(n) for n in range(lab.size) if n != number]
    found = diagnose([*others, third]).member(third.host)
    assert found is not None
    return found


def served_list_without(third: Observation) -> MemberVerdict:
    """The verdict on the third host where the others serve a list without it."""
    rest = LAB.members(without=(2,))
    others = [LAB.healthy(n, online=LAB.online(n, members=rest)) for n in (0, 1)]
    found = diagnose([*others, third]).member("master-3")
    assert found is not None
    return found


STATES = [
    ("healthy", LAB.healthy(2), MemberState.HEALTHY),
    ("lagging", LAB.lagging(2, 5001), MemberState.LAGGING),
    ("close enough", LAB.lagging(2, 5000), MemberState.HEALTHY),
    ("answers, no read", LAB.no_quorum(2), MemberState.NO_QUORUM),
    ("runs, no answer", LAB.waiting(2), MemberState.NO_QUORUM),
    ("looping", LAB.crash_looping(2, cause("config")), MemberState.CRASH_LOOPING),
    ("looping, no cause", LAB.crash_looping(2), MemberState.CRASH_LOOPING),
    ("bad file", LAB.corrupt(2), MemberState.CORRUPT),
    ("says bad data", LAB.crash_looping(2, cause("data")), MemberState.CORRUPT),
    ("wiped", LAB.wiped(2), MemberState.NO_DATA),
    ("wiped and parked", LAB.stopped(2, offline=OfflineFacts("/d", False)), MemberState.NO_DATA),
    ("parked", LAB.stopped(2), MemberState.STOPPED),
    ("fenced", LAB.fenced(2), MemberState.FENCED),
    ("no survey", LAB.unreachable(2), MemberState.UNREACHABLE),
    ("port open", LAB.unreachable(2, (2380,)), MemberState.UNREACHABLE),
]


@pytest.mark.parametrize(("third", "state"), [s[1:] for s in STATES], ids=[s[0] for s in STATES])
def test_states(third: Observation, state: MemberState) -> None:
    verdict = verdict_on(third)
    assert verdict.state is state
    assert verdict.id == GONE
    assert verdict.voter
    assert verdict.why


def test_a_probe_that_restarts_etcd_without_quorum_is_no_crash_loop() -> None:
    verdict = verdict_on(LAB.crash_looping(2, cause("quorum")))
    assert verdict.state is MemberState.NO_QUORUM
    assert verdict.cause is None


def test_a_short_life_between_two_crashes_is_a_crash_loop() -> None:
    alive = Container("c", "s", "running", attempt=7, created=NOW - 1)
    third = LAB.crash_looping(
        2,
        cause("certificate"),
        processes=(EtcdProcess(9, NOW - 1, ("etcd",)),),
        runtime=Runtime(True, (alive,), 1),
    )
    assert verdict_on(third).state is MemberState.CRASH_LOOPING


def test_a_message_from_before_the_present_start_is_past() -> None:
    old = cause("certificate", time=NOW - 7200)
    verdict = verdict_on(LAB.no_quorum(2, causes=(old,)))
    assert verdict.state is MemberState.NO_QUORUM
    assert verdict.cause is None


def test_the_most_telling_cause_is_named() -> None:
    third = with_survey(
        LAB.crash_looping(2), causes=(cause("network"), cause("certificate"), cause("quorum"))
    )
    verdict = verdict_on(third)
    assert verdict.cause is not None
    assert verdict.cause.kind == "certificate"
    assert any("data is intact" in note for note in verdict.notes)


def test_a_host_without_containers_loops_by_its_log() -> None:
    third = LAB.seen(2, runtime=None, causes=(cause("config"),))
    assert verdict_on(third).state is MemberState.CRASH_LOOPING


def test_a_stopped_kubelet_is_the_cause() -> None:
    verdict = verdict_on(LAB.seen(2, kubelet=Service("kubelet.service", "inactive")))
    assert verdict.cause is not None
    assert "systemctl start kubelet.service" in verdict.cause.remedy


def test_corrupt_alarm_counts_on_a_member_that_serves() -> None:
    online = LAB.online(0, alarms=(corrupt_alarm(GONE),))
    found = diagnose([LAB.healthy(0, online=online), LAB.healthy(1), LAB.healthy(2)])
    third = found.member("master-3")
    assert third is not None
    assert third.state is MemberState.CORRUPT
    assert third.serves
    assert not third.usable


def test_damage_read_under_a_serving_etcd_is_a_note() -> None:
    data = replace(LAB.offline(2), damage=(TORN,))
    verdict = verdict_on(LAB.healthy(2, offline=data))
    assert verdict.state is MemberState.HEALTHY
    assert not verdict.usable
    assert "survey again" in " ".join(verdict.notes)


# ---- removed -------------------------------------------------------------------------------------


def test_removed_by_the_list_that_is_served() -> None:
    verdict = served_list_without(LAB.crash_looping(2))
    assert (verdict.state, verdict.id, verdict.voter) == (MemberState.REMOVED, "", False)
    assert not verdict.usable


def test_removed_by_another_database() -> None:
    rest = LAB.members(without=(2,))
    knows = LAB.offline(0, db={"members": rest, "removed_ids": (GONE,)})
    found = diagnose([LAB.stopped(0, offline=knows), LAB.wiped(1), LAB.stopped(2)])
    third = found.member("master-3")
    assert third is not None
    assert third.state is MemberState.REMOVED


def test_removed_by_its_own_log_if_only_it_lists_itself() -> None:
    found = diagnose([LAB.wiped(0), LAB.unreachable(1), LAB.removed(2)])
    third = found.member("master-3")
    assert third is not None
    assert third.state is MemberState.REMOVED
    assert found.recipe == ""


def test_an_old_line_about_a_removal_is_ignored_if_others_list_it() -> None:
    verdict = verdict_on(LAB.removed(2))
    assert verdict.state is MemberState.CRASH_LOOPING
    assert verdict.cause is None


def test_added_again_with_the_old_data_still_there() -> None:
    new = LAB.member(2, id="00000000000000ff", name="")
    members = (*LAB.members(without=(2,)), new)
    others = [LAB.healthy(n, online=LAB.online(n, members=members)) for n in (0, 1)]
    third = diagnose([*others, LAB.crash_looping(2)]).member("master-3")
    assert third is not None
    assert (third.state, third.id) == (MemberState.REMOVED, new.id)
    assert f"listed as {new.id}" in " ".join(third.notes)


# ---- learners ------------------------------------------------------------------------------------


def learner(fourth: Observation) -> MemberVerdict:
    return verdict_on(fourth, FOUR, 3)


def test_learner_states() -> None:
    caught_up = FOUR.online(3, linearizable=False, is_learner=True)
    behind = replace(caught_up, raft_index=10, applied_index=10)
    far = Lab(4, learners=(3,), index=90000)
    table = {
        MemberState.LEARNER_STUCK: [
            FOUR.running(3, online=caught_up),
            FOUR.running(3, online=replace(behind, leader_id="")),
            FOUR.wiped(3),
            FOUR.crash_looping(3),
        ],
    }
    for state, observations in table.items():
        for observation in observations:
            verdict = learner(observation)
            assert verdict.state is state
            assert not verdict.voter
            assert not verdict.usable
    assert verdict_on(far.running(3, online=behind), far, 3).state is MemberState.LAGGING


# ---- stopped and usable --------------------------------------------------------------------------

STILL = LAB.stopped(2)
NOT_PROVED = [
    ("definition in place", LAB.seen(2)),
    ("process", with_survey(STILL, processes=(EtcdProcess(1, NOW, ("etcd",)),))),
    ("scratch", with_survey(STILL, processes=(EtcdProcess(1, NOW, ("etcd",), scratch=True),))),
    ("port", with_survey(STILL, ports=(22, 2380))),
    ("sandbox", with_survey(STILL, runtime=Runtime(True, (), 1))),
    ("runtime silent", with_survey(STILL, runtime=Runtime(False, error="timeout"))),
    ("stray", with_survey(STILL, strays=(Stray("/m/etcd.yaml.bak", "also runs etcd"),))),
    ("between crashes", LAB.crash_looping(2)),
    ("no survey", LAB.unreachable(2)),
]


def test_proved_stopped() -> None:
    assert verdict_on(STILL).stopped
    assert verdict_on(LAB.fenced(2)).stopped
    assert verdict_on(with_survey(STILL, runtime=None)).stopped


@pytest.mark.parametrize("third", [n[1] for n in NOT_PROVED], ids=[n[0] for n in NOT_PROVED])
def test_not_proved_stopped(third: Observation) -> None:
    assert not verdict_on(third).stopped


UNUSABLE = [
    ("damaged", LAB.corrupt(2)),
    ("wiped", LAB.wiped(2)),
    ("log not read", LAB.stopped(2, offline=replace(LAB.offline(2), wal=None))),
    ("database not read", LAB.stopped(2, offline=replace(LAB.offline(2), db=None))),
    ("mixed", LAB.stopped(2, offline=LAB.offline(2, db={"consistent_index": 1001}))),
    ("other cluster", LAB.stopped(2, offline=LAB.offline(2, {"cluster_id": OTHER_CLUSTER}))),
    ("other member", LAB.stopped(2, offline=LAB.offline(2, {"member_id": "00000000000000aa"}))),
    ("no survey", LAB.unreachable(2)),
]


@pytest.mark.parametrize("third", [u[1] for u in UNUSABLE], ids=[u[0] for u in UNUSABLE])
def test_not_usable(third: Observation) -> None:
    assert not verdict_on(third).usable


def test_usable_whatever_stops_it() -> None:
    for third in (LAB.stopped(2), LAB.no_quorum(2), LAB.crash_looping(2, cause("disk"))):
        assert verdict_on(third).usable
    torn_tail = LAB.offline(2, {"torn_tail": TORN})
    assert verdict_on(LAB.stopped(2, offline=torn_tail)).usable


# ---- who is who ----------------------------------------------------------------------------------


def test_a_wiped_host_is_matched_by_its_peer_url_or_name() -> None:
    assert verdict_on(LAB.wiped(2)).id == GONE
    elsewhere = replace(LAB.wiped(2), address="192.0.2.9")
    moved = with_survey(elsewhere, addresses=("192.0.2.9",), config=LAB.config(2))
    assert verdict_on(moved).id == GONE
    named = with_survey(moved, config=LAB.config(2, advertise_peer_urls=()))
    assert verdict_on(named).id == GONE


def test_an_unreachable_host_is_matched_by_address_or_name() -> None:
    assert verdict_on(Observation("m3", "10.0.0.3", error="timeout")).id == GONE
    assert verdict_on(Observation("master-3", "gone.example", error="timeout")).id == GONE
    assert verdict_on(Observation("m9", "gone.example", error="timeout")).id == ""


def test_a_member_that_no_host_answers_for_is_a_ghost() -> None:
    found = diagnose([LAB.healthy(0), LAB.healthy(1)]).member("master-3")
    assert found is not None
    assert (found.state, found.id, found.voter) == (MemberState.GHOST, GONE, True)


def test_a_ghost_without_a_name_goes_by_its_id() -> None:
    members = (*LAB.members(), LAB.member(2, id="00000000000000ff", name="", peer_urls=()))
    others = [LAB.healthy(n, online=LAB.online(n, members=members)) for n in range(3)]
    found = diagnose(others).member("00000000000000ff")
    assert found is not None
    assert "never started" in found.why


def test_a_copied_disk_gives_one_member_and_a_warning() -> None:
    copy = LAB.stopped(1, offline=LAB.offline(2))
    found = diagnose([LAB.healthy(0), copy, LAB.healthy(2)])
    second, third = found.member("master-2"), found.member("master-3")
    assert second is not None
    assert third is not None
    assert (second.id, second.usable) == (LAB.member_id(1), False)
    assert third.state is MemberState.HEALTHY
    assert any("copied disk" in warning for warning in found.warnings)


def test_the_survey_of_a_host_that_answers_only_an_error() -> None:
    silent = LAB.seen(2, online=OnlineFacts("https://127.0.0.1:2379", False, error="refused"))
    assert verdict_on(silent).state is MemberState.STOPPED


def test_one_machine_given_twice_counts_once() -> None:
    twin = replace(LAB.healthy(2), host="ten-three")
    found = diagnose([LAB.healthy(0), LAB.healthy(1), LAB.healthy(2), twin, LAB.unreachable(2)])
    assert [m.host for m in found.members] == ["master-1", "master-2", "master-3"]
    assert found.serving == 3
    assert sorted(w.split()[0] for w in found.warnings) == ["master-3", "ten-three"]


def test_peers_that_cannot_be_dialled_make_no_crash_loop() -> None:
    runs = Container("c", "s", "running", attempt=3, created=NOW - 1)
    third = LAB.waiting(2)
    third = with_survey(third, causes=(cause("network"),), runtime=Runtime(True, (runs,), 1))
    assert verdict_on(third).state is MemberState.NO_QUORUM


def test_a_fence_with_an_absurd_time_is_still_told() -> None:
    fenced = LAB.fenced(2)
    assert fenced.survey is not None
    assert fenced.survey.fence is not None
    third = with_survey(fenced, fence=replace(fenced.survey.fence, time=1e30))
    assert "unreadable time" in verdict_on(third).why
