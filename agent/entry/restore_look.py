"""What must be known of a host before a restore is planned: the file, the tool, the revisions."""

from __future__ import annotations

import posixpath
import secrets
from collections.abc import Callable
from typing import Any

from agent.actions.base import Context
from agent.actions.binary import obtain_binary
from agent.actions.definitions import current_config
from agent.actions.find_revisions import find_revisions
from agent.actions.restore_tool import find_tool
from agent.errors import PreconditionFailed, UsageError
from agent.host import Host
from agent.platforms import detect
from agent.snapshot.backup_set import verify_path
from agent.snapshot.bulk import INCOMING
from agent.snapshot.openshift4_set import resources_beside
from agent.snapshot.restore_facts import RestoreFacts, ToolFacts
from agent.snapshot.verify import removed_members
from agent.survey.watched import read_config

Say = Callable[[str], None]


def look(host: Host, args: dict[str, Any], say: Say) -> RestoreFacts:
    """Look: {"snapshot": path, "copy": a database file will do, "tool": path, "restores": bool,
    "more": paths of data to read revisions from, "definition": path of one that is not in place}.

    Nothing is changed but that the node's tool may be copied aside. Raises what verify_snapshot and
    find_tool raise.
    """  # noqa: D205
    platform = detect(host)
    ctx = Context(host, platform, "look", "look", say)
    snapshot, tool = _text(args, "snapshot"), None
    facts, found_set = None, None
    if snapshot:
        facts, found_set = verify_path(host, snapshot, args.get("copy") is True, say)
    removed = removed_members(host, facts.path) if facts else ()
    resources = resources_beside(host, snapshot)
    more = tuple(str(path) for path in args.get("more", ()))
    modified = host.stat(snapshot).st_mtime if snapshot else 0.0
    try:
        definition = _text(args, "definition")
        config = read_config(host, platform, definition) if definition else current_config(ctx)
    except PreconditionFailed:
        if args.get("restores") is True:
            raise
        found_here = find_revisions(host, "/var/lib/etcd", more)
        return RestoreFacts(
            facts, None, found_here, modified, found_set, resources=resources, removed=removed
        )
    if args.get("restores") is True:
        _binary, version = obtain_binary(ctx, config)
        found = find_tool(ctx, config, _text(args, "tool"), version)
        tool = ToolFacts(found.name, found.version, found.bumps)
    revisions = find_revisions(host, config.data_dir, more)
    told = config if definition else None
    return RestoreFacts(facts, tool, revisions, modified, found_set, told, resources, removed)


def stage(host: Host, path: str) -> str:
    """Copy a file of this host to where files are sent from; its path there."""
    folder = f"{INCOMING}/staged-{secrets.token_hex(4)}"
    host.makedirs(folder)
    target = f"{folder}/{posixpath.basename(path)}"
    host.copy_file(path, target)
    return target


def _text(args: dict[str, Any], name: str) -> str:
    value = args.get(name, "")
    if not isinstance(value, str):
        raise UsageError(f"argument {name!r} is not a text")
    return value
