"""Verifies a snapshot file: its hash, every page of its database, and what it holds."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Optional

from agent.errors import Refused, UsageError
from agent.host import Host
from agent.model.facts import Alarm, Damage, DbFacts, Member
from agent.snapshot.hashing import Hasher, chunks, hasher
from agent.snapshot.keyspace import KeySpace
from agent.survey.bbolt import NO_FREELIST, Database
from agent.survey.dbcheck import TreeCheck, check_db
from agent.survey.livekeys import count_live_keys, finished_compaction
from agent.survey.positioned import DamagedAt, PositionedFile
from agent.survey.schema import parse_revision, read_db

HASH_SIZE = 32
_SECTOR = 512
_LARGEST = 1 << 36
"""64 GiB; etcd's authors advise against more than 8."""

_SAY_EVERY = 1 << 30

Say = Callable[[str], None]


@dataclass(frozen=True)
class SnapshotFacts:
    """What a verified snapshot file is and holds. Sizes are bytes, IDs 16 hex digits.

    kind: "snapshot" as etcd gives it, with its hash at the end, or "copy": a database file without
    one. size and sha256: of the whole file, the hash at its end included. revision: the newest.
    keys: that exist at that revision; records: changes stored, those not yet compacted included.
    term, index: the raft position applied last. etcd_version: the cluster's ("3.5.0");
    storage_version: since 3.6 ("3.6.0"). cluster_id: a snapshot file does not hold it; it is known
    where a manifest came with the file, and else empty. alarms: active when it was taken.
    """

    path: str
    size: int
    sha256: str
    revision: int
    keys: int
    records: int
    term: int
    index: int
    is_hashed: bool
    kind: str
    etcd_version: str = ""
    storage_version: str = ""
    cluster_id: str = ""
    members: tuple[Member, ...] = ()
    alarms: tuple[Alarm, ...] = ()


class SnapshotDamaged(DamagedAt):
    """A snapshot that must not be restored; `damage.offset` says from where on it is bad."""

    def __init__(self, damage: Damage, why: str = "", next: str = "") -> None:
        super().__init__(damage.file, damage.offset, damage.reason)
        self.why = why or "restoring it would bring back something else than was saved"
        self.next = next or "take another snapshot file; `fab snapshot` makes a new one"


class MissingHash(SnapshotDamaged):
    """No hash at the end: a copy of a database file, or a snapshot that was cut short."""


def verify_snapshot(
    host: Host, path: str, no_hash_ok: bool = False, say: Say = lambda text: None
) -> SnapshotFacts:
    """Read a snapshot file once and prove that it is whole; flat memory (20 bytes a page).

    Proved: the sha256 at its end (there iff size % 512 == 32: etcd's snapshot/v3_snapshot.go), and
    all that bbolt's own check asserts of the pages in use. A file without a hash is refused unless
    `no_hash_ok`; then the pages alone have to do, and bits inside values are nobody's witness.

    Raises SnapshotDamaged (MissingHash) with the offset; UsageError where there is no such file;
    Refused for what is no regular file, and for one that is written to meanwhile.
    """
    _require_file(host, path)
    with PositionedFile(host, path) as file:
        before = file.stamp()
        body = _body_size(file, no_hash_ok)
        try:
            facts = _Verification(host, file, body, say).run()
        except DamagedAt as error:
            if isinstance(error, SnapshotDamaged):
                raise
            raise SnapshotDamaged(error.damage) from None
        if file.stamp() != before:
            raise Refused(
                f"{path} changed while it was read",
                "what was proved is no longer what is there",
                "wait until the file is complete, then verify it again",
            )
    return facts


def removed_members(host: Host, path: str) -> tuple[str, ...]:
    """IDs of the members that a verified snapshot file knows as removed; with those of its list
    they tell which clusters it can be of (diagnosis/origin.py).
    """  # noqa: D205
    return read_db(host, path).removed_ids


def _require_file(host: Host, path: str) -> None:
    try:
        info = host.stat(path)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file", next="give the path of a snapshot file") from None
    except NotADirectoryError:
        raise UsageError(f"{path}: a part of this path is no directory") from None
    if not stat.S_ISREG(info.st_mode):
        kind = "a directory" if stat.S_ISDIR(info.st_mode) else "not a regular file"
        raise Refused(f"{path}: {kind}", "a snapshot is one file that can be read again")
    if info.st_size > _LARGEST:
        raise Refused(f"{path}: {info.st_size >> 30} GiB", "no etcd database is that large")


def _body_size(file: PositionedFile, no_hash_ok: bool) -> int:
    """Where the database ends and the hash begins, by the size of the file alone."""
    size, rest = file.size, file.size % _SECTOR
    if size == 0:
        raise SnapshotDamaged(Damage(file.path, 0, "the file is empty"))
    if rest == HASH_SIZE:
        return size - HASH_SIZE
    if rest:
        reason = (
            f"{size} bytes: a snapshot has whole pages and a hash of 32 bytes, so its size leaves "
            f"32 when divided by 512; this one leaves {rest}"
        )
        raise SnapshotDamaged(Damage(file.path, size, reason), "the file was cut short or added to")
    if not no_hash_ok:
        raise MissingHash(
            Damage(file.path, size, "no sha256 at the end of the file"),
            "it is a copy of a database file, or a snapshot that was cut short",
            f"a copy of member/snap/db: fab verify-snapshot {file.path} --no-hash-ok",
        )
    return size


class _Verification:
    """One pass over one file."""

    def __init__(self, host: Host, file: PositionedFile, body: int, say: Say) -> None:
        self._host, self._file, self._body, self._say = host, file, body, say
        self._path = file.path
        self._is_hashed = body != file.size

    def run(self) -> SnapshotFacts:
        """Verify. Raises DamagedAt."""
        try:
            db = Database(self._host, self._path)
        except DamagedAt as error:
            raise SnapshotDamaged(error.damage) from None
        with db:
            self._require_whole_pages(db)
            tree = TreeCheck(db, 1, apart=b"key")
            found = tree.run()
            compacted, interrupted = _compaction(db, found)
            keys = self._key_space(db, tree, compacted) if not found else None
            digest = self._pass(keys)
            facts = self._facts(digest)
            if keys is None or not keys.is_complete or interrupted:
                return self._thorough(facts)
            return replace(facts, keys=keys.live, records=keys.records)

    def _require_whole_pages(self, db: Database) -> None:
        """Refuse a size that the metas do not give: a snapshot has exactly the pages in use."""
        end = db.meta.high_water * db.meta.page_size
        if self._body % db.meta.page_size or (self._is_hashed and self._body != end):
            reason = f"the database ends at {end}, the file's part before the hash at {self._body}"
            raise SnapshotDamaged(Damage(self._path, min(end, self._body), reason))

    def _key_space(self, db: Database, tree: TreeCheck, compacted: int) -> Optional[KeySpace]:
        if not tree.root_apart or db.meta.freelist != NO_FREELIST:
            return None
        return KeySpace(db, tree.root_apart, compacted, tree.used)

    def _pass(self, keys: Optional[KeySpace]) -> str:
        """Read the whole file once; the sha256 of all of it. Raises SnapshotDamaged."""
        told = 0
        with hasher() as hashing:
            for at, data in chunks(self._file, self._body):
                hashing.update(data)
                if keys is not None:
                    keys.feed(at, data)
                if at - told >= _SAY_EVERY:
                    told = at
                    self._say(f"verified {at >> 20} of {self._body >> 20} MiB")
            return self._finish(hashing)

    def _finish(self, hashing: Hasher) -> str:
        computed = hashing.finish()
        trailer = self._file.read(self._body, HASH_SIZE) if self._is_hashed else b""
        if self._is_hashed and trailer.hex() != computed:
            raise self._mismatch(computed, trailer.hex())
        hashing.sha256.update(trailer)
        return hashing.sha256.hexdigest()

    def _mismatch(self, computed: str, expected: str) -> SnapshotDamaged:
        """The hash is wrong; where the pages show a place, that place is named."""
        places = check_db(self._host, self._path, 1)
        reason = (
            f"sha256 of the {self._body} bytes before: {computed}, at the end stands {expected}"
        )
        if places:
            first = places[0]
            return SnapshotDamaged(
                Damage(self._path, first.offset, f"{first.reason}; and {reason}"),
            )
        return SnapshotDamaged(
            Damage(self._path, self._body, reason),
            "a byte of it was changed since it was taken; the pages in use have kept their shape",
        )

    def _facts(self, digest: str) -> SnapshotFacts:
        db = read_db(self._host, self._path)
        if db.damage is not None:
            raise SnapshotDamaged(db.damage)
        return _facts_of(db, self._path, self._file.size, digest, self._is_hashed)

    def _thorough(self, facts: SnapshotFacts) -> SnapshotFacts:
        """Check every page and count every key the slow way: the last word where the fast one
        met something that it does not know.
        """  # noqa: D205
        self._say("checking every page once more, slowly: it is not of the usual shape")
        places = check_db(self._host, self._path, 1)
        if places:
            raise SnapshotDamaged(places[0])
        with Database(self._host, self._path) as db:
            bucket = db.bucket("key")
            records = sum(1 for _ in bucket.walk()) if bucket else 0
        keys = count_live_keys(self._host, self._path)
        return replace(facts, keys=keys, records=records)


def _compaction(db: Database, found: list[Damage]) -> tuple[int, bool]:
    """(revision of the last finished compaction, whether another was begun and not finished)."""
    bucket = db.bucket("meta") if not found else None
    value = bucket.get(b"scheduledCompactRev") if bucket else None
    finished = finished_compaction(db) if bucket else 0
    return finished, bool(value) and parse_revision(db, value or b"").main > finished


def _facts_of(db: DbFacts, path: str, size: int, digest: str, is_hashed: bool) -> SnapshotFacts:
    return SnapshotFacts(
        path=path,
        size=size,
        sha256=digest,
        revision=db.revision,
        keys=0,
        records=0,
        term=db.consistent_term,
        index=db.consistent_index,
        is_hashed=is_hashed,
        kind="snapshot" if is_hashed else "copy",
        etcd_version=db.cluster_version,
        storage_version=db.storage_version,
        members=db.members,
        alarms=db.alarms,
    )
