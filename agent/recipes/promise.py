"""What a plan promises, held against a diagnosis."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from agent.model.facts import Observation
from agent.model.plan import Plan
from agent.model.verdict import Diagnosis, MemberState


def broken_promise(
    plan: Plan, kept: Collection[str], diagnosis: Diagnosis, observations: Sequence[Observation]
) -> list[str]:
    """Name what the promise says and the diagnosis does not; empty where it is kept.

    kept: the hosts that the promise still holds for; those put off or given up are none of them.
    """
    found = []
    for host in kept:
        verdict = diagnosis.member(host)
        state = verdict.state.value if verdict else "unknown"
        if verdict is None or verdict.state is not MemberState.HEALTHY:
            found.append(f"{host} is {state}{': ' + verdict.why if verdict else ''}")
        elif verdict.revision < plan.promise.revision:
            found.append(
                f"{host} is at revision {verdict.revision}, promised {plan.promise.revision}"
            )
    if plan.promise.cluster_id and diagnosis.cluster_id != plan.promise.cluster_id:
        found.append(f"cluster ID is {diagnosis.cluster_id}, promised {plan.promise.cluster_id}")
    for observation in observations:
        survey = observation.survey
        argvs = [p.argv for p in survey.processes] if survey else []
        flagged = any("force-new-cluster" in a for argv in argvs for a in argv)
        if flagged or (survey and survey.config and survey.config.force_new_cluster):
            found.append(f"{observation.host} runs with --force-new-cluster")
    return found
