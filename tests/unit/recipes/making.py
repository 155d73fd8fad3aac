"""Plans for tests: of a lab's hosts, as text, and for every recipe that a diagnosis offers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Optional

from hypothesis import strategies as st

from agent.diagnosis.cluster import diagnose, diagnose_host
from agent.errors import Refused
from agent.model.facts import Alarm, Observation, OnlineFacts, Survey
from agent.model.plan import Plan
from agent.model.verdict import Diagnosis, MemberState
from agent.recipes.clear_alarm import clear_alarm
from agent.recipes.cluster import Cluster
from agent.recipes.renew_certificates import renew_certificates
from agent.recipes.replace_member import remove_member, replace_member
from agent.recipes.reseed import reseed
from agent.recipes.restart_member import restart_member
from tests.unit.builders import Lab, with_survey
from tests.unit.strategies import clusters, torn

NOW = 1_790_000_000.0
ABSENT = (MemberState.UNREACHABLE, MemberState.GHOST)


def cluster_of(observations: Sequence[Observation], *lost: str) -> Cluster:
    """The hosts as diagnosed."""
    return Cluster(diagnose(observations, lost), tuple(observations))


def as_text(plan: Plan) -> str:
    """One line a stage: host: its actions; hosts in their order."""
    lines = []
    for stage in plan.stages:
        parts: list[str] = []
        last = ""
        for step in stage.steps:
            parts.append(f"{step.host}: {step.action}" if step.host != last else step.action)
            last = step.host
        marks = "|| " * stage.parallel
        lines.append(marks + " ".join(parts))
    return "\n".join(lines)


def make(cluster: Cluster, recipe: str, target: str, lost: Sequence[str] = ()) -> Plan:
    """The plan of that recipe, as the operator's tasks make it."""
    if recipe == "reseed":
        return reseed(cluster, NOW, lost)
    if recipe == "renew-certificates":
        return renew_certificates(cluster, [target], NOW)
    if recipe == "clear-alarm":
        return clear_alarm(cluster, NOW)
    makers = {
        "replace-member": replace_member,
        "restart-member": restart_member,
        "remove-member": remove_member,
    }
    return makers[recipe](cluster, target, NOW)


def offers(
    observations: Sequence[Observation],
) -> Iterator[tuple[Cluster, str, str, tuple[str, ...]]]:
    """(cluster, recipe, target, declared lost) of everything that is offered for these hosts.

    Absent hosts that consent is asked for are declared lost, as an operator would.
    """
    first = diagnose(observations)
    lost = tuple(sorted(name for name, _ in first.consent if _is_absent(first, name)))
    diagnosis = diagnose(observations, lost)
    cluster = Cluster(diagnosis, tuple(observations))
    if diagnosis.recipe:
        yield cluster, diagnosis.recipe, diagnosis.target, lost
    absent = tuple(m.host for m in diagnosis.members if m.state in ABSENT)
    for member in diagnosis.members:
        for declared in ((), absent):
            recipe, target, _ = diagnose_host(diagnosis, member.host, declared)
            if recipe:
                yield cluster, recipe, target, declared


def plan_or_refusal(
    cluster: Cluster, recipe: str, target: str, lost: Sequence[str]
) -> Optional[Plan]:
    """The plan, or None for a refusal that says all that a refusal must."""
    try:
        return make(cluster, recipe, target, lost)
    except Refused as refused:
        said = refused
    assert said.seen
    assert said.why, said.seen
    assert said.next, said.seen
    return None


def _is_absent(diagnosis: Diagnosis, name: str) -> bool:
    member = diagnosis.member(name)
    return member is not None and member.state in ABSENT


# ---- strategies ----------------------------------------------------------------------------------


@st.composite
def hosts(draw: st.DrawFn, *, serving: Optional[bool] = None) -> list[Observation]:
    """Hosts of 1, 3, 5 or 7 members in any mix of states, some of them with an oddity more."""
    lab, found = draw(clusters(serving=serving))
    odd = draw(st.sampled_from(("none", "none", "learner", "alarm", "learner-ghost", "removed")))
    if odd.startswith("learner") and lab.size > 1:
        found = _with_learner(lab, found, draw(st.integers(0, lab.size - 1)), odd.endswith("ghost"))
    if odd == "removed" and lab.size > 1:
        found = _without_one(lab, found, draw(st.integers(0, lab.size - 1)))
    twisted = [_twist(lab, o, draw(st.sampled_from(TWISTS))) for o in found]
    if odd == "alarm":
        alarm = Alarm(lab.member_id(draw(st.integers(0, lab.size - 1))), "CORRUPT")
        twisted = [_alarmed(o, alarm) for o in twisted]
    return twisted


anything = st.one_of(hosts(), hosts(serving=False), hosts(serving=True), torn())
"""Hosts in any state, those with missing parts of surveys too."""

TWISTS = (
    "none", "none", "none", "none", "missing", "parked", "parked-config", "two-parked", "fence",
    "no-runtime", "stale-flags", "no-client-urls",
)  # fmt: skip


def _twist(lab: Lab, observation: Observation, twist: str) -> Observation:
    survey = observation.survey
    if survey is None or twist == "none":
        return observation
    number = int(observation.host.rpartition("-")[2]) - 1
    return with_survey(observation, **_twisted(lab, survey, number, twist))


def _twisted(lab: Lab, survey: Survey, number: int, twist: str) -> dict[str, Any]:
    runs = bool(survey.processes)
    parked = lab.stopped(number).survey
    fenced = lab.fenced(number).survey
    config = lab.config(number)
    assert parked is not None
    assert fenced is not None
    if twist in ("missing", "parked", "parked-config", "two-parked") and not runs:
        places = {"missing": (), "two-parked": (*parked.parked, _other(parked))}
        known = replace(config, definition=parked.parked[0].path)
        return {
            "config": None,
            "parked": places.get(twist, parked.parked),
            "parked_config": known if twist == "parked-config" else None,
        }
    if twist == "fence" and not runs:
        return {"fence": fenced.fence}
    if twist == "no-runtime" and not runs:
        return {"runtime": None}
    if twist == "stale-flags" and survey.config:
        return {"config": replace(survey.config, initial_cluster=(), initial_cluster_state="new")}
    if twist == "no-client-urls" and isinstance(survey.online, OnlineFacts):
        bare = tuple(replace(m, client_urls=()) for m in survey.online.members)
        return {"online": replace(survey.online, members=bare)}
    return {}


def _other(survey: Survey) -> Any:
    return replace(survey.parked[0], path="/var/lib/etcd-rescue/parked/x.yaml", sha256="cd" * 32)


def _alarmed(observation: Observation, alarm: Alarm) -> Observation:
    survey = observation.survey
    if survey is None or survey.online is None:
        return observation
    return with_survey(observation, online=replace(survey.online, alarms=(alarm,)))


def _with_learner(
    lab: Lab, found: Sequence[Observation], number: int, ghost: bool
) -> list[Observation]:
    """One more member in all lists, a learner that never started; or one of the voters is one."""
    listed = list(lab.members())
    if ghost:
        urls = ("https://10.0.0.99:2380",)
        listed.append(lab.member(98, name="", peer_urls=urls, client_urls=(), is_learner=True))
    else:
        listed[number] = replace(listed[number], is_learner=True)
    return [_listing(o, tuple(listed)) for o in found]


def _without_one(lab: Lab, found: Sequence[Observation], number: int) -> list[Observation]:
    """One of the voters was removed: the others' lists are without it, and its log says so."""
    left = lab.members(without=(number,))
    others = [o if o.host == lab.host(number) else _listing(o, left) for o in found]
    return [lab.removed(number) if o.host == lab.host(number) and o.survey else o for o in others]


def _listing(observation: Observation, members: tuple[Any, ...]) -> Observation:
    survey = observation.survey
    if survey is None:
        return observation
    given: dict[str, Any] = {}
    if survey.online is not None and survey.online.members:
        given["online"] = replace(survey.online, members=members)
    if survey.offline is not None and survey.offline.db is not None:
        db = replace(survey.offline.db, members=members)
        given["offline"] = replace(survey.offline, db=db)
    return with_survey(observation, **given)
