"""What consoles wrote and somebody carried here: `fab import`, and what other tasks make of it.

Imported files stand in for hosts that do not answer, in what only looks (diagnose, survey,
journal), and prove to `fab resume` what was done on such a host. No plan is made from them: hosts
are looked at for that; but one that is open on a silent host, by its file, is in the way of others.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.diagnosis import signs
from agent.diagnosis.cluster import diagnose
from agent.errors import UsageError
from agent.model.codec import to_plain
from agent.model.facts import JournalFacts, Observation
from agent.model.holding import age
from agent.model.plan import Plan
from agent.model.verdict import Diagnosis
from agent.recipes.parts import name_in
from agent.records.carried import Carried
from agent.records.journal import History
from coordinator import report
from coordinator.carried_store import files_in, is_of, of_silent, read, take_in
from coordinator.tasks.common import Looked, Options


def import_files(options: Options, place: str) -> None:
    """Take a carried file, or all that lie in a directory; show what they say of plans."""
    path = Path(place)
    found = [read(p) for p in files_in(path)] if path.is_dir() else [read(path)]
    if not found:
        raise UsageError(
            f"{place}: no file carried-*.json in it",
            "that is what a console writes",
            "on a host: rescue-agent export DIRECTORY",
        )
    kept = take_in(found, options.cluster)
    rows = [{"host": file.host, **to_plain(facts)} for file in kept for facts in _facts(file)]
    report.emit(rows, options.output, report.journals_table)


# ---- in place of hosts that do not answer --------------------------------------------------------


def filled_in(looked: Looked, lost: Sequence[str]) -> tuple[tuple[Observation, ...], Diagnosis]:
    """Surveys that were carried here, for hosts that gave none; and the diagnosis with them."""
    seen, said = list(looked.observations), []
    for file in of_silent(looked.carried, seen):
        at = next((i for i, o in enumerate(seen) if is_of(file, o)), None)
        if at is None and not _is_of_cluster(file, seen):
            continue
        told = f"{file.host} did not answer; judged by what was carried from it, made {_when(file)}"
        said.append(told)
        if at is None:
            seen.append(Observation(file.host, next(iter(file.survey.addresses), file.host),
                                    survey=file.survey))  # fmt: skip
        else:
            seen[at] = replace(seen[at], survey=file.survey, error="", next="")
    if not said:
        return looked.observations, looked.diagnosis
    found = diagnose(seen, lost)
    return tuple(seen), replace(found, warnings=(*said, *found.warnings))


def _when(file: Carried) -> str:
    return f"{age(time.time() - file.made)} ago by its clock"


def _is_of_cluster(file: Carried, seen: Sequence[Observation]) -> bool:
    known = {signs.own_cluster(o.survey) for o in seen if o.survey} - {""}
    return signs.own_cluster(file.survey) in known


def journal_rows(plan_id: str, looked: Looked) -> list[dict[str, Any]]:
    """What imported journals say, of hosts that were not reached: as the agents' own answer."""
    rows: list[dict[str, Any]] = []
    for file in of_silent(looked.carried, looked.observations):
        host = f"{file.host} (carried)"
        if not plan_id:
            rows += [{"host": host, **to_plain(facts)} for facts in _facts(file)]
            continue
        for history in file.histories:
            if history.plan.id.startswith(plan_id):
                rows += [{"host": host, **row} for row in _records(history)]
    return rows


def _facts(file: Carried) -> list[JournalFacts]:
    return [
        JournalFacts(
            history.plan.id,
            history.plan.recipe,
            history.state,
            tuple(history.done_steps()),
            tuple(history.begun_steps()),
            history.records[-1].time,
        )
        for history in file.histories
    ]


def _records(history: History) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = to_plain(history.records[1:])
    for row in rows:
        if row["kind"] == "signed":
            row["data"] = {"principal": row["data"].get("principal", "")}
    return rows


def proved(plan: Plan, looked: Looked) -> dict[str, frozenset[str]]:
    """Host in the plan → IDs of its steps that its carried journal proves done."""
    found = {}
    for file in of_silent(looked.carried, looked.observations):
        name = name_in(plan, file.survey.hostname, file.survey.addresses)
        history = file.history(plan.id)
        if name and history is not None:
            mine = {step.id for step in plan.steps() if step.host == name}
            found[name] = frozenset(mine & set(history.done_steps()))
    return found
