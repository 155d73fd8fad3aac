"""What etcd keeps in its database file: members, applied position, revision, alarms, versions.

Sources: etcd's server/storage/schema/*.go (3.5, 3.6; the same buckets in 3.4's backend) and
server/storage/mvcc/{revision,kvstore}.go.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Optional

from agent.etcd import protobuf
from agent.host import Host
from agent.model.facts import Alarm, Damage, DbFacts, Member
from agent.survey.bbolt import Bucket, Database
from agent.survey.positioned import DamagedAt

REVISION_SIZE = 17  # main revision (8 bytes, big-endian), "_", sub revision (8 bytes)

_ATTEMPTS = 5
_MAX_ROWS = 65536
_MAX_VALUE = 256 * 1024
_ALARM_SHAPE = {1: protobuf.VARINT, 2: protobuf.VARINT}
_ALARM_KINDS = {0: "NONE", 1: "NOSPACE", 2: "CORRUPT"}


@dataclass(frozen=True)
class ConfState:
    """raft's configuration as last applied: member IDs. Saved since etcd 3.5."""

    voters: tuple[str, ...]
    learners: tuple[str, ...]


@dataclass(frozen=True)
class Revision:
    """A key of the `key` bucket: one change of one key."""

    main: int
    sub: int
    tombstone: bool


def read_db(host: Host, path: str) -> DbFacts:
    """The facts of a database file; what cannot be read is left at zero and named in `damage`.

    Verified: one of the two metas (checksum), the length of the file, and every page on the way to
    the small buckets and to the last key; not the pages of the whole key space (see
    dbcheck.check_db). A file that etcd commits to meanwhile is read again, up to 5 times, until no
    commit fell into the reading. Raises FileNotFoundError where there is none.
    """
    facts = DbFacts(0, 0, 0, 0, 0, 0)
    for _ in range(_ATTEMPTS):
        facts, current = _read_once(host, path)
        if current:
            break
    return facts


def _read_once(host: Host, path: str) -> tuple[DbFacts, bool]:
    """(facts, whether they belong to one transaction)."""
    size = host.stat(path).st_size
    try:
        db = Database(host, path)
    except DamagedAt as error:
        same = host.stat(path).st_size == size
        return DbFacts(size, 0, 0, 0, 0, 0, damage=error.damage), same
    with db:
        facts = _facts(db)
        return facts, db.is_current()


def _facts(db: Database) -> DbFacts:
    """As much as can be read: each part that fails leaves the first damage met."""
    facts = DbFacts(db.file.size, db.meta.page_size, db.meta.txid, 0, 0, 0)
    damage: Optional[Damage] = None
    for part in (_positions, _membership, _versions, _revision):
        try:
            facts = replace(facts, **part(db))
        except DamagedAt as error:
            damage = damage or error.damage
    try:
        facts = replace(facts, members=_as_raft_has_it(db, facts.members))
    except DamagedAt as error:
        damage = damage or error.damage
    return replace(facts, damage=damage)


def _positions(db: Database) -> dict[str, Any]:
    return {
        "consistent_index": _number(db, "consistent_index"),
        "consistent_term": _number(db, "term"),
        "storage_version": _text(db, "meta", "storageVersion"),
    }


def _membership(db: Database) -> dict[str, Any]:
    members = tuple(_member(db, key, value) for key, value in _rows(db, "members"))
    removed = tuple(_member_id(db, key) for key, _ in _rows(db, "members_removed"))
    return {"members": members, "removed_ids": removed}


def _as_raft_has_it(db: Database, members: tuple[Member, ...]) -> tuple[Member, ...]:
    """Which members are learners, as raft's own configuration says.

    etcd 3.5.1 to 3.5.19 does not note in the `members` bucket that one was promoted (etcd issue
    19557), and kubeadm's joins promote.
    """
    state = conf_state(db)
    known = (*state.voters, *state.learners) if state else ()
    return tuple(
        replace(member, is_learner=member.id in state.learners)
        if state and member.id in known
        else member
        for member in members
    )


def _versions(db: Database) -> dict[str, Any]:
    alarms = tuple(_alarm(db, key) for key, _ in _rows(db, "alarm"))
    return {"alarms": alarms, "cluster_version": _text(db, "cluster", "clusterVersion")}


def _revision(db: Database) -> dict[str, Any]:
    """The revision that etcd would resume at: kvstore.restore.

    The last key's, or that of a compaction that removed the last key (a tombstone).
    """
    keys = db.bucket("key")
    last = keys.last_key() if keys else None
    newest = parse_revision(db, last).main if last else 0
    for name in ("finishedCompactRev", "scheduledCompactRev"):
        value = _get(db, "meta", name)
        if value:
            newest = max(newest, parse_revision(db, value).main)
    return {"revision": newest}


def conf_state(db: Database) -> Optional[ConfState]:
    """meta/confState, or None where it was never saved (etcd 3.4). Raises DamagedAt."""
    raw = _get(db, "meta", "confState")
    if raw is None:
        return None
    data = _json(db, "confState", raw)
    return ConfState(_ids(data.get("voters")), _ids(data.get("learners")))


def parse_revision(db: Database, key: bytes) -> Revision:
    """A key of the `key` bucket. Raises DamagedAt where it is none (etcd panics)."""
    if len(key) not in (REVISION_SIZE, REVISION_SIZE + 1) or key[8:9] != b"_":
        raise DamagedAt(db.file.path, 0, f"invalid revision: {key[:32].hex()}")
    main, sub = int.from_bytes(key[:8], "big"), int.from_bytes(key[9:17], "big")
    if main >> 63 or sub >> 63:
        raise DamagedAt(db.file.path, 0, f"negative revision: {key[:32].hex()}")
    return Revision(main, sub, key[REVISION_SIZE:] == b"t")


# ---- small buckets -------------------------------------------------------------------------------


def _rows(db: Database, name: str) -> Iterator[tuple[bytes, bytes]]:
    bucket: Optional[Bucket] = db.bucket(name)
    if bucket is None:
        return
    for count, row in enumerate(islice(bucket.items(_MAX_VALUE), _MAX_ROWS + 1)):
        if count == _MAX_ROWS:
            raise DamagedAt(db.file.path, 0, f"bucket {name}: more than {_MAX_ROWS} keys")
        yield row


def _get(db: Database, bucket: str, key: str) -> Optional[bytes]:
    found = db.bucket(bucket)
    return found.get(key.encode(), _MAX_VALUE) if found else None


def _number(db: Database, key: str) -> int:
    raw = _get(db, "meta", key)
    if raw is None:
        return 0
    if len(raw) != 8:
        raise DamagedAt(db.file.path, 0, f"meta/{key}: {len(raw)} bytes instead of 8")
    return int.from_bytes(raw, "big")


def _text(db: Database, bucket: str, key: str) -> str:
    raw = _get(db, bucket, key)
    try:
        return (raw or b"").decode("ascii")
    except UnicodeDecodeError:
        raise DamagedAt(db.file.path, 0, f"{bucket}/{key}: not a version") from None


def _member_id(db: Database, key: bytes) -> str:
    """types.ID prints without leading zeros; here IDs have 16 digits everywhere."""
    try:
        value = int(key.decode("ascii"), 16)
    except (UnicodeDecodeError, ValueError):
        value = -1
    if not 0 <= value < 1 << 64:
        raise DamagedAt(db.file.path, 0, f"failed to parse member id from key {key[:32]!r}")
    return f"{value:016x}"


def _member(db: Database, key: bytes, value: bytes) -> Member:
    member_id = _member_id(db, key)
    data = _json(db, f"members/{member_id}", value)
    name = data.get("name")
    return Member(
        id=member_id,
        name=name if isinstance(name, str) else "",
        peer_urls=_strings(data.get("peerURLs")),
        client_urls=_strings(data.get("clientURLs")),
        is_learner=data.get("isLearner") is True,
    )


def _alarm(db: Database, key: bytes) -> Alarm:
    try:
        found = protobuf.message(key, _ALARM_SHAPE)
    except protobuf.Malformed as error:
        raise DamagedAt(db.file.path, 0, f"alarm {key[:32].hex()}: {error.reason}") from None
    kind = protobuf.unsigned(found, 2)
    return Alarm(f"{protobuf.unsigned(found, 1):016x}", _ALARM_KINDS.get(kind, str(kind)))


def _json(db: Database, what: str, raw: bytes) -> dict[str, Any]:
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise DamagedAt(db.file.path, 0, f"{what}: not a JSON object")
    return data


def _strings(value: object) -> tuple[str, ...]:
    return tuple(v for v in value if isinstance(v, str)) if isinstance(value, list) else ()


def _ids(value: object) -> tuple[str, ...]:
    ids = value if isinstance(value, list) else []
    return tuple(f"{v:016x}" for v in ids if isinstance(v, int) and 0 <= v < 1 << 64)
