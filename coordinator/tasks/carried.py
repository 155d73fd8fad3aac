"""What consoles wrote and somebody carried here: `fab import`, and what other tasks make of it.

Imported files lie in `carried/` beside cluster.yaml, one a host, for this user alone (0600). They
stand in for hosts that do not answer, in what only looks (diagnose, survey, journal), and prove to
`fab resume` what was done on such a host. No plan is made from them: hosts are looked at for that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.diagnosis import signs
from agent.diagnosis.cluster import diagnose
from agent.errors import RescueError, UsageError
from agent.model.codec import to_plain
from agent.model.facts import JournalFacts, Observation
from agent.model.holding import age
from agent.model.plan import Plan
from agent.model.verdict import Diagnosis
from agent.recipes.parts import name_in
from agent.records import carried
from agent.records.carried import Carried
from agent.records.journal import History
from coordinator import report
from coordinator.tasks.common import Options

STORE = "carried"
_MAX_FILES = 64


def import_files(options: Options, place: str) -> None:
    """Take a carried file, or all that lie in a directory; show what they say of plans."""
    path = Path(place)
    found = [_read(p) for p in _files(path)] if path.is_dir() else [_read(path)]
    if not found:
        raise UsageError(
            f"{place}: no file carried-*.json in it",
            "that is what a console writes",
            "on a host: rescue-agent export DIRECTORY",
        )
    store = _store(options)
    kept = carried.newest([*stored(options), *found])
    _require_one_name(kept, store)
    for file in kept:
        if file in found:
            _write(store / carried.file_name(file.host), Path(file.where).read_bytes())
    rows = [{"host": file.host, **to_plain(facts)} for file in kept for facts in _facts(file)]
    report.emit(rows, options.output, report.journals_table)


def _store(options: Options) -> Path:
    """Where imported files lie: beside the cluster.yaml that is named, else here."""
    return (Path(options.cluster).parent if options.cluster else Path()) / STORE


def _files(folder: Path) -> list[Path]:
    names = sorted(p for p in folder.iterdir() if carried.is_carried_name(p.name))
    if len(names) > _MAX_FILES:
        raise UsageError(f"{folder}: {len(names)} carried files", "no cluster is that large")
    return names


def _read(path: Path) -> Carried:
    """Read one file. Raises UsageError, Damaged."""
    try:
        with path.open("rb") as file:
            data = file.read(carried.MAX_FILE + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    return carried.unpack(data, str(path))


def _require_one_name(files: Sequence[Carried], store: Path) -> None:
    names = [file.host for file in files]
    twice = next((f for f in files if names.count(f.host) > 1), None)
    if twice is not None:
        raise UsageError(
            f"two machines say that they are {twice.host}",
            f"{store}/ holds the files of one cluster",
            "work in a directory of its own for each cluster, or remove the file that is of no use",
        )


def _write(path: Path, data: bytes) -> None:
    """Replace a file of the store, for this user alone. Raises UsageError."""
    new = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        new.unlink(missing_ok=True)
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            os.fsync(file.fileno())
        new.rename(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def stored(options: Options) -> list[Carried]:
    """All imported files. Raises UsageError, Damaged where one of them is none any more."""
    store = _store(options)
    if not store.is_dir():
        return []
    found = []
    for path in _files(store):
        try:
            found.append(_read(path))
        except RescueError as error:
            error.next = f"remove {path}; and if you still have it: fab import FILE"
            raise
    return carried.newest(found)


# ---- in place of hosts that do not answer --------------------------------------------------------


def filled_in(
    observations: Sequence[Observation], diagnosis: Diagnosis, options: Options
) -> tuple[tuple[Observation, ...], Diagnosis]:
    """Surveys that were carried here, for hosts that gave none; and the diagnosis with them."""
    seen, said = list(observations), []
    for file in stored(options):
        at = next((i for i, o in enumerate(seen) if _is_of(file, o)), None)
        if at is not None and seen[at].survey is not None:
            continue
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
        return tuple(observations), diagnosis
    found = diagnose(seen, options.lost)
    return tuple(seen), replace(found, warnings=(*said, *found.warnings))


def _when(file: Carried) -> str:
    return f"{age(time.time() - file.made)} ago by its clock"


def _is_of(file: Carried, seen: Observation) -> bool:
    """Whether a file is of the machine that was observed, or was to be."""
    if seen.survey is not None:
        return (seen.survey.machine_id, seen.survey.hostname) == (
            file.survey.machine_id,
            file.survey.hostname,
        )
    return seen.address in file.survey.addresses or seen.host in (file.host, *file.survey.addresses)


def _is_of_cluster(file: Carried, seen: Sequence[Observation]) -> bool:
    known = {signs.own_cluster(o.survey) for o in seen if o.survey} - {""}
    return signs.own_cluster(file.survey) in known


def journal_rows(
    plan_id: str, reached: Sequence[Observation], options: Options
) -> list[dict[str, Any]]:
    """What imported journals say, of hosts that were not reached: as the agents' own answer."""
    rows: list[dict[str, Any]] = []
    for file in stored(options):
        if any(_is_of(file, o) for o in reached if o.survey):
            continue
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


def proved(plan: Plan, options: Options) -> dict[str, frozenset[str]]:
    """Host in the plan → IDs of its steps that its carried journal proves done."""
    found = {}
    for file in stored(options):
        name = name_in(plan, file.survey.hostname, file.survey.addresses)
        history = file.history(plan.id)
        if name and history is not None:
            mine = {step.id for step in plan.steps() if step.host == name}
            found[name] = frozenset(mine & set(history.done_steps()))
    return found
