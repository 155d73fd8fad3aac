"""One run of the timer: wait for the member, take a verified set, expire old ones, write metrics.

Sets lie in /var/lib/etcd-rescue/scheduled, apart from those that a person took: a limit never takes
away what nobody gave it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Optional

from agent.errors import Damaged, Locked, Refused, RescueError, Unreachable
from agent.host import STATE_DIR, Host
from agent.model.facts import EtcdConfig
from agent.model.schedule import Limits
from agent.platforms import detect
from agent.snapshot.backup_set import BackupSet, read_set
from agent.snapshot.giving_way import giving_way, only_snapshot
from agent.snapshot.metrics import RunFacts, metrics_text, write_metrics
from agent.snapshot.retention import Kept, expired, newest_first
from agent.snapshot.running import RunningMember, find_running
from agent.snapshot.staging import STAGING
from agent.snapshot.take import take_set
from agent.snapshot.verify import Say
from agent.survey.online import local_endpoints
from agent.survey.watched import read_watched

SCHEDULED = f"{STATE_DIR}/scheduled"
_EXPIRED = f"{STATE_DIR}/work/expired"
_POLL = 1.0


@dataclass(frozen=True)
class Holdings:
    """What lies among the scheduled sets. unknown: names of what is no whole set."""

    sets: tuple[Kept, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True)
class Taken:
    """What a run took. directory: of the set; expired: names of the sets that went."""

    directory: str
    found: BackupSet
    expired: tuple[str, ...]
    kept: int


def take_scheduled(host: Host, limits: Limits, patience: float, metrics: str, say: Say) -> Taken:
    """Take one scheduled set; the metrics tell how it ended, whatever happens.

    Raises Locked where a rescue is at work or begins, Refused without room, Unreachable where the
    member does not answer within `patience` seconds, and what take_set raises. A run that fails
    takes no earlier set away.
    """
    began, result = time.monotonic(), "failed"
    taken: Optional[Taken] = None
    try:
        with only_snapshot(host), giving_way(host):
            taken = _take(host, limits, patience, say)
        result = "ok"
        return taken
    except (RescueError, OSError) as error:
        result = _result_of(error)
        raise
    finally:
        if metrics:
            facts = RunFacts(
                result, host.now(), round(time.monotonic() - began, 3), host.free(SCHEDULED)[0]
            )
            _tell(host, metrics, facts, taken)


def _result_of(error: Exception) -> str:
    for cls, name in (
        (Locked, "locked"), (Refused, "refused"), (Damaged, "damaged"),
        (Unreachable, "unreachable"),
    ):  # fmt: skip
        if isinstance(error, cls):
            return name
    return "failed"


def _tell(host: Host, directory: str, facts: RunFacts, taken: Optional[Taken]) -> None:
    there = holdings(host)
    facts = replace(facts, unknown=len(there.unknown))
    if taken is not None and taken.found.snapshot is not None:
        snapshot = taken.found.snapshot
        facts = replace(
            facts, expired=len(taken.expired), revision=snapshot.revision, keys=snapshot.keys
        )
    write_metrics(host, directory, metrics_text(facts, there.sets))


def holdings(host: Host, new: str = "") -> Holdings:
    """The scheduled sets of this host, the newest first. new: the name of one just taken."""
    sets, unknown = [], []
    for name in host.listdir(SCHEDULED):
        try:
            found = read_set(host, f"{SCHEDULED}/{name}")
        except (RescueError, OSError):
            unknown.append(name)
            continue
        if found.name != name or found.kind != "snapshot" or found.snapshot is None:
            unknown.append(name)
            continue
        size = sum(file.size for file in found.files)
        sets.append(Kept(name, found.time, size, found.quorum, name == new))
    return Holdings(tuple(newest_first(sets)), tuple(unknown))


# ---- one run -------------------------------------------------------------------------------------


def _take(host: Host, limits: Limits, patience: float, say: Say) -> Taken:
    _sweep(host)
    member = _wait_for_member(host, patience, say)
    _require_room(host, member.status.db_size, limits.min_free)
    found = take_set(host, say, may_copy=False)
    host.makedirs(SCHEDULED)
    directory = f"{SCHEDULED}/{found.name}"
    host.rename_new(f"{STAGING}/{found.name}", directory)
    there = holdings(host, new=found.name)
    gone = expired(there.sets, limits, host.now())
    for name in gone:
        say(f"taking {name} away: {len(there.sets) - len(gone)} newer ones are kept")
        _expire(host, name)
    for name in there.unknown:
        say(f"{SCHEDULED}/{name} is no whole snapshot set: left alone")
    return Taken(directory, found, tuple(gone), len(there.sets) - len(gone))


def _expire(host: Host, name: str) -> None:
    """Out of the way by one rename, then deleted: no half of a set is ever among the others."""
    host.makedirs(_EXPIRED)
    host.rename_new(f"{SCHEDULED}/{name}", f"{_EXPIRED}/{name}")
    host.discard(f"{_EXPIRED}/{name}")


def _sweep(host: Host) -> None:
    """Delete what a run that was killed had put out of the way already."""
    for name in host.listdir(_EXPIRED):
        host.discard(f"{_EXPIRED}/{name}")


def _wait_for_member(host: Host, patience: float, say: Say) -> RunningMember:
    """The member of this host, once it answers: after a boot that takes a while."""
    until, told = time.monotonic() + patience, False
    while True:
        config = _config(host)
        member = find_running(host, config) if config else None
        if member is not None:
            return member
        if time.monotonic() >= until:
            raise _no_member(host, config, patience)
        if not told:
            say(f"etcd does not answer; waiting for it for at most {patience:g} s")
            told = True
        time.sleep(_POLL)


def _config(host: Host) -> Optional[EtcdConfig]:
    config, _strays, _problems = read_watched(host, detect(host))
    return config


def _no_member(host: Host, config: Optional[EtcdConfig], patience: float) -> Unreachable:
    where = ", ".join(local_endpoints(config)) if config else "no definition of it is in place"
    return Unreachable(
        f"{host.hostname()}: etcd did not answer within {patience:g} s ({where})",
        "a scheduled snapshot is of a member that runs; the earlier ones are kept as they are",
        f"fab diagnose; to copy a stopped data directory: fab snapshot {host.hostname()}",
    )


def _require_room(host: Host, size: int, min_free: int) -> None:
    """Raise Refused where less than min_free bytes would be left."""
    host.makedirs(SCHEDULED)
    free, _inodes = host.free(SCHEDULED)
    if free < size + min_free:
        raise Refused(
            f"{host.hostname()}: {free >> 20} MiB are free below {STATE_DIR}; the snapshot takes "
            f"{size >> 20} MiB, and {min_free >> 20} MiB are to stay free",
            "a full disk would stop etcd; no earlier snapshot is taken away for a new one that is "
            "not there yet",
            "make room, or: fab install-timer with a smaller --keep or --min-free",
        )
