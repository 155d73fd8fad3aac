"""The state of every member, and of every host that should be one.

The first row that holds gives the state:

| state         | what is seen                                                                     |
|---------------|----------------------------------------------------------------------------------|
| UNREACHABLE   | no survey                                                                        |
| FENCED        | a tombstone, and no etcd runs                                                    |
| REMOVED       | its ID is in a removed list, or gone from the list of a cluster that serves      |
| CORRUPT       | a CORRUPT alarm on it; or it serves nobody and its files are damaged, or its log |
|               | says so                                                                          |
| LAGGING       | a learner that follows a leader, more than CLOSE entries behind it               |
| LEARNER_STUCK | any other learner: never started, down, or caught up and never promoted          |
| LAGGING       | serves, more than CLOSE entries behind                                           |
| HEALTHY       | serves                                                                           |
| NO_DATA       | does not answer, and there is no member directory                                |
| CRASH_LOOPING | the definition is in place and etcd keeps ending for a reason of its own         |
| NO_QUORUM     | runs (or its probe restarts it), and only the quorum is missing                  |
| STOPPED       | the rest                                                                         |

GHOST is a member that no observed host answers for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Callable, Optional

from agent.diagnosis import notes, signs
from agent.diagnosis.matching import match
from agent.diagnosis.witness import Witness, removed_ids, same_cluster, surveys
from agent.model.facts import Cause, Member, Observation, Survey
from agent.model.verdict import MemberState, MemberVerdict

# etcd keeps this many entries for slow followers (server: DefaultSnapshotCatchUpEntries); one that
# is further behind needs a whole snapshot.
CLOSE = 5000


@dataclass(frozen=True)
class Scene:
    """What all hosts together tell, as needed to judge one of them.

    head: the largest log index that a serving member has. open_plans: plan → hosts it is open on.
    """

    witness: Witness
    removed: frozenset[str]
    head: int
    corrupt: frozenset[str]
    listed_by: dict[str, frozenset[str]]
    open_plans: dict[str, frozenset[str]]


class Case:
    """One host, the member that it is (or None), and the scene it stands in."""

    def __init__(self, observation: Observation, member: Optional[Member], scene: Scene) -> None:
        self.observation, self.member, self.scene = observation, member, scene
        self.host = observation.host

    @cached_property
    def survey(self) -> Survey:
        """The survey; only asked for after the row UNREACHABLE."""
        assert self.observation.survey is not None  # noqa: S101
        return self.observation.survey

    @cached_property
    def own_id(self) -> str:
        """The member ID in its own data."""
        return signs.own_id(self.survey)

    @cached_property
    def cause(self) -> Optional[Cause]:
        """The most telling cause that still counts."""
        found = [c for c in signs.causes(self.survey) if c.kind != "removed" or self.is_removed]
        if not found or signs.serves(self.survey):
            return None
        return replace(found[0], remedy=found[0].remedy.replace(" HOST", f" {self.host}"))

    @cached_property
    def is_foreign(self) -> bool:
        """Its data belongs to another cluster than the one judged by."""
        cluster = self.scene.witness.cluster_id
        return not same_cluster(signs.own_cluster(self.survey), cluster)

    @cached_property
    def is_removed(self) -> bool:
        """The member that its data says it is was removed from the cluster."""
        witness = self.scene.witness
        if not self.own_id or self.is_foreign or signs.serves(self.survey):
            return False
        if self.own_id in self.scene.removed:
            return True
        if witness.member(self.own_id) is None and witness.online:
            return True
        told = any(cause.kind == "removed" for cause in signs.causes(self.survey))
        others = self.scene.listed_by.get(self.own_id, frozenset()) - {self.host}
        return told and not others

    @cached_property
    def is_corrupt(self) -> bool:
        """Its data is bad. Files of an etcd that serves change while read: damage is a note then.

        An old line in a log proves nothing against an etcd that answers.
        """
        if self.member is not None and self.member.id in self.scene.corrupt:
            return True
        if signs.serves(self.survey) or self.is_foreign:
            return False
        if signs.damage(self.survey) is not None:
            return True
        is_told = self.cause is not None and self.cause.kind == "data"
        return is_told and not signs.answers(self.survey) and not signs.is_wiped(self.survey)

    @cached_property
    def is_learner(self) -> bool:
        """A learner by the membership, or by its own word."""
        online = self.survey.online
        if self.member is not None and self.member.is_learner:
            return True
        return online is not None and online.answers and online.is_learner

    @cached_property
    def behind(self) -> int:
        """Log entries that it has yet to apply to be where the cluster is."""
        online = self.survey.online
        if not signs.answers(self.survey) or online is None or self.is_foreign:
            return 0
        return max(0, self.scene.head - online.applied_index)

    @cached_property
    def is_usable(self) -> bool:
        """Its data could seed a cluster."""
        if self.member is None or self.own_id != self.member.id or self.is_learner:
            return False
        if self.is_foreign or self.is_removed or self.is_corrupt:
            return False
        return signs.is_intact(self.survey)

    @property
    def follows(self) -> bool:
        """It answers and knows a leader."""
        online = self.survey.online
        return signs.answers(self.survey) and online is not None and bool(online.leader_id)


_ROWS: tuple[tuple[MemberState, Callable[[Case], bool]], ...] = (
    (MemberState.UNREACHABLE, lambda c: c.observation.survey is None),
    (MemberState.FENCED, lambda c: c.survey.fence is not None and not signs.runs(c.survey)),
    (MemberState.REMOVED, lambda c: c.is_removed),
    (MemberState.CORRUPT, lambda c: c.is_corrupt),
    (MemberState.LAGGING, lambda c: c.is_learner and c.follows and c.behind > CLOSE),
    (MemberState.LEARNER_STUCK, lambda c: c.is_learner),
    (MemberState.LAGGING, lambda c: signs.serves(c.survey) and c.behind > CLOSE),
    (MemberState.HEALTHY, lambda c: signs.serves(c.survey)),
    (MemberState.NO_DATA, lambda c: signs.is_wiped(c.survey) and not signs.answers(c.survey)),
    (MemberState.CRASH_LOOPING, lambda c: signs.is_looping(c.survey)),
    (MemberState.NO_QUORUM, lambda c: signs.is_waiting(c.survey)),
    (MemberState.STOPPED, lambda c: True),
)


def judge(observations: Sequence[Observation], witness: Witness) -> tuple[MemberVerdict, ...]:
    """A verdict on every observed host and on every ghost, sorted by host."""
    scene = look(observations, witness)
    matched = match(observations, witness)
    verdicts = [_verdict(Case(o, matched.get(o.host), scene)) for o in observations]
    hosts = {verdict.host for verdict in verdicts}
    known = {member.id for member in matched.values()}
    verdicts += [_ghost(m, hosts, witness) for m in witness.members if m.id not in known]
    return tuple(sorted(verdicts, key=lambda v: (v.host, v.id)))


def look(observations: Sequence[Observation], witness: Witness) -> Scene:
    """What all hosts together tell."""
    head, corrupt = 0, set()
    listed: dict[str, set[str]] = {}
    plans: dict[str, set[str]] = {}
    for host, survey in surveys(observations):
        online, db = survey.online, survey.offline.db if survey.offline else None
        for journal in survey.journals:
            if journal.state == "open":
                plans.setdefault(journal.plan, set()).add(host)
        if not same_cluster(signs.own_cluster(survey), witness.cluster_id):
            continue
        if signs.serves(survey) and online is not None:
            head = max(head, online.raft_index, online.applied_index)
        alarms = online.alarms if signs.answers(survey) and online else db.alarms if db else ()
        corrupt |= {alarm.member_id for alarm in alarms if alarm.kind == "CORRUPT"}
        for member in db.members if db else ():
            listed.setdefault(member.id, set()).add(host)
    if witness.online:
        for member in witness.members:
            listed.setdefault(member.id, set()).add("")
    return Scene(
        witness,
        witness.removed_ids or removed_ids(observations, witness.cluster_id),
        head,
        frozenset(corrupt),
        {key: frozenset(value) for key, value in listed.items()},
        {key: frozenset(value) for key, value in plans.items()},
    )


def _verdict(case: Case) -> MemberVerdict:
    state = next(state for state, holds in _ROWS if holds(case))
    member = case.member
    verdict = MemberVerdict(
        host=case.host,
        name=member.name if member else "",
        id=member.id if member else "",
        state=state,
        why="",
        peer_urls=member.peer_urls if member else (),
        voter=member is not None and not member.is_learner,
    )
    return _unsurveyed(verdict, case) if case.observation.survey is None else _seen(verdict, case)


def _unsurveyed(verdict: MemberVerdict, case: Case) -> MemberVerdict:
    seen = signs.seen_alive(case.observation)
    return replace(
        verdict,
        why=notes.why_unreachable(case.observation),
        next=case.observation.next,
        seen_alive=seen,
        runs=bool(seen),
        serves=any(s.linearizable for s in case.observation.sightings),
    )


def _seen(verdict: MemberVerdict, case: Case) -> MemberVerdict:
    survey = case.survey
    wal = survey.offline.wal if survey.offline else None
    db = survey.offline.db if survey.offline else None
    online = survey.online if signs.answers(survey) else None
    return replace(
        verdict,
        name=verdict.name or (survey.config.name if survey.config else ""),
        why=notes.why(verdict.state, survey, case.cause, case.behind),
        stopped=signs.is_proved_stopped(survey),
        usable=case.is_usable,
        position=(wal.last_term, wal.last_index) if wal else (0, 0),
        revision=max(db.revision if db else 0, online.revision if online else 0),
        cause=case.cause,
        notes=_notes(case),
        runs=signs.runs(survey),
        serves=signs.serves(survey),
        intact=signs.is_intact(survey),
        commit=wal.commit if wal else 0,
        applied=max(db.consistent_index if db else 0, online.applied_index if online else 0),
        data_cluster=signs.own_cluster(survey),
        definition=signs.definition(survey),
        open_plan=_open_plan(case),
    )


def _notes(case: Case) -> tuple[str, ...]:
    found = notes.of_survey(case.survey)
    if case.is_foreign:
        found.append(
            f"its data belongs to cluster {signs.own_cluster(case.survey)}, "
            f"not to {case.scene.witness.cluster_id}"
        )
    elif case.own_id and case.own_id != (case.member.id if case.member else ""):
        listed = f"it is listed as {case.member.id}" if case.member else "which is in no membership"
        found.append(f"its data is that of member {case.own_id}, {listed}")
    if signs.runs(case.survey) and case.member is None:
        found.append("an etcd runs here that is no member")
    return tuple(found)


def _open_plan(case: Case) -> str:
    """The plan that this host waits for: one open here, or the one that fenced it."""
    fence = case.survey.fence
    if fence is not None and fence.plan in case.scene.open_plans:
        return fence.plan
    here = [plan for plan, hosts in case.scene.open_plans.items() if case.host in hosts]
    return min(here, default="")


def _ghost(member: Member, hosts: set[str], witness: Witness) -> MemberVerdict:
    where = ", ".join(member.peer_urls) or "no peer URL"
    unnamed = "; it never started" if witness.online else "; the list has no name of it"
    never = "" if member.name else unnamed
    return MemberVerdict(
        host=member.name if member.name and member.name not in hosts else member.id,
        name=member.name,
        id=member.id,
        state=MemberState.GHOST,
        why=f"listed by {witness.source} at {where}, and none of the hosts given is it{never}",
        peer_urls=member.peer_urls,
        voter=not member.is_learner,
    )
