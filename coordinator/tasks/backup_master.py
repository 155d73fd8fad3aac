"""The task `backup-master`: what a master needs to come back, in the form its platform knows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import Refused, RescueError, Unreachable, UsageError, plain
from agent.model.facts import Observation
from agent.recipes.openshift311 import is_openshift311, master_of
from coordinator import report
from coordinator.tasks import master_files
from coordinator.tasks.common import Looked, Options, looking
from coordinator.transfer import Piece, fetch

OPENSHIFT4_FOLDER = "/home/core/assets/backup"
"""Where OpenShift's documentation has its backups."""

_SILENCE = 600.0
_ANSWER = 60.0


@dataclass(frozen=True)
class Asked:
    """folder: on the host; empty for the platform's usual one. to: a directory here, or nothing.

    archive, encrypt_to: of OpenShift 3.11 (see master_files.Wish).
    """

    folder: str = ""
    to: str = ""
    archive: bool = False
    encrypt_to: str = ""


@dataclass(frozen=True)
class MasterBackup:
    """What was written. directory: on the host. files: their names; path: here, or empty."""

    host: str
    directory: str
    files: tuple[str, ...]
    revision: int
    keys: int
    path: str
    seconds: float


Way = Callable[[Looked, str, Asked], MasterBackup]


def backup_master(options: Options, host: str = "", asked: Asked | None = None) -> None:
    """Write a backup of a master on it, verified, and bring it here where that is asked for.

    host: one, or several with commas between; without one the platform's own choice: a member that
    serves, or every master (OpenShift 3.11: each has files of its own).
    """
    with looking(options, host.partition(",")[0]) as looked:
        if is_openshift311(looked.cluster):
            _openshift311(looked, host, asked or Asked(), options.output)
            return
        chosen = _seen(looked, host) if host else _serving(looked)
        platform = chosen.survey.platform if chosen.survey else ""
        way = WAYS.get(platform)
        if way is None:
            raise Refused(
                f"{chosen.host}: {platform or 'an unknown platform'}",
                f"known to this task: {', '.join(sorted(WAYS))}",
                f"fab snapshot {chosen.host}   (a backup set with certificates and manifests)",
            )
        done = way(looked, chosen.host, asked or Asked())
        report.emit(done, options.output, _told)


def _seen(looked: Looked, host: str) -> Observation:
    found = next((o for o in looked.observations if o.host == host), None)
    if found is None:
        known = ", ".join(o.host for o in looked.observations)
        raise UsageError(f"no host {host!r}", f"known: {known}", "fab survey")
    if found.survey is None:
        raise looked.fleet.errors.get(host) or Refused(f"{host}: {found.error}", next=found.next)
    return found


def _serving(looked: Looked) -> Observation:
    """A member that serves, rather a follower."""
    serving = looked.cluster.serving()
    if not serving:
        raise Refused(
            "no member serves", "a backup is taken of a cluster that serves", "fab diagnose"
        )
    return _seen(looked, serving[0])


# ---- OpenShift 4 ---------------------------------------------------------------------------------


def _openshift4(looked: Looked, host: str, asked: Asked) -> MasterBackup:
    """A set that OpenShift's own cluster-restore.sh takes."""
    began = time.monotonic()
    stamp = time.strftime("%Y-%m-%d_%H%M%S", time.gmtime())
    args = {"folder": asked.folder or OPENSHIFT4_FOLDER, "stamp": stamp}
    told = looked.fleet.call(
        host, "take_openshift4_set", args, _SILENCE,
        lambda text: looked.progress.say(f"{host}: {text}"),
    )  # fmt: skip
    path = ""
    if asked.to:
        path = str(Path(asked.to).absolute() / stamp)
        _bring(looked, host, told["files"], Path(path))
    facts: dict[str, Any] = told["snapshot"]
    return MasterBackup(
        host, told["directory"], tuple(Path(row[0]).name for row in told["files"]),
        int(facts["revision"]), int(facts["keys"]), path, round(time.monotonic() - began, 2),
    )  # fmt: skip


def _bring(looked: Looked, host: str, files: list[Any], folder: Path) -> None:
    """Fetch the files of a set into a new directory here, 0700."""
    folder.mkdir(mode=0o700, parents=True)
    pieces, staged = [], []
    try:
        for source, size, digest in files:
            there = str(looked.fleet.call(host, "restore_stage", {"path": source}, _SILENCE))
            staged.append(there)
            pieces.append(Piece(there, folder / Path(source).name, int(size), str(digest)))
        fetch(looked.fleet.way(host), pieces, looked.progress.say)
    finally:
        for there in staged:
            try:
                looked.fleet.call(host, "discard_upload", {"path": there}, _ANSWER)
            except RescueError as error:
                looked.progress.say(f"{host}: {there} is still there: {error.seen}")


# ---- OpenShift 3.11 ------------------------------------------------------------------------------


def _openshift311(looked: Looked, host: str, asked: Asked, output: str) -> None:
    """Files, packages and etcd of every master named, or of all."""
    named = [part for part in host.split(",") if part]
    masters = [o.host for o in looked.observations if master_of(looked.cluster, o.host).is_master]
    hosts = [_seen(looked, name).host for name in named] or sorted(masters)
    if not hosts:
        raise Refused("no master was surveyed", "there is nothing to back up", "fab survey")
    wish = master_files.Wish(asked.archive, asked.to, asked.encrypt_to)
    report.emit(master_files.backup(looked, hosts, wish), output, master_files.told)
    away = [o.host for o in looked.observations if o.survey is None]
    if away and not named:
        raise Unreachable(
            f"{', '.join(away)} was not backed up: no survey of it",
            "every master has certificates and settings of its own",
            f"make it reachable, then: fab backup-master {away[0]}",
        )


WAYS: dict[str, Way] = {"openshift4": _openshift4}
"""Platform → how a master of it is backed up."""


def _told(done: MasterBackup) -> None:
    print(plain(f"backup of {done.host}: {done.directory}, {done.seconds:.1f} s"))
    print(plain(f"  {', '.join(done.files)}"))
    print(f"  {done.keys} keys at revision {done.revision}")
    if done.path:
        print(plain(f"brought here: {done.path}"))
    else:
        print("it lies on the master itself: bring it away (--to DIR does)")
