"""Plans for certificates and alarms: what they say, and that every part of them is sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import Refused
from agent.model.facts import Alarm, Observation
from agent.model.plan import Plan, Stage
from agent.recipes.clear_alarm import clear_alarm
from agent.recipes.invariants import check_plan, require_sound
from agent.recipes.renew_certificates import renew_certificates
from agent.recipes.replace_member import replace_member
from tests.unit.builders import Lab, cause, with_survey
from tests.unit.diagnosis.test_certificates import (
    EXPIRED,
    OTHER,
    OURS,
    all_expired,
    certificates,
    lab,
    looping,
)
from tests.unit.recipes.making import NOW, as_text, cluster_of

LAB = Lab(3)


def text_of(plan: Plan, observations: Sequence[Observation]) -> str:
    assert check_plan(plan, cluster_of(observations)) == ()
    require_sound(plan, cluster_of(observations))
    return as_text(plan)


def renewal(observations: Sequence[Observation], host: str = "master-2", all: bool = False) -> str:
    plan = renew_certificates(cluster_of(observations), [host], NOW, everything=all)
    return text_of(plan, observations)


# ---- certificates --------------------------------------------------------------------------------


def test_what_runs_is_not_restarted() -> None:
    host = with_survey(LAB.healthy(1), certificates=certificates({"server": EXPIRED}))
    assert renewal(lab(host)) == "master-2: issue_certificates\nmaster-2: wait_serving"


def test_what_crash_loops_is_started_past_its_back_off() -> None:
    host = looping(certificates=certificates({"server": EXPIRED}))
    assert renewal(lab(host)) == (
        "master-2: issue_certificates\n"
        "master-2: park_definition restart_kubelet unpark_definition wait_serving"
    )


def test_a_lent_ca_comes_first_and_restarts_what_runs_with_another() -> None:
    lost = certificates({"server": EXPIRED}, key="missing")
    assert renewal(lab(with_survey(LAB.healthy(1), certificates=lost))) == (
        "master-1: check_authority master-2: install_authority\n"
        "master-2: issue_certificates\n"
        "master-2: wait_serving"
    )
    strange = certificates({"server": EXPIRED}, ca=OTHER)
    assert renewal(lab(with_survey(LAB.healthy(1), certificates=strange))) == (
        "master-1: check_authority master-2: install_authority\n"
        "master-2: issue_certificates\n"
        "master-2: park_definition stop_etcd unpark_definition wait_serving"
    )


def test_a_missing_ca_alone_issues_nothing() -> None:
    without = ("cannot be verified: CA file /ca.crt: missing",)
    bad = {"ca": ("missing",), "server": without, "peer": without}
    said = renewal(lab(looping(certificates=certificates(bad, key="other", ca=""))))
    assert "install_authority" in said
    assert "issue_certificates" not in said


def test_without_a_quorum_all_are_mended_together() -> None:
    assert renewal(all_expired("looping", "waiting", "looping"), "master-1") == (
        "|| master-1: issue_certificates master-2: issue_certificates "
        "master-3: issue_certificates\n"
        "|| master-1: park_definition restart_kubelet unpark_definition "
        "master-3: park_definition restart_kubelet unpark_definition\n"
        "|| master-1: wait_serving master-2: wait_serving master-3: wait_serving"
    )


def test_all_are_made_anew_on_request() -> None:
    good = [with_survey(LAB.healthy(n), certificates=certificates()) for n in range(3)]
    with pytest.raises(Refused, match="no certificate"):
        renewal(good)
    plan = renew_certificates(cluster_of(good), ["master-2"], NOW, everything=True)
    assert plan.steps()[0].args["roles"] == ["server", "peer", "client"]
    text_of(plan, good)


def test_a_replacement_makes_them_first() -> None:
    host = LAB.wiped(1, certificates=certificates({"server": EXPIRED}))
    plan = replace_member(cluster_of(lab(host)), "master-2", NOW)
    lines = text_of(plan, lab(host)).splitlines()
    assert lines[1] == "master-2: issue_certificates"
    assert lines[2].startswith("master-2: fence")


BAD = st.sampled_from([None, "server", "peer", "client"])


@given(
    st.lists(st.sampled_from(["healthy", "waiting", "looping", "wiped", "stopped"]), min_size=3,
             max_size=3),
    st.lists(BAD, min_size=3, max_size=3),
    st.lists(st.sampled_from(["present", "missing", "other"]), min_size=3, max_size=3),
)  # fmt: skip
def test_every_plan_is_sound_or_refused(
    states: list[str], bad: list[str | None], keys: list[str]
) -> None:
    makers = {
        "healthy": LAB.healthy, "waiting": LAB.waiting, "looping": looping, "wiped": LAB.wiped,
        "stopped": LAB.stopped,
    }  # fmt: skip
    found = [
        with_survey(
            makers[state](n),
            certificates=certificates({role: EXPIRED} if role else {}, key=key),
        )
        for n, (state, role, key) in enumerate(zip(states, bad, keys, strict=True))
    ]
    for number in range(3):
        for everything in (False, True):
            plan = renewal_or_refusal(found, [LAB.host(number)], everything)
            if plan is not None:
                assert check_plan(plan, cluster_of(found)) == ()


@given(
    st.lists(st.sampled_from(["healthy", "looping"]), min_size=5, max_size=5),
    st.lists(st.sampled_from([OURS, OTHER]), min_size=5, max_size=5),
)
def test_several_hosts_are_started_one_after_the_other(states: list[str], cas: list[str]) -> None:
    five = Lab(5)
    bad = {"server": EXPIRED}
    found = [
        with_survey(
            five.healthy(n) if state == "healthy" else five.crash_looping(n, cause()),
            certificates=certificates(bad, ca=ca),
        )
        for n, (state, ca) in enumerate(zip(states, cas, strict=True))
    ]
    plan = renewal_or_refusal(found, [five.host(n) for n in range(5)], everything=False)
    if plan is not None:
        assert check_plan(plan, cluster_of(found)) == ()


def renewal_or_refusal(found: list[Observation], hosts: list[str], everything: bool) -> Plan | None:
    try:
        return renew_certificates(cluster_of(found), hosts, NOW, everything=everything)
    except Refused as refused:
        said = refused
    assert said.why
    assert said.next
    return None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fingerprint": "cc" * 32}, "at which nobody looked"),
        ({"source": "master-3"}, "at which nobody looked"),
        ({"source": "master-2"}, "brings a host its own CA"),
    ],
)
def test_another_ca_than_the_one_looked_at_is_seen(change: dict[str, str], said: str) -> None:
    found = lab(looping(certificates=certificates({"peer": EXPIRED}, key="missing")))
    cluster = cluster_of(found)
    plan = renew_certificates(cluster, ["master-2"], NOW)
    lend, bring = plan.stages[0].steps
    changed = replace(bring, args={**bring.args, **change})
    stages = (replace(plan.stages[0], steps=(lend, changed)), *plan.stages[1:])
    broken = check_plan(replace(plan, stages=stages), cluster)
    assert any(said in text for text in broken), broken
    other = replace(lend, args={"fingerprint": "cc" * 32})
    stages = (replace(plan.stages[0], steps=(other, bring)), *plan.stages[1:])
    broken = check_plan(replace(plan, stages=stages), cluster)
    assert any("lends another CA" in text for text in broken), broken


# ---- alarms --------------------------------------------------------------------------------------


def alarmed(*alarms: Alarm) -> list[Observation]:
    return [LAB.healthy(n, online=LAB.online(n, alarms=alarms)) for n in range(3)]


FULL = Alarm(LAB.member_id(1), "NOSPACE")
GONE = Alarm("00000000000000ff", "CORRUPT")


def test_space_is_made_member_by_member_and_the_leader_last() -> None:
    found = alarmed(FULL)
    plan = clear_alarm(cluster_of(found), NOW, keep=10)
    assert text_of(plan, found) == (
        "master-1: compact_history\n"
        "master-2: defragment wait_serving\n"
        "master-3: defragment wait_serving\n"
        "master-1: defragment wait_serving\n"
        "master-1: disarm_nospace"
    )
    assert plan.steps()[0].args == {"keep": 10}
    assert plan.steps()[-1].args["quotas"] == {LAB.member_id(n): 0 for n in range(3)}


def test_a_single_member_is_cleared_too() -> None:
    one = Lab(1)
    found = [one.healthy(0, online=one.online(0, alarms=(Alarm(one.member_id(0), "NOSPACE"),)))]
    plan = clear_alarm(cluster_of(found), NOW)
    assert "disarm_nospace" in text_of(plan, found)


def test_the_mark_of_a_removed_member_goes_by_itself() -> None:
    found = alarmed(GONE)
    plan = clear_alarm(cluster_of(found), NOW)
    assert text_of(plan, found) == "master-1: clear_removed_alarm"


def test_a_corrupt_member_is_never_disarmed() -> None:
    with pytest.raises(Refused, match="CORRUPT") as refused:
        clear_alarm(cluster_of(alarmed(FULL, Alarm(LAB.member_id(2), "CORRUPT"))), NOW)
    assert "never taken back" in refused.value.why
    assert "fab rescue-node master-3" in refused.value.next


def test_nothing_is_disarmed_with_a_member_down() -> None:
    found = alarmed(FULL)
    found[2] = LAB.wiped(2)
    with pytest.raises(Refused, match="master-3"):
        clear_alarm(cluster_of(found), NOW)


def test_a_replaced_corrupt_member_takes_its_mark_along() -> None:
    found = alarmed(Alarm(LAB.member_id(1), "CORRUPT"))
    plan = replace_member(cluster_of(found), "master-2", NOW)
    steps = [(s.action, s.args) for s in plan.steps()]
    assert ("clear_removed_alarm", {"id": LAB.member_id(1)}) in steps
    text_of(plan, found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("early", "before master-1, master-2, master-3 had its database rewritten"),
        ("leader", "rewrites the leader's database before the others'"),
        ("together", "rewrites a second database while"),
        ("member", "which is a member"),
    ],
)
def test_unsafe_changes_of_the_plan_are_seen(change: str, said: str) -> None:
    found = alarmed(FULL, GONE)
    cluster = cluster_of(found)
    plan = clear_alarm(cluster, NOW)
    stages = list(plan.stages)
    if change == "early":
        stages = [stages[0], stages[-1]]
    elif change == "leader":
        stages[2], stages[-2] = stages[-2], stages[2]
    elif change == "together":
        merged = [s for stage in stages[2:5] for s in stage.steps if s.action == "defragment"]
        stages = [*stages[:2], Stage("all", tuple(merged)), stages[-1]]
    else:
        step = replace(stages[0].steps[0], args={"id": LAB.member_id(2)})
        stages[0] = replace(stages[0], steps=(step,))
    broken = check_plan(replace(plan, stages=tuple(stages)), cluster)
    assert any(said in text for text in broken), broken
