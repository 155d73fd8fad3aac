"""Carried files that were imported: `carried/` beside cluster.yaml, one a host, 0600."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from agent.errors import RescueError, UsageError
from agent.model.facts import Observation
from agent.records import carried
from agent.records.carried import Carried

STORE = "carried"
_MAX_FILES = 64


def store_of(cluster: str) -> Path:
    """Where imported files lie: beside the cluster.yaml that is named, else here."""
    return (Path(cluster).parent if cluster else Path()) / STORE


def files_in(folder: Path) -> list[Path]:
    """Every carried file in a directory, by its name. Raises UsageError for too many."""
    names = sorted(p for p in folder.iterdir() if carried.is_carried_name(p.name))
    if len(names) > _MAX_FILES:
        raise UsageError(f"{folder}: {len(names)} carried files", "no cluster is that large")
    return names


def read(path: Path) -> Carried:
    """Read one file. Raises UsageError, Damaged."""
    try:
        with path.open("rb") as file:
            data = file.read(carried.MAX_FILE + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    return carried.unpack(data, str(path))


def stored(cluster: str) -> list[Carried]:
    """All imported files. Raises UsageError, Damaged where one of them is none any more."""
    store = store_of(cluster)
    if not store.is_dir():
        return []
    found = []
    for path in files_in(store):
        try:
            found.append(read(path))
        except RescueError as error:
            error.next = f"remove {path}; and if you still have it: fab import FILE"
            raise
    return carried.newest(found)


def take_in(files: Sequence[Carried], cluster: str) -> list[Carried]:
    """Keep files, the newest of each host; all that are kept now. Raises UsageError, Damaged."""
    store = store_of(cluster)
    kept = carried.newest([*stored(cluster), *files])
    _require_one_name(kept, store)
    for file in kept:
        if file in files:
            _write(store / carried.file_name(file.host), Path(file.where).read_bytes())
    return kept


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


def is_of(file: Carried, seen: Observation) -> bool:
    """Whether a file is of the machine that was observed, or was to be."""
    if seen.survey is not None:
        return (seen.survey.machine_id, seen.survey.hostname) == (
            file.survey.machine_id,
            file.survey.hostname,
        )
    return seen.address in file.survey.addresses or seen.host in (file.host, *file.survey.addresses)


def of_silent(files: Sequence[Carried], seen: Sequence[Observation]) -> list[Carried]:
    """The files of hosts that gave no survey."""
    return [file for file in files if not any(o.survey and is_of(file, o) for o in seen)]
