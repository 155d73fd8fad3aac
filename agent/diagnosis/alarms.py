"""Alarms as the cluster has them: which are raised, and which name a member that is gone."""

from __future__ import annotations

from collections.abc import Sequence

from agent.diagnosis import signs
from agent.diagnosis.witness import Witness, same_cluster, surveys
from agent.model.facts import Alarm, Observation

CLEAR = "clear-alarm"


def raised(observations: Sequence[Observation], witness: Witness) -> tuple[Alarm, ...]:
    """Every alarm of the cluster judged by, once each, by what serving members say of it."""
    found: dict[tuple[str, str], Alarm] = {}
    for _, survey in surveys(observations):
        online = survey.online
        if online is None or not signs.serves(survey):
            continue
        if same_cluster(signs.own_cluster(survey), witness.cluster_id):
            found.update({(alarm.kind, alarm.member_id): alarm for alarm in online.alarms})
    return tuple(found[key] for key in sorted(found))


def left_behind(observations: Sequence[Observation], witness: Witness) -> tuple[str, ...]:
    """IDs of members that are gone and whose alarm CORRUPT still forbids every write.

    etcd does not take an alarm back when its member is removed (measured: 3.4.23, 3.5.30).
    """
    if not witness.online:
        return ()
    return tuple(
        alarm.member_id
        for alarm in raised(observations, witness)
        if alarm.kind == "CORRUPT" and witness.member(alarm.member_id) is None
    )
