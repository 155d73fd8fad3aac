"""What a console makes of what it sees and what was carried to it: a diagnosis, and a plan.

The only place in the agent that plans: elsewhere a coordinator does, or nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Optional
from urllib.parse import urlsplit

from agent.diagnosis.cluster import diagnose
from agent.diagnosis.matching import distinct, match
from agent.diagnosis.witness import choose
from agent.entry.stick import Stick
from agent.errors import Refused
from agent.host import Host
from agent.model.facts import Member, Observation, Sighting, Survey
from agent.model.holding import age, damaged_journal, not_finished
from agent.model.plan import Plan
from agent.model.verdict import Diagnosis
from agent.recipes.choosing import consent_needed, offered, plan_of
from agent.recipes.cluster import Cluster
from agent.recipes.fitting import require_fit, require_still_fit
from agent.recipes.invariants import require_sound
from agent.recipes.promise import broken_promise

_PORTS = (22, 2379, 2380)
LENT = frozenset({"install_authority", "install_ca_files"})
"""Steps that take a secret of another host, which a coordinator hands over in its memory."""
_OLD = 15 * 60.0
"""Seconds after which what was carried here is worth a warning."""

Ask = Callable[[Sequence[tuple[str, str]], Sequence[str]], None]
"""((name, reason)…, names of absent hosts) → asks a person; raises Refused for a no."""


def observe(host: Host, survey: Survey, stick: Stick) -> tuple[Observation, ...]:
    """Give one observation a host: here by its survey, others by what was carried, or by a look.

    A member that nothing was carried of is looked at over the network, if there is one.
    """
    own = Observation(survey.hostname, _address(survey), survey=survey, clock=(0.0, 0.0))
    seen = [own]
    seen += [Observation(f.host, _address(f.survey), survey=f.survey) for f in stick.others]
    return (*seen, *(_unseen(host, member) for member in _strangers(seen)))


def _address(survey: Survey) -> str:
    """The address that the others reach a host by: the one its etcd advertises, if it has it."""
    config = survey.config or survey.parked_config
    told = [_of_url(url) for url in (config.advertise_peer_urls if config else ())]
    return next((a for a in told if a in survey.addresses), next(iter(survey.addresses), ""))


def _of_url(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _strangers(seen: Sequence[Observation]) -> list[Member]:
    """Members of the cluster that none of these hosts is."""
    hosts = distinct(seen)[0]
    witness = choose(hosts)
    known = {member.id for member in match(hosts, witness).values()}
    return [member for member in witness.members if member.id not in known]


def _unseen(host: Host, member: Member) -> Observation:
    from agent.survey.online import sight

    address = next((a for a in map(_of_url, member.peer_urls) if a), "")
    name = member.name or address or member.id
    sightings: tuple[Sighting, ...] = ()
    if address:
        sightings = (replace(sight(host, address, _PORTS), seen_from=host.hostname()),)
    return Observation(
        name,
        address,
        error="nothing was carried here from it",
        sightings=sightings,
        next=f"on {name}: rescue-agent export DIRECTORY; then here: --stick DIRECTORY",
    )


def say_age(host: Host, stick: Stick) -> list[str]:
    """What to say of carried files that are old, or were made by a clock that is ahead."""
    found = []
    for file in stick.others:
        seconds = host.now() - file.made
        if seconds > _OLD:
            found.append(f"{file.host} is judged by what was carried from it {age(seconds)} ago")
        elif seconds < -60:
            found.append(f"the clock of {file.host} is {age(-seconds)} ahead of this one's")
    return found


def judged(observations: Sequence[Observation], lost: Sequence[str] = ()) -> Diagnosis:
    """The diagnosis of what is known here."""
    return diagnose(observations, lost)


def require_nothing_open(observations: Sequence[Observation], but: str = "") -> None:
    """Raise Locked or Refused where a plan other than `but` is not finished on any host."""
    for observation in observations:
        survey = observation.survey
        for facts in survey.journals if survey else ():
            if facts.state == "damaged":
                raise damaged_journal(observation.host, facts)
            if survey and facts.state == "open" and facts.plan != but:
                raise not_finished(observation.host, survey, facts)


def make_plan(
    observations: Sequence[Observation],
    target: str,
    created: float,
    lost: Sequence[str],
    accepted: Sequence[str],
    ask: Ask,
    in_manifest: bool = False,
) -> Optional[Plan]:
    """The plan for a host, or for the cluster; None where nothing is to be done.

    Raises Refused, or Locked where a plan is open. ask: is asked for every consent not given yet.
    """
    require_nothing_open(observations)
    diagnosis = diagnose(observations, lost)
    recipe, on = offered(diagnosis, target, lost)
    if not recipe:
        return None
    needed, absent = consent_needed(diagnosis, recipe, accepted)
    if needed:
        ask(needed, absent)
    declared = [*lost, *absent]
    plan = plan_of(observations, recipe, on, created, declared, in_manifest)
    require_sound(plan, Cluster(diagnose(observations, declared), tuple(observations)))
    _require_no_secret(plan)
    return plan


def _require_no_secret(plan: Plan) -> None:
    """A stick is no place for the key of a CA, which a coordinator takes from host to host."""
    step = next((s for s in plan.steps() if s.action in LENT), None)
    if step is not None:
        raise Refused(
            f"{step.host}: needs the CA of etcd from {step.args.get('source', 'another host')}",
            "its key is a secret, and what is carried on a stick holds none",
            f"copy /etc/kubernetes/pki/etcd/ca.crt and ca.key from there to {step.host} yourself, "
            "as you may; then: rescue-agent plan",
        )


# ---- a plan that was made before -----------------------------------------------------------------


def require_fitting(
    plan: Plan, observations: Sequence[Observation], is_begun: bool, is_turned: bool
) -> None:
    """Raise Refused where this host is no more what the plan was made for.

    is_begun: steps of it were done on other hosts; then what these changed fits no plan, and it is
    only asked whether it may go on. is_turned: the point of no return is behind it; then what
    is left can only be finished, and each step's own precondition looks at this host.
    """
    require_nothing_open(observations, but=plan.id)
    if is_turned:
        return
    seen = tuple(_without(plan, observation) for observation in observations)
    cluster = Cluster(diagnose(seen, plan.declared_lost), seen)
    if is_begun:
        require_still_fit(plan, cluster)
    else:
        require_fit(plan, cluster)


def _without(plan: Plan, seen: Observation) -> Observation:
    """The host as if this plan were not open on it: it is the one that is judged."""
    if seen.survey is None:
        return seen
    journals = tuple(facts for facts in seen.survey.journals if facts.plan != plan.id)
    return replace(seen, survey=replace(seen.survey, journals=journals))


def not_as_promised(
    plan: Plan, name: str, survey: Survey, dropped: Collection[str] = ()
) -> list[str]:
    """What speaks against this host being what the plan promised; empty for nothing.

    All members that were promised, and not dropped, must be voters in the list that it serves.
    """
    seen = Observation(name, _address(survey), survey=survey)
    others = [Observation(h, a, error="not asked") for h, a in plan.hosts.items() if h != name]
    diagnosis = diagnose([seen, *others], plan.declared_lost)
    kept = [name] if name in plan.promise.voters else []
    found = broken_promise(plan, kept, diagnosis, [seen])
    for host in [h for h in plan.promise.voters if kept and h not in dropped]:
        verdict = diagnosis.member(host)
        if verdict is None or not verdict.id or not verdict.voter:
            found.append(f"{host} is no voter in the member list of {name}")
    return found
