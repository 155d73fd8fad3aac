"""The revisions that any data on this host stands for: in place, in quarantine, set aside by hand.

What a restore must not give out again is above all of them.
"""

from __future__ import annotations

import posixpath
from typing import Optional

from agent.diagnosis.revisions import Evidence, highest_in
from agent.errors import RescueError
from agent.host import STATE_DIR, Host
from agent.model.facts import OfflineFacts
from agent.survey.schema import read_db
from agent.survey.wal import read_wal

_MOST = 64
"""Directories that are read; each takes milliseconds."""


def find_revisions(host: Host, data_dir: str, more: tuple[str, ...] = ()) -> tuple[Evidence, ...]:
    """What each data directory found stands for, the highest first.

    Looked at: the data directory, those beside it whose name begins like it (etcd.bak, etcd-old),
    the quarantines, and `more`: data directories, member directories, snapshots or database files.
    One that cannot be read stands for nothing.
    """
    found = []
    for path in _candidates(host, data_dir, more)[:_MOST]:
        revision = _highest(host, path)
        if revision:
            found.append(Evidence(f"{host.hostname()}: {path}", revision))
    return tuple(sorted(found, key=lambda evidence: -evidence.revision))


def _candidates(host: Host, data_dir: str, more: tuple[str, ...]) -> list[str]:
    parent, name = posixpath.split(data_dir.rstrip("/"))
    beside = [f"{parent}/{other}" for other in host.listdir(parent) if other.startswith(name)]
    kept = []
    for top in (f"{STATE_DIR}/quarantine", f"{data_dir}/.etcd-rescue/quarantine"):
        for plan in host.listdir(top):
            kept += [f"{top}/{plan}/{member}" for member in host.listdir(f"{top}/{plan}")]
    return list(dict.fromkeys([*more, data_dir, *beside, *kept]))


def _highest(host: Host, path: str) -> int:
    """Of a data directory, a member directory, or a database file; 0 where nothing can be read."""
    try:
        if not host.is_dir(path):
            return read_db(host, path).revision if host.exists(path) else 0
        member = f"{path}/member" if host.is_dir(f"{path}/member") else path
        facts = _facts(host, member)
        return highest_in(facts) if facts is not None else 0
    except (RescueError, OSError):
        return 0


def _facts(host: Host, member: str) -> Optional[OfflineFacts]:
    database = f"{member}/snap/db"
    if not host.exists(database):
        return None
    wal = read_wal(host, f"{member}/wal") if host.is_dir(f"{member}/wal") else None
    return OfflineFacts(member, True, wal=wal, db=read_db(host, database))
