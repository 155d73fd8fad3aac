"""Definitions of etcd out of a backup set, for hosts that have none any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from agent.diagnosis.cluster import diagnose
from agent.model.facts import Observation, Parked
from agent.recipes.restore_wish import FromSet
from agent.snapshot.backup_set import BackupSet, SetFile
from coordinator.tasks.common import Looked, Options
from coordinator.tasks.placing import Found, look
from coordinator.transfer import upload


def with_definitions(
    looked: Looked, found: Found, hosts: Sequence[str], options: Options
) -> tuple[Looked, dict[str, FromSet]]:
    """Take the set's definition for the host that the set is of, if that host has none.

    The hosts are then as they will be once it lies there, parked. A set serves the one host that it
    was taken on: names and addresses in a definition are that host's.
    """
    taken: dict[str, FromSet] = {}
    observations = list(looked.observations)
    for i, seen in enumerate(observations):
        row = _row(seen, found.set) if found.host in ("", seen.host) else None
        if row is None or seen.host not in hosts or looked.cluster.definition(seen.host):
            continue
        file = _placed(looked, found, row, seen.host)
        observations[i] = _as_parked(looked, seen, file)
        taken[seen.host] = file
        looked.progress.say(f"{seen.host}: etcd's definition is taken from the backup set")
    if not taken:
        return looked, taken
    diagnosis = diagnose(tuple(observations), options.lost)
    return replace(looked, observations=tuple(observations), diagnosis=diagnosis), taken


def _row(seen: Observation, found: BackupSet | None) -> SetFile | None:
    """The set's definition of etcd, where the set was taken on this very host."""
    if found is None or seen.survey is None or found.platform != seen.survey.platform:
        return None
    if seen.survey.machine_id != found.machine_id and seen.survey.hostname != found.host:
        return None
    return next((f for f in found.files if f.source.endswith("/manifests/etcd.yaml")), None)


def _placed(looked: Looked, found: Found, row: SetFile, host: str) -> FromSet:
    folder = found.path[: -len(found.set.main) - 1] if found.set else ""
    source = f"{folder}/{row.path}"
    if host != found.host:
        source = upload(looked.fleet.way(host), Path(source), looked.progress.say, row.sha256)
    return FromSet(source, row.source, row.sha256)


def _as_parked(looked: Looked, seen: Observation, file: FromSet) -> Observation:
    """The host with that definition parked, as its survey would tell it then."""
    config = look(looked, seen.host, {"definition": file.source}).config
    if config is None or seen.survey is None:
        return seen
    config = replace(config, definition=file.source, sha256=file.sha256)
    parked = Parked(file.source, file.path, file.sha256)
    survey = replace(seen.survey, parked_config=config, parked=(parked,))
    return replace(seen, survey=survey)
