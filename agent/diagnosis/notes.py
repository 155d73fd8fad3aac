"""The words of a verdict on one host: why its state, and what else was noticed there."""

from __future__ import annotations

import time
from typing import Optional

from agent.diagnosis import signs
from agent.model.facts import Cause, Observation, Survey
from agent.model.verdict import MemberState


def why_unreachable(observation: Observation) -> str:
    """Why there is no survey, and what was seen of the host from outside (rule 2)."""
    lines = [f"no survey: {' '.join(observation.error.split()) or 'the host did not answer'}"]
    alive, dead = signs.seen_alive(observation), signs.seen_dead(observation)
    if alive:
        lines.append(f"{alive}: not counted as dead")
    elif dead:
        lines.append(dead)
    else:
        lines.append("nothing was seen of it from anywhere")
    return "; ".join(lines)


def why(state: MemberState, survey: Survey, cause: Optional[Cause], behind: int) -> str:
    """One line: the fact that gives the state."""
    online = survey.online
    if state is MemberState.HEALTHY and online is not None:
        return f"answers linearizable reads at {online.endpoint or 'its client URL'}"
    if state is MemberState.LAGGING:
        return f"{behind} log entries behind the leader"
    if state is MemberState.CORRUPT:
        return _why_corrupt(survey, cause)
    if state is MemberState.LEARNER_STUCK:
        return _why_learner(survey, cause)
    if state is MemberState.CRASH_LOOPING:
        last = signs.newest(survey)
        times = f" (attempt {last.attempt})" if last else ""
        return f"etcd keeps ending{times}: {cause.summary if cause else 'cause not recognised'}"
    if state is MemberState.NO_QUORUM:
        return _why_no_quorum(survey, cause)
    return _why_down(state, survey, cause)


def _why_down(state: MemberState, survey: Survey, cause: Optional[Cause]) -> str:
    if state is MemberState.FENCED and survey.fence is not None:
        fence = survey.fence
        when = _day(fence.time)
        return f"fenced by plan {fence.plan[:12]} {when}: {fence.reason or 'no reason given'}"
    if state is MemberState.REMOVED:
        return f"the cluster has removed member {signs.own_id(survey)}, whose data is still here"
    if state is MemberState.NO_DATA:
        where = survey.offline.data_dir if survey.offline else "the data directory"
        return f"no member directory in {where}"
    where = {"in-place": "in place", "parked": "parked", "missing": "missing"}[
        signs.definition(survey)
    ]
    tail = f": {cause.summary}" if cause and survey.config is not None else ""
    if survey.unit is not None and survey.unit.active:
        tail = f", {survey.unit.name} is {survey.unit.active}{tail}"
    return f"no etcd runs; its definition is {where}{tail}"


def _day(seconds: float) -> str:
    try:
        return time.strftime("at %Y-%m-%d %H:%M UTC", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return "at an unreadable time"


def _why_corrupt(survey: Survey, cause: Optional[Cause]) -> str:
    damage = signs.damage(survey)
    if damage is not None:
        return f"{damage.file} is damaged at offset {damage.offset}: {damage.reason}"
    if cause is not None and cause.kind == "data":
        return f"its log says: {cause.summary}"
    return "the cluster has raised alarm CORRUPT on it"


def _why_learner(survey: Survey, cause: Optional[Cause]) -> str:
    online = survey.online
    if signs.answers(survey) and online is not None and online.leader_id:
        return "a learner that has caught up and was never promoted"
    if signs.answers(survey):
        return "a learner that runs and sees no leader"
    if signs.is_wiped(survey):
        return "a learner that never started: there is no data"
    return f"a learner that does not run{': ' + cause.summary if cause else ''}"


def _why_no_quorum(survey: Survey, cause: Optional[Cause]) -> str:
    tail = f": {cause.summary}" if cause else ""
    if signs.answers(survey):
        leader = survey.online.leader_id if survey.online else ""
        return (
            f"answers its status, but no linearizable read{'' if leader else '; no leader'}{tail}"
        )
    if signs.runs(survey):
        return f"etcd runs and does not answer clients{tail or ': it waits for the others'}"
    return "its probe restarts etcd, which only lacks the others"


def of_survey(survey: Survey) -> list[str]:
    """What else a person should know of this host: mismatches, leftovers, oddities."""
    found = _mismatches(survey)
    if survey.config is None and not survey.parked:
        found += survey.problems
    damage = signs.damage(survey)
    if damage is not None and signs.serves(survey):
        found.append(
            f"{damage.file} read as damaged at offset {damage.offset} while etcd was writing: "
            "survey again to be sure"
        )
    if signs.is_mixed(survey) and not signs.runs(survey) and damage is None:
        found.append("its database is ahead of its write-ahead log: they are not of one run")
    if survey.fence is not None and signs.runs(survey):
        found.append(f"etcd runs although plan {survey.fence.plan[:12]} fenced this host")
    if survey.config is not None and survey.config.force_new_cluster:
        found.append(f"force-new-cluster is set in {survey.config.definition}")
    data = survey.offline
    if data is not None and data.has_data and not signs.damage(survey):
        unread = [n for n, part in (("log", data.wal), ("database", data.db)) if part is None]
        if unread:
            found.append(f"its {' and '.join(unread)} could not be read")
    is_meant_to_run = survey.config is not None and not signs.runs(survey)
    cause = next(iter(signs.causes(survey)), None) if is_meant_to_run else None
    if cause is not None and cause.kind in signs.FIXABLE and signs.is_intact(survey):
        found.append(f"its data is intact; what stops it is its {cause.kind}")
    return found


def _mismatches(survey: Survey) -> list[str]:
    """Where the running etcd and the files below it tell different stories; both are shown."""
    online, offline = survey.online, survey.offline
    if not signs.answers(survey) or online is None or offline is None:
        return []
    found = []
    wal, db = offline.wal, offline.db
    if not offline.has_data:
        found.append(f"etcd answers, but there is no member directory in {offline.data_dir}")
    if wal is not None:
        for what, ours, theirs in (
            ("cluster", online.cluster_id, wal.cluster_id),
            ("member", online.member_id, wal.member_id),
        ):
            if ours and theirs and ours != theirs:
                found.append(f"{what} ID: etcd answers {ours}, its write-ahead log says {theirs}")
    if db is not None and online.revision and db.revision > online.revision:
        found.append(
            f"revision: etcd answers {online.revision}, its database has {db.revision}: gone back"
        )
    return found
