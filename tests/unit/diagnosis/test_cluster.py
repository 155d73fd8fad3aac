"""The state of the cluster, the recipe offered, and each refusal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.diagnosis.cluster import diagnose
from agent.model.facts import (
    Alarm,
    Observation,
    OfflineFacts,
    Service,
)
from agent.model.verdict import ClusterState, Diagnosis, Refusal
from tests.unit.builders import (
    CLUSTER,
    OTHER_CLUSTER,
    Lab,
    cause,
    corrupt_alarm,
    open_journal,
    with_survey,
)

LAB = Lab(3)
FIVE = Lab(5)
ONE = Lab(1)
CERT = cause("certificate", evidence="x509: certificate has expired", remedy="renew it")


def refusal(verdict: Diagnosis, recipe: str) -> Refusal:
    """The first refusal of that recipe."""
    return next(r for r in verdict.refusals if r.recipe == recipe)


def degraded(third: Observation, *lost: str) -> Diagnosis:
    """Two healthy members and that host."""
    verdict = diagnose([LAB.healthy(0), LAB.healthy(1), third], lost)
    assert verdict.state is ClusterState.DEGRADED
    return verdict


# ---- states --------------------------------------------------------------------------------------


def test_healthy() -> None:
    verdict = diagnose([LAB.healthy(n) for n in range(3)])
    assert verdict.state is ClusterState.HEALTHY
    assert (verdict.voters, verdict.quorum, verdict.serving) == (3, 2, 3)
    assert (verdict.recipe, verdict.leader, verdict.cluster_id) == ("", "master-1", CLUSTER)
    assert "linearizable reads work" in refusal(verdict, "reseed").seen


STATES = [
    ("one of three down", [LAB.healthy(0), LAB.healthy(1), LAB.waiting(2)], "degraded"),
    ("only one runs", [LAB.no_quorum(0), LAB.wiped(1), LAB.corrupt(2)], "quorum-lost"),
    ("two of five run", [FIVE.waiting(0), FIVE.waiting(1), FIVE.wiped(2)], "quorum-lost"),
    ("all down", [LAB.crash_looping(n) for n in range(3)], "quorum-lost"),
    ("no data anywhere", [LAB.wiped(n) for n in range(3)], "quorum-lost"),
    ("enough run", [LAB.waiting(0), LAB.waiting(1), LAB.wiped(2)], "unknown"),
    ("open port", [LAB.waiting(0), LAB.wiped(1), LAB.unreachable(2, (2379,))], "unknown"),
    ("nothing reachable", [LAB.unreachable(n) for n in range(3)], "unknown"),
    ("no hosts", [], "unknown"),
    ("alone", [ONE.healthy(0)], "healthy"),
    ("alone and down", [ONE.crash_looping(0)], "quorum-lost"),
]


@pytest.mark.parametrize(
    ("observations", "state"), [s[1:] for s in STATES], ids=[s[0] for s in STATES]
)
def test_states(observations: list[Observation], state: str) -> None:
    verdict = diagnose(observations)
    assert verdict.state.value == state
    assert verdict.why


def test_a_read_seen_from_outside_counts() -> None:
    seen = LAB.unreachable(2, (2379, 2380), linearizable=True)
    verdict = diagnose([LAB.wiped(0), LAB.stopped(1), seen])
    assert verdict.state is ClusterState.DEGRADED
    assert refusal(verdict, "reseed")


def test_nospace_is_not_healthy() -> None:
    online = LAB.online(0, alarms=(Alarm(LAB.member_id(1), "NOSPACE"),))
    verdict = diagnose([LAB.healthy(0, online=online), LAB.healthy(1), LAB.healthy(2)])
    assert verdict.state is ClusterState.DEGRADED
    assert any("NOSPACE on master-2" in warning for warning in verdict.warnings)


# ---- split ---------------------------------------------------------------------------------------


def stranger(number: int, revision: int = 3) -> Lab:
    """A cluster of its own that one wiped host has made."""
    return replace(LAB, cluster_id=OTHER_CLUSTER, revision=revision)


SPLITS = [
    ("two serve", [LAB.healthy(0), LAB.healthy(1), stranger(2).healthy(2)]),
    ("two run", [LAB.no_quorum(0), LAB.wiped(1), stranger(2).no_quorum(2)]),
    ("the real one lies still", [stranger(0).healthy(0), LAB.stopped(1), LAB.stopped(2)]),
]


@pytest.mark.parametrize("observations", [s[1] for s in SPLITS], ids=[s[0] for s in SPLITS])
def test_split(observations: list[Observation]) -> None:
    verdict = diagnose(observations)
    assert verdict.state is ClusterState.SPLIT
    assert OTHER_CLUSTER in verdict.why
    assert verdict.recipe == ""
    assert refusal(verdict, "reseed").next


def test_rival_leaders_after_two_old_members_came_back() -> None:
    alone = LAB.online(0, members=LAB.members(without=(1, 2)))
    rivals = [LAB.healthy(n, online=LAB.online(n, leader_id=LAB.member_id(1))) for n in (1, 2)]
    verdict = diagnose([LAB.healthy(0, online=alone), *rivals])
    assert verdict.state is ClusterState.SPLIT
    assert "two leaders" in verdict.why


def test_poorer_foreign_data_is_just_a_member_to_replace() -> None:
    verdict = degraded(stranger(2).crash_looping(2))
    assert (verdict.recipe, verdict.target) == ("replace-member", "master-3")


# ---- degraded ------------------------------------------------------------------------------------

REPLACED = [
    ("wiped", LAB.wiped(2)),
    ("wiped, initial-cluster complains", LAB.wiped(2, causes=(cause("config"),))),
    ("corrupt", LAB.corrupt(2)),
    ("looping, not recognised", LAB.crash_looping(2)),
    ("looping, unknown", LAB.crash_looping(2, cause("unknown"))),
    ("says bad data", LAB.crash_looping(2, cause("data"))),
    ("fenced, data set aside", LAB.fenced(2, offline=OfflineFacts("/d", False))),
]


@pytest.mark.parametrize("third", [r[1] for r in REPLACED], ids=[r[0] for r in REPLACED])
def test_replace_member(third: Observation) -> None:
    verdict = degraded(third)
    assert (verdict.recipe, verdict.target) == ("replace-member", "master-3")
    assert verdict.recipe_why
    assert "fab rescue-node master-3" in refusal(verdict, "reseed").next


def test_without_a_definition_nothing_is_offered() -> None:
    verdict = degraded(LAB.stopped(2, parked=()))
    assert verdict.recipe == ""
    assert "no etcd definition" in refusal(verdict, "replace-member").seen


def test_a_running_member_is_not_said_to_be_stopped_by_a_hint_in_its_log() -> None:
    verdict = diagnose([LAB.healthy(n, causes=(cause("network"),)) for n in range(3)])
    third = verdict.member("master-3")
    assert third is not None
    assert third.notes == ()


def test_an_empty_member_is_replaced_where_that_is_the_remedy() -> None:
    told = replace(cause("config"), remedy="fab rescue-node HOST: it adds the member")
    empty = LAB.crash_looping(2, told, offline=OfflineFacts("/d", True))
    verdict = degraded(empty)
    assert (verdict.recipe, verdict.target) == ("replace-member", "master-3")


def test_what_is_known_of_an_unreachable_host_is_one_line_and_its_next_step_is_told() -> None:
    gone = replace(LAB.unreachable(2), error="no key\nis known", next="ssh-keyscan master-3")
    verdict = degraded(gone)
    third = verdict.member("master-3")
    assert third is not None
    assert "\n" not in third.why
    assert "ssh-keyscan master-3" in refusal(verdict, "replace-member").next


def test_a_removed_host_joins_again() -> None:
    rest = LAB.members(without=(2,))
    others = [LAB.healthy(n, online=LAB.online(n, members=rest)) for n in (0, 1)]
    verdict = diagnose([*others, LAB.removed(2)])
    assert verdict.state is ClusterState.DEGRADED
    assert (verdict.recipe, verdict.target) == ("replace-member", "master-3")
    assert verdict.voters == 2


def test_a_host_without_any_etcd_is_left_alone() -> None:
    rest = LAB.members(without=(2,))
    others = [LAB.healthy(n, online=LAB.online(n, members=rest)) for n in (0, 1)]
    bare = LAB.seen(2, config=None, offline=OfflineFacts("/var/lib/etcd", False))
    assert diagnose([*others, bare]).state is ClusterState.HEALTHY


@pytest.mark.parametrize(
    "kind", ["config", "certificate", "disk", "permission", "resource", "network", "image", "clock"]
)
def test_a_cause_beside_the_data_is_put_right_and_nothing_replaced(kind: str) -> None:
    verdict = degraded(LAB.crash_looping(2, cause(kind)))
    assert verdict.recipe == ""
    found = refusal(verdict, "replace-member")
    assert f"log line about the {kind}" in found.seen
    assert "throw away a good copy" in found.why
    assert found.next == f"put the {kind} right"


def test_a_wiped_member_with_a_bad_certificate_waits_for_the_certificate() -> None:
    verdict = degraded(LAB.wiped(2, causes=(CERT,)))
    assert verdict.recipe == ""
    assert refusal(verdict, "replace-member").next == "renew it"


@pytest.mark.parametrize("third", [LAB.stopped(2), LAB.fenced(2), LAB.seen(2)])
def test_restart_member(third: Observation) -> None:
    verdict = degraded(third)
    assert (verdict.recipe, verdict.target) == ("restart-member", "master-3")


def test_a_stopped_kubelet_is_started_and_nothing_replaced() -> None:
    verdict = degraded(LAB.seen(2, kubelet=Service("kubelet.service", "failed")))
    assert verdict.recipe == ""
    assert "systemctl start" in refusal(verdict, "replace-member").next


@pytest.mark.parametrize(
    ("third", "text"),
    [
        (LAB.unreachable(2), "fab remove-member master-3"),
        (LAB.unreachable(2, (2380,)), "make SSH"),
        (LAB.lagging(2), "fab diagnose"),
        (LAB.no_quorum(2), "fab diagnose"),
        (with_survey(LAB.fenced(2), journals=(open_journal(),)), "fab resume"),
    ],
)
def test_refused_while_degraded(third: Observation, text: str) -> None:
    verdict = degraded(third)
    assert verdict.recipe == ""
    found = refusal(verdict, "replace-member")
    assert text in found.next
    assert found.why


def test_a_ghost_is_removed_with_consent() -> None:
    verdict = diagnose([LAB.healthy(0), LAB.healthy(1)])
    assert (verdict.recipe, verdict.target) == ("remove-member", "master-3")
    assert "no failure tolerated" in verdict.recipe_why
    assert [name for name, _ in verdict.consent] == ["master-3"]


def test_an_unreachable_member_declared_lost_is_removed() -> None:
    verdict = degraded(LAB.unreachable(2), "master-3")
    assert (verdict.recipe, verdict.target) == ("remove-member", "master-3")
    assert verdict.consent == ()


def test_restarts_come_before_replacements_before_removals() -> None:
    lab = FIVE
    bad = [lab.wiped(3), lab.stopped(4)]
    healthy = [lab.healthy(n) for n in range(3)]
    assert diagnose([*healthy, *bad]).recipe == "restart-member"
    assert diagnose([*healthy, lab.wiped(3)]).recipe == "replace-member"


def test_a_stuck_learner_is_seen_to_first() -> None:
    lab = Lab(4, learners=(3,))
    verdict = diagnose([lab.healthy(0), lab.healthy(1), lab.wiped(2), lab.wiped(3)])
    assert (verdict.recipe, verdict.target) == ("replace-member", "master-4")
    assert "one learner at a time" in refusal(verdict, "replace-member").why


def test_a_corrupt_member_that_the_quorum_needs_waits() -> None:
    online = LAB.online(0, alarms=(corrupt_alarm(LAB.member_id(1)),))
    verdict = diagnose([LAB.healthy(0, online=online), LAB.healthy(1), LAB.wiped(2)])
    assert (verdict.recipe, verdict.target) == ("replace-member", "master-3")
    found = refusal(verdict, "replace-member")
    assert "1 healthy of 2 voters" in found.why
    assert found.next == "fab rescue-node master-3"


# ---- quorum lost ---------------------------------------------------------------------------------


def test_reseed_from_the_best_with_consent_for_the_unseen() -> None:
    best = LAB.crash_looping(1, offline=LAB.offline(1, {"last_index": 1005}))
    verdict = diagnose([LAB.crash_looping(0), best, LAB.unreachable(2)])
    assert (verdict.recipe, verdict.target) == ("reseed", "master-2")
    assert [name for name, _ in verdict.consent] == ["master-3"]


@pytest.mark.parametrize("name", ["master-3", Lab(3).member_id(2)])
def test_declared_lost_is_consent(name: str) -> None:
    verdict = diagnose([LAB.no_quorum(0), LAB.wiped(1), LAB.unreachable(2)], [name])
    assert (verdict.recipe, verdict.consent) == ("reseed", ())
    assert verdict.losses


def test_a_fenced_member_asks_for_consent() -> None:
    verdict = diagnose([LAB.wiped(0), LAB.fenced(1), LAB.fenced(2)])
    assert verdict.recipe == "reseed"
    assert {name for name, _ in verdict.consent} == {"master-2", "master-3"}


CERTS = [LAB.crash_looping(n, CERT) for n in range(3)]
REFUSED = [
    ("causes", [*CERTS[:2], LAB.unreachable(2)], (), "master-1: renew it; master-2: renew it"),
    ("cause and one runs", [LAB.waiting(0), CERTS[1], LAB.wiped(2)], (), "master-2: renew it"),
    ("alive", [LAB.wiped(0), LAB.stopped(1), LAB.unreachable(2, (2380,))], (), "make SSH"),
    (
        "declared and surveyed",
        [LAB.no_quorum(0), LAB.wiped(1), LAB.unreachable(2)],
        ("master-2",),
        "--lost master-2",
    ),
    (
        "mistyped",
        [LAB.no_quorum(0), LAB.wiped(1), LAB.unreachable(2)],
        ("mastre-3",),
        "master-1, master-2, master-3",
    ),
    ("nothing left", [LAB.wiped(0), LAB.corrupt(1), LAB.unreachable(2)], (), "fab restore"),
    ("no data", [LAB.wiped(n) for n in range(3)], (), "fab restore SNAPSHOT"),
]


@pytest.mark.parametrize(
    ("observations", "lost", "text"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_reseed_refused(observations: list[Observation], lost: tuple[str, ...], text: str) -> None:
    verdict = diagnose(observations, lost)
    assert verdict.state is ClusterState.QUORUM_LOST
    assert verdict.recipe != "reseed"
    assert text in " ".join(r.next for r in verdict.refusals if r.recipe == "reseed")


def test_declared_lost_but_its_port_answers() -> None:
    lab = FIVE
    hosts = [lab.no_quorum(0), *(lab.wiped(n) for n in (1, 2, 3)), lab.unreachable(4, (2380,))]
    verdict = diagnose(hosts, ["master-5"])
    assert verdict.state is ClusterState.QUORUM_LOST
    assert verdict.recipe == ""
    assert (
        "declared lost, but its port 2380 answers from master-1" in refusal(verdict, "reseed").seen
    )


def test_starting_what_is_stopped_comes_before_a_reseed() -> None:
    verdict = diagnose([LAB.stopped(0), LAB.stopped(1), LAB.wiped(2)])
    assert verdict.recipe == "restart-member"
    assert verdict.target == "master-1"
    assert "master-1 and master-2" in verdict.recipe_why
    assert "loses nothing" in refusal(verdict, "reseed").why


def test_fenced_members_are_not_simply_started() -> None:
    verdict = diagnose([LAB.fenced(0), LAB.fenced(1), LAB.unreachable(2)])
    assert verdict.recipe == "reseed"
    assert "master-3" in dict(verdict.consent)


def test_members_of_an_unfinished_plan_are_not_simply_started() -> None:
    parked = [with_survey(LAB.stopped(n), journals=(open_journal(),)) for n in (0, 1)]
    verdict = diagnose([*parked, LAB.wiped(2)])
    assert verdict.recipe != "restart-member"
    assert any("fab resume" in warning for warning in verdict.warnings)
