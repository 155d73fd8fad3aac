"""Hypothesis strategies of whole clusters, and of surveys with parts missing.

`clusters()` is a lab in any mix of states; `torn()` takes random parts out of its surveys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Optional

from hypothesis import strategies as st

from agent.model.facts import Observation, OfflineFacts
from tests.unit.builders import Lab, cause, with_survey

DOWN = (
    "waiting",
    "no_quorum",
    "crash_looping",
    "corrupt",
    "wiped",
    "stopped",
    "fenced",
    "removed",
    "unreachable",
)
KINDS = (
    "data",
    "removed",
    "config",
    "certificate",
    "disk",
    "network",
    "clock",
    "quorum",
    "permission",
    "resource",
    "unknown",
)


@st.composite
def clusters(
    draw: st.DrawFn, *, serving: Optional[bool] = None, states: Sequence[str] = DOWN
) -> tuple[Lab, list[Observation]]:
    """A lab of 1, 3, 5 or 7 voters, every host in any state.

    serving: True for a quorum of healthy members, False for none, None for either. A host can
    also be missing from the observations: its member is then a ghost.
    """
    size = draw(st.sampled_from((1, 3, 5, 7)))
    lab = Lab(size)
    is_serving = draw(st.booleans()) if serving is None else serving
    least = size // 2 + 1 if is_serving else 0
    healthy = draw(st.integers(least, size)) if is_serving else 0
    numbers = draw(st.permutations(range(size)))
    found = []
    for place, number in enumerate(numbers):
        if place < healthy:
            behind = draw(st.sampled_from((0, 0, 0, 6000)))
            found.append(lab.lagging(number, behind) if behind else lab.healthy(number))
        elif draw(st.integers(0, 9)) > 0 or not found:
            found.append(draw(_host(lab, number, states)))
    return lab, draw(st.permutations(found))


@st.composite
def _host(draw: st.DrawFn, lab: Lab, number: int, states: Sequence[str]) -> Observation:
    state = draw(st.sampled_from(states))
    if state == "unreachable":
        ports = draw(st.sampled_from(((), (), (2379,), (2380,), (2379, 2380))))
        return lab.unreachable(number, ports)
    observation: Observation = getattr(lab, state)(number)
    survey = observation.survey
    assert survey is not None
    given: dict[str, Any] = {}
    if survey.offline is not None and survey.offline.has_data and state != "corrupt":
        given["offline"] = draw(_data(lab, number))
    if state == "crash_looping" and draw(st.booleans()):
        given["causes"] = (cause(draw(st.sampled_from(KINDS))),)
    return with_survey(observation, **given)


@st.composite
def _data(draw: st.DrawFn, lab: Lab, number: int) -> OfflineFacts:
    """Data that is as far as the others', or a little behind or ahead of them."""
    index = lab.index + draw(st.integers(-3, 3))
    commit = index - draw(st.integers(0, 3))
    term = lab.term + draw(st.integers(-1, 1))
    log = {"last_index": index, "last_term": term, "term": term, "commit": commit}
    applied = min(commit, index)
    revision = lab.revision + applied - lab.index + draw(st.sampled_from((0, 0, 0, 1, -1)))
    return lab.offline(number, log, {"consistent_index": applied, "revision": revision})


_PARTS: dict[str, Any] = {
    "config": None,
    "offline": None,
    "online": None,
    "runtime": None,
    "kubelet": None,
    "processes": (),
    "ports": (),
    "causes": (),
    "parked": (),
    "fence": None,
    "addresses": (),
}


@st.composite
def torn(draw: st.DrawFn) -> list[Observation]:
    """Observations of a lab with random parts of surveys and of data directories missing."""
    _, observations = draw(clusters())
    return [
        draw(_torn(observation)) if observation.survey else observation
        for observation in observations
    ]


@st.composite
def _torn(draw: st.DrawFn, observation: Observation) -> Observation:
    gone = draw(st.sets(st.sampled_from(sorted(_PARTS)), max_size=5))
    torn_one = with_survey(observation, **{name: _PARTS[name] for name in gone})
    survey = torn_one.survey
    if survey is None or survey.offline is None:
        return torn_one
    offline = survey.offline
    if draw(st.booleans()):
        offline = replace(offline, wal=None)
    if draw(st.booleans()):
        offline = replace(offline, db=None)
    elif offline.db is not None and draw(st.booleans()):
        offline = replace(offline, db=replace(offline.db, members=()))
    return with_survey(torn_one, offline=offline)
