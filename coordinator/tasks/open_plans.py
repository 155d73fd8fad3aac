"""Plans that are open on some host: whose they are, what they forbid, and what is left behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from agent.diagnosis.cluster import diagnose
from agent.errors import Locked, UsageError
from agent.model.catalog import CATALOG
from agent.model.codec import from_plain
from agent.model.facts import JournalFacts, Observation, Survey
from agent.model.holding import damaged_journal, not_finished
from agent.model.plan import Plan, plan_from_plain
from agent.model.signed import Signed
from coordinator.carried_store import of_silent
from coordinator.dcos import state
from coordinator.sequencer import Sequencer
from coordinator.tasks.common import Looked, Options

_CLOSED = ("complete", "rolled-back")


def is_of_dcos(options: Options, plan_id: str) -> bool:
    """True where a plan of this machine's is meant, of a DC/OS service, and none of hosts'."""
    if plan_id:
        return state.knows(plan_id)
    says_hosts = options.hosts or options.cluster or options.hosts_from
    return not says_hosts and not Path("cluster.yaml").is_file() and state.has_open_plan()


def refuse_open_plans(looked: Looked) -> None:
    """Raise Locked or Refused where a plan is not finished, or a journal is damaged.

    One of which nothing was begun anywhere and whose run has ended stands in nobody's way: it is
    closed (`settle`) before another is begun.
    """
    idle = {plan.id for plan, _kind in _left_behind(looked)}
    for observation, survey, facts in _journals(looked):
        if facts.state == "damaged":
            raise damaged_journal(observation.host, facts)
        if facts.state == "open" and facts.plan not in idle:
            raise not_finished(observation.host, survey, facts)
    _refuse_carried(looked)


def _refuse_carried(looked: Looked) -> None:
    """Raise Locked where a plan is open on a host that does not answer, by its imported journal.

    Unless a host that answers has closed it: then that one was carried too early.
    """
    closed = {facts.plan for _o, _s, facts in _journals(looked) if facts.state in _CLOSED}
    for file in of_silent(looked.carried, looked.observations):
        for history in file.histories:
            if history.state == "open" and history.plan.id not in closed:
                raise Locked(
                    f"{file.host}: plan {history.plan.short_id} ({history.plan.recipe}) is not "
                    "finished there, by what was carried from it, and it does not answer",
                    "a second plan on top of a half-done one could undo what the first needs",
                    f"make it reachable, then: fab resume; or at its console: rescue-agent resume "
                    f"{history.plan.short_id}; if it is gone for good: remove {file.where}",
                )


def without_left_behind(looked: Looked, lost: Sequence[str]) -> Looked:
    """The same hosts, seen as they are once `settle` has closed what was left behind there."""
    over = {plan.id: kind for plan, kind in _left_behind(looked)}
    if not over:
        return looked

    def closed(observation: Observation) -> Observation:
        survey = observation.survey
        if survey is None:
            return observation
        journals = tuple(replace(f, state=over.get(f.plan, f.state)) for f in survey.journals)
        return replace(observation, survey=replace(survey, journals=journals))

    observations = tuple(closed(o) for o in looked.observations)
    return replace(looked, observations=observations, diagnosis=diagnose(observations, lost))


def settle(looked: Looked) -> None:
    """Close plans that were left open and of which nothing is left to do or to take back."""
    for plan, kind in _left_behind(looked):
        sequencer = Sequencer(
            looked.fleet, plan, looked.progress, stored_signature(looked, plan), looked.policy
        )
        sequencer.begin()
        sequencer.close(kind)
        looked.progress.say(f"plan {plan.short_id}, left open by a run that ended, is closed")


def _left_behind(looked: Looked) -> Iterator[tuple[Plan, str]]:
    """(plan, how it ended) of every open plan that is known to be over.

    It is over where each host that it has steps on was surveyed and knows of nothing begun, or has
    closed it, and no run of it is at work on any host.
    """
    for plan_id in dict.fromkeys(f.plan for _o, _s, f in _journals(looked) if f.state == "open"):
        known = {o.host: (s, f) for o, s, f in _journals(looked) if f.plan == plan_id}
        if any(s.lock and s.lock.alive and s.lock.plan == plan_id for s, _f in known.values()):
            continue
        first = next(host for host, (_s, f) in known.items() if f.state == "open")
        plan = plan_from_plain(looked.fleet.call(first, "plan", {"plan": plan_id}))
        surveyed = {o.host for o in looked.observations if o.survey}
        if not {step.host for step in plan.steps()} <= surveyed:
            continue
        closed = {f.state for _s, f in known.values()} & set(_CLOSED)
        if all(f.state in _CLOSED or not _touched(plan, f) for _s, f in known.values()):
            yield plan, "complete" if "complete" in closed else "rolled-back"


def _touched(plan: Plan, facts: JournalFacts) -> bool:
    """True if a step with effects was begun or done there, and not undone."""
    steps = [plan.step(step_id) for step_id in (*facts.done, *facts.begun)]
    return any(step is None or CATALOG[step.action].effects for step in steps)


def _journals(looked: Looked) -> Iterator[tuple[Observation, Survey, JournalFacts]]:
    for observation in looked.observations:
        if observation.survey is not None:
            for facts in observation.survey.journals:
                yield observation, observation.survey, facts


def journal_states(looked: Looked, plan: Plan) -> set[str]:
    """What the hosts' journals say of a plan: open, complete, rolled-back; empty for none."""
    return {facts.state for _o, _s, facts in _journals(looked) if facts.plan == plan.id}


def stored_signature(looked: Looked, plan: Plan) -> Signed | None:
    """Give the signature that a host's journal has of a plan; None where none has one."""
    for observation, _survey, facts in _journals(looked):
        if facts.plan == plan.id and facts.state != "damaged":
            try:
                plain = looked.fleet.call(observation.host, "signature", {"plan": plan.id})
            except UsageError:
                continue
            if plain is not None:
                return from_plain(Signed, plain, f"signature of {observation.host}")
    return None


def tell_of_holders(looked: Looked, plan: Plan) -> None:
    """Say whose run of this plan is taken over, where one is at work now."""
    locks = [s.lock for _o, s, _f in _journals(looked) if s.lock and s.lock.plan == plan.id]
    for holder in dict.fromkeys(lock.holder for lock in locks if lock.alive):
        looked.progress.say(f"taken over from {holder}, who was at work on it")
