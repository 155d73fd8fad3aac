"""Which hosts are looked at again, because the first look may have met an unlucky moment."""

from __future__ import annotations

from collections.abc import Mapping

from agent.diagnosis import signs
from agent.model.facts import Observation

ATTEMPT_PAUSE = 1.0
ATTEMPT_LOOKS = int(signs.ATTEMPT_SECONDS / ATTEMPT_PAUSE)
"""Until an attempt to start is over, or is none."""


def doubtful(found: Mapping[str, Observation]) -> list[str]:
    """Hosts whose etcd runs and missed a quick question, while a quorum serves.

    A read through the quorum may have come back in time and the status not: that is no answer yet.
    """
    surveys = {host: o.survey for host, o in found.items() if o.survey}
    if not any(s.online and s.online.linearizable for s in surveys.values()):
        return []
    return [
        host
        for host, survey in surveys.items()
        if not signs.serves(survey) and any(not p.scratch for p in survey.processes)
    ]


def attempting(found: Mapping[str, Observation]) -> list[str]:
    """Hosts whose etcd keeps ending, and was caught in one of its attempts to start."""
    return [host for host, o in found.items() if o.survey and signs.is_attempting(o.survey)]
