"""Which observed host is which member."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

from agent.diagnosis import signs
from agent.diagnosis.witness import Witness, same_cluster
from agent.model.facts import Member, Observation

_Fits = Callable[[Observation, Member], bool]


def match(observations: Sequence[Observation], witness: Witness) -> dict[str, Member]:
    """Pairs of host and member, one to one; hosts and members that fit nothing are left out.

    The strongest evidence is used up first: the member ID in the running etcd or its log, then the
    peer URLs and addresses, then the name in etcd's configuration (names repeat, so only one that
    is unique). Where two hosts claim one ID (a cloned disk), the one that lives at the member's
    address has it.
    """
    hosts = sorted(observations, key=lambda o: o.host)
    found: dict[str, Member] = {}
    rules: tuple[_Fits, ...] = (
        lambda o, m: _has_id(o, m, witness) and _lives_at(o, m),
        lambda o, m: _has_id(o, m, witness),
        _advertises,
        _lives_at,
        lambda o, m: _is_named(o, m, witness),
        lambda o, m: o.survey is None and bool(m.name) and o.host == m.name,
    )
    for fits in rules:
        for observation in hosts:
            taken = {member.id for member in found.values()}
            if observation.host in found:
                continue
            for member in witness.members:
                if member.id not in taken and fits(observation, member):
                    found[observation.host] = member
                    break
    return found


def distinct(observations: Sequence[Observation]) -> tuple[list[Observation], list[str]]:
    """(each machine once, sorted by host; what to say of the ones left out).

    An inventory may name one machine twice; counted twice it would be two members.
    """

    def key(o: Observation) -> tuple[str, bool, float, str, str]:
        time = o.survey.time if o.survey else 0.0
        return o.host, o.survey is None, -time, o.address, o.error

    kept: list[Observation] = []
    said: list[str] = []
    machines: dict[tuple[object, ...], str] = {}
    for observation in sorted(observations, key=key):
        if kept and kept[-1].host == observation.host:
            said.append(f"{observation.host} is given twice; the first survey of it counts")
            continue
        survey = observation.survey
        if survey is not None and survey.machine_id:
            # All four: copied machines share an ID, and containers of one machine a boot.
            machine = (survey.machine_id, survey.boot_id, survey.hostname, survey.addresses)
            other = machines.setdefault(machine, observation.host)
            if other != observation.host:
                said.append(f"{observation.host} is the same machine as {other}; it counts once")
                continue
        kept.append(observation)
    return kept, said


def cloned(observations: Sequence[Observation]) -> list[str]:
    """What to say of hosts whose data carries the same member ID; empty where none does."""
    owners: dict[tuple[str, str], list[str]] = {}
    for observation in sorted(observations, key=lambda o: o.host):
        if observation.survey is None or not signs.own_id(observation.survey):
            continue
        key = (signs.own_cluster(observation.survey), signs.own_id(observation.survey))
        owners.setdefault(key, []).append(observation.host)
    return [
        f"{' and '.join(hosts)} hold data of one and the same member {member_id}: "
        f"a copied disk; only one of them may ever run"
        for (_, member_id), hosts in sorted(owners.items())
        if len(set(hosts)) > 1
    ]


def _has_id(observation: Observation, member: Member, witness: Witness) -> bool:
    survey = observation.survey
    if survey is None or signs.own_id(survey) != member.id:
        return False
    return same_cluster(signs.own_cluster(survey), witness.cluster_id)


def _advertises(observation: Observation, member: Member) -> bool:
    survey = observation.survey
    config = survey.config if survey else None
    return config is not None and bool(set(config.advertise_peer_urls) & set(member.peer_urls))


def _lives_at(observation: Observation, member: Member) -> bool:
    urls = {signs.url_host(url) for url in member.peer_urls}
    return bool(urls & signs.addresses(observation))


def _is_named(observation: Observation, member: Member, witness: Witness) -> bool:
    survey = observation.survey
    config = survey.config if survey else None
    if config is None or not member.name or config.name != member.name:
        return False
    return sum(other.name == member.name for other in witness.members) == 1
