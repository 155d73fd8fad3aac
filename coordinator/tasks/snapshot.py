"""Tasks for snapshots: take a backup set, verify one, rehearse one."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from agent.errors import Refused, RescueError, UsageError
from agent.model.codec import from_plain
from agent.model.verdict import MemberVerdict
from agent.snapshot.backup_set import BackupSet
from agent.snapshot.here import rehearse_here, verify_here
from agent.snapshot.rehearse import Rehearsal
from coordinator import report, snapshot_report
from coordinator.console import Progress
from coordinator.local_set import incoming, large_pieces, write_small_files
from coordinator.snapshot_report import TakenSet, Verified
from coordinator.tasks.common import Looked, Options, looking
from coordinator.transfer import fetch, upload

DEFAULT_FOLDER = "backups"
_SILENCE = 180.0
_ANSWER = 60.0


def snapshot(
    options: Options, host: str = "", to: str = DEFAULT_FOLDER, keep: bool = False
) -> None:
    """Take a backup set on a host and bring it here, whole or not at all."""
    began = time.monotonic()
    with looking(options, host) as looked:
        chosen = _host_named(looked, host) if host else _best_host(looked)
        looked.progress.say(f"taking a snapshot on {chosen}")
        path, found, kept = _take(looked, chosen, Path(to or DEFAULT_FOLDER).absolute(), keep)
        seconds = round(time.monotonic() - began, 2)
        taken = TakenSet(str(path), seconds, found, kept)
        report.emit(taken, options.output, snapshot_report.taken)


def _host_named(looked: Looked, host: str) -> str:
    for observation in looked.observations:
        if observation.host != host:
            continue
        if observation.survey is None:
            error = looked.fleet.errors.get(host)
            raise error or Refused(f"{host}: {observation.error}", next=observation.next)
        return host
    known = ", ".join(o.host for o in looked.observations)
    raise UsageError(f"no host {host!r}", f"known: {known}", "fab survey")


def _best_host(looked: Looked) -> str:
    """A member that serves, rather a follower; else one that runs, with the newest data."""
    leaders = {
        o.survey.online.leader_id for o in looked.observations if o.survey and o.survey.online
    }

    def rank(member: MemberVerdict) -> tuple[bool, bool, tuple[int, int], int]:
        return member.serves, member.id not in leaders, member.position, member.revision

    surveyed = {o.host for o in looked.observations if o.survey}
    running = [m for m in looked.diagnosis.members if m.host in surveyed and m.runs and m.voter]
    if running:
        return max(running, key=rank).host
    stopped = [m.host for m in looked.diagnosis.members if m.host in surveyed and m.usable]
    first = stopped[0] if stopped else "HOST"
    raise Refused(
        "no member runs on these hosts"
        + (f"; data is there on {', '.join(stopped)}" if stopped else ""),
        "which stopped data directory is to be copied is for you to say",
        f"fab snapshot {first}   (its copy is labelled as one)",
    )


def _take(looked: Looked, host: str, folder: Path, keep: bool) -> tuple[Path, BackupSet, str]:
    fleet, say = looked.fleet, looked.progress.say
    answer = fleet.call(host, "take_snapshot", {}, _SILENCE, lambda text: say(f"{host}: {text}"))
    directory, name = str(answer["directory"]), str(answer["set"]["name"])
    kept = ""
    try:
        with incoming(folder, name, say) as part:
            files = fleet.call(host, "snapshot_files", {"set": name}, _ANSWER)
            found = write_small_files(part, files, host)
            fetch(fleet.way(host), large_pieces(part, directory, found), say)
        if keep:
            kept = fleet.call(host, "keep_snapshot", {"set": name}, _ANSWER)
    finally:
        if not kept:
            _let_go(looked, host, "discard_snapshot", {"set": name})
    return folder / name, found, kept


def _let_go(looked: Looked, host: str, verb: str, args: dict[str, Any]) -> None:
    """Take away what was staged; where that fails the next snapshot there does it."""
    try:
        looked.fleet.call(host, verb, args, _ANSWER)
    except RescueError as error:
        looked.progress.say(f"{host}: what was staged is still there: {error.seen}")


# ---- verify, rehearse ----------------------------------------------------------------------------


def verify_snapshot(options: Options, file: str, no_hash_ok: bool = False) -> None:
    """Prove that a snapshot file, or a backup set, is whole."""
    progress = Progress()
    facts, found = verify_here(os.path.abspath(file), no_hash_ok, progress.say)
    report.emit(Verified(facts, found), options.output, snapshot_report.verified)


def rehearse(options: Options, file: str, on: str = "", no_hash_ok: bool = False) -> None:
    """Restore a snapshot into a scratch etcd, here or on a host, and say what it serves."""
    path = os.path.abspath(file)
    if not on:
        found = rehearse_here(path, no_hash_ok, Progress().say)
        report.emit(found, options.output, snapshot_report.rehearsed)
        return
    with looking(options, on) as looked:
        host = _host_named(looked, on)
        found = rehearse_on(looked, host, path, no_hash_ok)
        report.emit(found, options.output, snapshot_report.rehearsed)


def rehearse_on(looked: Looked, host: str, path: str, no_hash_ok: bool = False) -> Rehearsal:
    """Verify a local file, send it to a host, rehearse it there; nothing of it stays."""
    say = looked.progress.say
    facts, found_set = verify_here(path, no_hash_ok, say)
    is_directory = found_set is not None and os.path.isdir(path)
    source = Path(path) / found_set.main if found_set and is_directory else Path(path)
    there = upload(looked.fleet.way(host), source, say, facts.sha256)
    try:
        args = {"path": there, "no_hash_ok": not facts.is_hashed}
        answer = looked.fleet.call(
            host, "rehearse_snapshot", args, _SILENCE, lambda text: say(f"{host}: {text}")
        )
    finally:
        _let_go(looked, host, "discard_upload", {"path": there})
    result: Rehearsal = from_plain(Rehearsal, answer, f"rehearsal on {host}")
    return result
