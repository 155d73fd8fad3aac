"""What a coordinator can ask of an agent about snapshots: one function a verb, JSON in and out."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from agent.errors import UsageError
from agent.host import Host
from agent.model.codec import to_plain

Say = Callable[[str], None]
Args = dict[str, Any]
_LARGE = ("snapshot", "data")


def _text(args: Args, name: str) -> str:
    value = args.get(name)
    if not isinstance(value, str) or not value:
        raise UsageError(f"argument {name!r} is missing or not a text")
    return value


def take_snapshot(host: Host, args: Args, say: Say) -> Any:
    """Take a backup set and stage it: {} → {"directory", "set": BackupSet}."""
    from agent.snapshot.staging import staged_path
    from agent.snapshot.take import take_set

    found = take_set(host, say)
    return {"directory": staged_path(host, found.name), "set": to_plain(found)}


def snapshot_files(host: Host, args: Args, say: Say) -> Any:
    """Give the small files of a staged set: {"set": name} → {path: base64}.

    All but the database and the log, which are too large for a line; manifest and sums included.
    """
    from agent.snapshot.backup_set import MANIFEST, SUMS, read_set
    from agent.snapshot.staging import staged_path

    directory = staged_path(host, _text(args, "set"))
    paths = [f.path for f in read_set(host, directory).files if f.what not in _LARGE]
    return {
        path: base64.b64encode(host.read_bytes(f"{directory}/{path}")).decode()
        for path in (*paths, MANIFEST, SUMS)
    }


def discard_snapshot(host: Host, args: Args, say: Say) -> Any:
    """Take a staged set away: {"set": name} → null."""
    from agent.snapshot.staging import discard_set

    discard_set(host, _text(args, "set"))


def keep_snapshot(host: Host, args: Args, say: Say) -> Any:
    """Keep a staged set on this host: {"set": name} → its directory."""
    from agent.snapshot.staging import keep_set

    return keep_set(host, _text(args, "set"))


def verify_snapshot(host: Host, args: Args, say: Say) -> Any:
    """Verify a file or a set: {"path", "no_hash_ok"} → {"snapshot": facts, "set": or null}."""
    from agent.snapshot.backup_set import verify_path

    facts, found = verify_path(host, _text(args, "path"), args.get("no_hash_ok") is True, say)
    return {"snapshot": to_plain(facts), "set": to_plain(found)}


def rehearse_snapshot(host: Host, args: Args, say: Say) -> Any:
    """Rehearse a file or a set here: {"path", "no_hash_ok"} → Rehearsal."""
    from agent.snapshot.rehearse import rehearse

    return to_plain(rehearse(host, _text(args, "path"), args.get("no_hash_ok") is True, say))


def discard_upload(host: Host, args: Args, say: Say) -> Any:
    """Take a file away that a coordinator sent: {"path"} → null."""
    from agent.snapshot.bulk import discard_incoming

    discard_incoming(host, _text(args, "path"))


def take_openshift4_set(host: Host, args: Args, say: Say) -> Any:
    """Take a set in OpenShift 4's layout: {"folder", "stamp"} → its facts.

    {"directory", "files": [[path, size, sha256], …], "resources": […], "snapshot": SnapshotFacts}.
    """
    from agent.platforms import detect
    from agent.snapshot import openshift4_set
    from agent.survey.watched import definition_here

    platform = detect(host)
    if platform.name != "openshift4":
        raise UsageError(f"{host.hostname()}: {platform.title}, not OpenShift 4")
    config = definition_here(host, platform)
    folder, stamp = _text(args, "folder"), _text(args, "stamp")
    found = openshift4_set.take(host, config, folder, stamp, say)
    return {
        "directory": found.directory,
        "files": openshift4_set.files_of(host, found),
        "resources": list(found.revisions),
        "snapshot": to_plain(found.facts),
    }


REQUESTS = {
    f.__name__: f
    for f in (
        take_snapshot, snapshot_files, discard_snapshot, keep_snapshot, verify_snapshot,
        rehearse_snapshot, discard_upload, take_openshift4_set,
    )
}  # fmt: skip
