"""What must be known of a host before a restore is planned: the file, the tool, the revisions."""

from __future__ import annotations

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
from agent.snapshot.restore_facts import RestoreFacts, ToolFacts
from agent.snapshot.verify import verify_snapshot

Say = Callable[[str], None]


def look(host: Host, args: dict[str, Any], say: Say) -> RestoreFacts:
    """Look: {"snapshot": path, "copy": a database file will do, "tool": path, "restores": bool}.

    Nothing is changed but that the node's tool may be copied aside. Raises what verify_snapshot and
    find_tool raise.
    """
    platform = detect(host)
    ctx = Context(host, platform, "look", "look", say)
    snapshot, tool = _text(args, "snapshot"), None
    facts = verify_snapshot(host, snapshot, args.get("copy") is True, say) if snapshot else None
    modified = host.stat(snapshot).st_mtime if snapshot else 0.0
    try:
        config = current_config(ctx)
    except PreconditionFailed:
        if args.get("restores") is True:
            raise
        return RestoreFacts(facts, None, find_revisions(host, "/var/lib/etcd"), modified)
    if args.get("restores") is True:
        _binary, version = obtain_binary(ctx, config)
        found = find_tool(ctx, config, _text(args, "tool"), version)
        tool = ToolFacts(found.name, found.version, found.bumps)
    return RestoreFacts(facts, tool, find_revisions(host, config.data_dir), modified)


def _text(args: dict[str, Any], name: str) -> str:
    value = args.get(name, "")
    if not isinstance(value, str):
        raise UsageError(f"argument {name!r} is not a text")
    return value
