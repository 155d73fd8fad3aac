"""What a console makes of its own survey and of those carried to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agent.entry import planning, screen
from agent.entry.stick import Stick
from agent.errors import Locked, Refused
from agent.host import Host
from agent.model.facts import JournalFacts, Observation, Sighting, Survey
from agent.model.plan import Plan
from agent.recipes.cluster import Cluster
from agent.recipes.reseed import reseed
from agent.records.carried import Carried
from coordinator.courier import _LENDS
from tests.unit.builders import Lab
from tests.unit.diagnosis.test_certificates import certificates, lab, looping

LAB = Lab(3)
LOST = [LAB.no_quorum(0), LAB.wiped(1), LAB.wiped(2)]
NOW = 1_790_000_000.0


def survey_of(seen: Observation) -> Survey:
    assert seen.survey is not None
    return seen.survey


def carried_of(seen: Observation, made: float = NOW) -> Carried:
    survey = survey_of(seen)
    return Carried(f"/stick/carried-{survey.hostname}.json", survey.hostname, made, survey, ())


def stick_of(*seen: Observation) -> Stick:
    return Stick("/stick", tuple(carried_of(o) for o in seen))


def no_one(needed: Sequence[tuple[str, str]], absent: Sequence[str]) -> None:
    raise AssertionError(f"asked for {needed}")


class Quiet(Host):
    """A host whose clock stands still."""

    def now(self) -> float:
        return NOW


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    def sight(host: Host, address: str, ports: Sequence[int], timeout: float = 1.0) -> Sighting:
        return Sighting("", address, (), tuple(ports))

    monkeypatch.setattr("agent.survey.online.sight", sight)
    return Quiet(str(tmp_path))


def test_names_and_addresses_are_those_that_a_plan_knows_everywhere(host: Host) -> None:
    """The same plan comes out at whichever console it is made."""
    plans = []
    for own in range(3):
        others = [LOST[n] for n in range(3) if n != own]
        seen = planning.observe(host, survey_of(LOST[own]), stick_of(*others))
        assert {o.host: o.address for o in seen} == {
            LAB.host(n): LAB.address(n) for n in range(3)
        }  # fmt: skip
        plan = planning.make_plan(seen, "", NOW, (), ("master-2", "master-3"), no_one)
        assert plan is not None
        plans.append(replace(plan, hosts={}, id="").with_id().id)
    assert len(set(plans)) == 1


def test_a_member_that_nothing_was_carried_of_is_looked_at_and_needs_a_word(host: Host) -> None:
    seen = planning.observe(host, survey_of(LOST[0]), stick_of(LOST[1]))
    missing = next(o for o in seen if o.survey is None)
    assert (missing.host, missing.address) == ("master-3", LAB.address(2))
    assert missing.sightings[0].closed_ports
    assert "rescue-agent export" in missing.next
    asked: list[str] = []

    def ask(needed: Sequence[tuple[str, str]], absent: Sequence[str]) -> None:
        asked.extend(absent)

    plan = planning.make_plan(seen, "", NOW, (), (), ask)
    assert asked == ["master-3"]
    assert plan is not None
    assert plan.declared_lost == ("master-3",)
    given = planning.make_plan(seen, "", NOW, ("master-3",), ("master-2",), no_one)
    assert given is not None


def test_without_a_terminal_a_missing_word_is_refused_with_what_to_type(host: Host) -> None:
    seen = planning.observe(host, survey_of(LOST[0]), stick_of(LOST[1]))
    with pytest.raises(Refused) as caught:
        planning.make_plan(seen, "", NOW, (), (), screen.ask_consent)
    assert "rescue-agent plan --lost master-3" in caught.value.next


def test_a_member_whose_etcd_answers_cannot_be_given_up(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sight(host: Host, address: str, ports: Sequence[int], timeout: float = 1.0) -> Sighting:
        return Sighting("", address, (2379, 2380))

    monkeypatch.setattr("agent.survey.online.sight", sight)
    seen = planning.observe(host, survey_of(LOST[0]), stick_of(LOST[1]))
    with pytest.raises(Refused):
        planning.make_plan(seen, "", NOW, ("master-3",), (), no_one)


def with_journal(seen: Observation, state: str) -> Observation:
    facts = JournalFacts("ab" * 32, "reseed", state, problem="torn" if state == "damaged" else "")
    return replace(seen, survey=replace(survey_of(seen), journals=(facts,)))


@pytest.mark.parametrize(("state", "error"), [("open", Locked), ("damaged", Refused)])
@pytest.mark.parametrize("number", [0, 1])
def test_an_open_plan_anywhere_is_in_the_way(
    host: Host, state: str, error: type[Refused], number: int
) -> None:
    changed = [with_journal(o, state) if n == number else o for n, o in enumerate(LOST)]
    seen = planning.observe(host, survey_of(changed[0]), stick_of(*changed[1:]))
    with pytest.raises(error):
        planning.make_plan(seen, "", NOW, (), ("master-2", "master-3"), no_one)
    if state == "open":
        planning.require_nothing_open(seen, but="ab" * 32)


def test_what_is_old_or_from_tomorrow_is_said(host: Host) -> None:
    files = tuple(carried_of(LOST[n], NOW + seconds) for n, seconds in ((1, -3600), (2, 7200)))
    said = planning.say_age(host, Stick("", files))
    assert "master-2 is judged by what was carried from it 60 min ago" in said[0]
    assert "the clock of master-3 is 2 h ahead" in said[1]
    assert planning.say_age(host, stick_of(*LOST[1:])) == []


def test_a_quorum_that_came_back_ends_the_plan_at_any_console_of_it(host: Host) -> None:
    seen = planning.observe(host, survey_of(LOST[0]), stick_of(*LOST[1:]))
    plan = planning.make_plan(seen, "", NOW, (), ("master-2", "master-3"), no_one)
    assert plan is not None
    planning.require_fitting(plan, seen, is_begun=False, is_turned=False)
    planning.require_fitting(plan, seen, is_begun=True, is_turned=False)
    for number in range(3):
        others = [LOST[n] for n in range(3) if n != number]
        back = planning.observe(host, survey_of(LAB.healthy(number)), stick_of(*others))
        for is_begun in (False, True):
            with pytest.raises(Refused, match="does not fit"):
                planning.require_fitting(plan, back, is_begun, is_turned=False)
        planning.require_fitting(plan, back, is_begun=True, is_turned=True)


def opened(seen: Observation, plan: Plan, *done: str) -> Observation:
    """A host on which the plan is open, by its survey."""
    facts = JournalFacts(plan.id, plan.recipe, "open", done)
    return replace(seen, survey=replace(survey_of(seen), journals=(facts,)))


def test_what_a_plan_itself_has_changed_does_not_end_it(host: Host) -> None:
    """A member is fenced at its console, and then its replacement goes on at another one."""
    ill = [LAB.healthy(0), LAB.healthy(1), LAB.corrupt(2)]
    seen = planning.observe(host, survey_of(ill[0]), stick_of(*ill[1:]))
    plan = planning.make_plan(seen, "master-3", NOW, (), (), no_one)
    assert plan is not None
    assert plan.recipe == "replace-member"
    looked = [*ill[:2], opened(ill[2], plan, "01")]
    planning.require_fitting(plan, looked, is_begun=False, is_turned=False)
    fenced = [*ill[:2], opened(LAB.fenced(2), plan, "01", "02")]
    planning.require_fitting(plan, fenced, is_begun=True, is_turned=False)
    elsewhere = Lab(3, cluster_id="ee" * 8)
    others = [elsewhere.healthy(0), elsewhere.healthy(1), opened(LAB.fenced(2), plan, "01")]
    with pytest.raises(Refused, match="does not fit"):
        planning.require_fitting(plan, others, is_begun=True, is_turned=False)


def test_a_reseed_goes_on_over_what_it_has_fenced_and_over_nothing_else(host: Host) -> None:
    seen = planning.observe(host, survey_of(LOST[0]), stick_of(*LOST[1:]))
    plan = planning.make_plan(seen, "", NOW, (), (), no_one)
    assert plan is not None
    fenced = [opened(LOST[0], plan, "01"), opened(LAB.fenced(1), plan, "02"), LOST[2]]
    with pytest.raises(Refused, match=r"best survivor|does not fit"):
        # its data was thought gone, and is there: as good as the survivor's
        planning.require_fitting(plan, [*fenced[:2], LAB.no_quorum(2)], True, is_turned=False)
    wiped = replace(LAB.fenced(1), survey=replace(survey_of(LAB.wiped(1)), config=None))
    planning.require_fitting(
        plan, [fenced[0], opened(wiped, plan, "02"), LOST[2]], True, is_turned=False
    )


def promised(voters: tuple[str, ...], revision: int = 0) -> Plan:
    plan = reseed(Cluster(planning.judged(LOST), tuple(LOST)), NOW)
    return replace(plan, promise=replace(plan.promise, voters=voters, revision=revision)).with_id()


ALL = ("master-1", "master-2", "master-3")


def test_the_promise_is_held_against_this_host_and_its_member_list() -> None:
    plan = promised(ALL)
    healthy = survey_of(LAB.healthy(0))
    assert planning.not_as_promised(plan, "master-1", healthy) == []
    alone = replace(
        healthy, online=replace(LAB.online(0, linearizable=True), members=LAB.members(without=[2]))
    )
    told = planning.not_as_promised(plan, "master-1", alone)
    assert any("master-3 is no voter in the member list of master-1" in text for text in told)
    assert planning.not_as_promised(plan, "master-1", alone, ["master-3"]) == []
    assert planning.not_as_promised(plan, "master-1", survey_of(LOST[0]))
    ahead = promised(ALL, revision=10**9)
    assert any("promised 1000000000" in t
               for t in planning.not_as_promised(ahead, "master-1", healthy))  # fmt: skip
    elsewhere = promised(("master-2", "master-3"))
    assert planning.not_as_promised(elsewhere, "master-1", healthy) == []


def test_the_key_of_a_ca_is_not_carried(host: Host) -> None:
    """A plan for which a coordinator takes it from host to host is refused at a console."""
    expired = certificates({"peer": ("expired 2 d ago",)}, key="missing")
    hosts = lab(looping(certificates=expired))
    seen = planning.observe(host, survey_of(hosts[0]), stick_of(*hosts[1:]))
    with pytest.raises(Refused) as caught:
        planning.make_plan(seen, "master-2", NOW, (), (), no_one)
    assert "needs the CA of etcd from master-1" in caught.value.seen
    assert "its key is a secret" in caught.value.why
    assert set(_LENDS) == planning.LENT
