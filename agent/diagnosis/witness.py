"""The witness: whose list of members is believed, and who else tells another story."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Optional

from agent.diagnosis import signs
from agent.model.facts import EtcdConfig, Member, Observation, Survey


@dataclass(frozen=True)
class Witness:
    """The membership that is judged by. host is empty where nobody could tell one.

    online: told by an etcd that answers reads through the quorum, so it is the truth; else it is
    the members bucket of the database of the host with the longest log.
    """

    host: str = ""
    online: bool = False
    cluster_id: str = ""
    members: tuple[Member, ...] = ()
    removed_ids: frozenset[str] = frozenset()

    def member(self, member_id: str) -> Optional[Member]:
        """The member of that ID, or None."""
        return next((m for m in self.members if member_id and m.id == member_id), None)

    @property
    def source(self) -> str:
        """Where the list comes from, in words."""
        how = "as it serves" if self.online else "from its data directory"
        return f"{self.host} ({how})"


def choose(observations: Sequence[Observation]) -> Witness:
    """The best witness; the order of the observations does not matter."""
    return _online(observations) or _offline(observations) or Witness()


def surveys(observations: Sequence[Observation]) -> list[tuple[str, Survey]]:
    """(host, survey) of every host that has one, sorted by host."""
    found = [(o.host, o.survey) for o in observations if o.survey is not None]
    return sorted(found, key=lambda pair: pair[0])


def removed_ids(observations: Sequence[Observation], cluster_id: str) -> frozenset[str]:
    """IDs that any database of that cluster knows as removed. etcd never gives one out again."""
    found: set[str] = set()
    for _, survey in surveys(observations):
        db = survey.offline.db if survey.offline else None
        if db is not None and same_cluster(signs.own_cluster(survey), cluster_id):
            found |= set(db.removed_ids)
    return frozenset(found)


def same_cluster(one: str, other: str) -> bool:
    """False only if both cluster IDs are known and differ."""
    return not one or not other or one == other


def differing(observations: Sequence[Observation], witness: Witness) -> list[str]:
    """What each source that contradicts the witness says; empty where all agree."""
    told, configs = _shown(witness.members), _configs(observations)
    lines = []
    for host, survey in surveys(observations):
        if not same_cluster(signs.own_cluster(survey), witness.cluster_id):
            continue
        online = survey.online.members if signs.answers(survey) and survey.online else ()
        db = survey.offline.db if survey.offline else None
        stored = named(db.members, configs) if db else ()
        for how, members in (("online", online), ("in its database", stored)):
            if members and _shown(members) != told:
                lines.append(
                    f"{host} {how} lists {_shown(members)}; judged by {told} of {witness.source}"
                )
    return lines


def _configs(observations: Sequence[Observation]) -> list[EtcdConfig]:
    return [survey.config for _host, survey in surveys(observations) if survey.config]


def named(members: Sequence[Member], configs: Sequence[EtcdConfig]) -> tuple[Member, ...]:
    """The members of a database, with the names that it lacks.

    etcd 3.5.1 to 3.5.19 notes nothing there of a promoted member after it was added (etcd issue
    19557): its name is that of the definition at its peer URL, or in an --initial-cluster. A name
    that another member has, or that is not the only one, is none.
    """
    known: dict[str, set[str]] = {}
    for config in configs:
        own = ((config.name, url) for url in config.advertise_peer_urls)
        for name, url in (*config.initial_cluster, *own):
            known.setdefault(url, set()).add(name)
    taken = {m.name for m in members}
    return tuple(_with_name(m, known, taken) for m in members)


def _with_name(member: Member, known: dict[str, set[str]], taken: set[str]) -> Member:
    found = {name for url in member.peer_urls for name in known.get(url, ())}
    found -= taken | {""}
    return replace(member, name=found.pop()) if not member.name and len(found) == 1 else member


def _shown(members: Sequence[Member]) -> str:
    return ", ".join(
        sorted(f"{m.name or '(no name)'} {m.id}{' learner' * m.is_learner}" for m in members)
    )


def _online(observations: Sequence[Observation]) -> Optional[Witness]:
    best: Optional[tuple[tuple[int, int], str, Survey]] = None
    for host, survey in surveys(observations):
        online = survey.online
        if not signs.serves(survey) or online is None or not online.members:
            continue
        rank = (online.raft_term, online.applied_index)
        if best is None or rank > best[0]:
            best = (rank, host, survey)
    if best is None or best[2].online is None:
        return None
    told = best[2].online
    removed = removed_ids(observations, told.cluster_id)
    return Witness(best[1], True, told.cluster_id, _sorted(told.members), removed)


def _offline(observations: Sequence[Observation]) -> Optional[Witness]:
    """The longest log among intact data; members that others know as removed tell nothing."""
    best: Optional[tuple[tuple[int, int, int, int, int], str, Survey]] = None
    for host, survey in surveys(observations):
        db = survey.offline.db if survey.offline else None
        if db is None or not db.members:
            continue
        wal = survey.offline.wal if survey.offline else None
        is_removed = signs.own_id(survey) in removed_ids(observations, signs.own_cluster(survey))
        rank = (
            0 if is_removed else 2 if signs.is_intact(survey) else 1,
            wal.last_term if wal else 0,
            wal.last_index if wal else 0,
            db.consistent_index,
            db.revision,
        )
        if best is None or rank > best[0]:
            best = (rank, host, survey)
    if best is None or best[2].offline is None or best[2].offline.db is None:
        return None
    cluster = signs.own_cluster(best[2])
    members = _sorted(named(best[2].offline.db.members, _configs(observations)))
    return Witness(best[1], False, cluster, members, removed_ids(observations, cluster))


def _sorted(members: Sequence[Member]) -> tuple[Member, ...]:
    return tuple(sorted(members, key=lambda m: (m.name, m.id)))
