"""What etcd's data directory says with no etcd running."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from agent.host import Host
from agent.model.facts import Damage, DbFacts, OfflineFacts
from agent.survey import crc32c, snapfiles
from agent.survey.schema import read_db
from agent.survey.wal import Position, WalReading, read_log, segment_names

_MAX_DEPTH = 6
_READ_ALL_BELOW = 1024 * 1024 * 1024


def read_offline(host: Host, data_dir: str, wal_dir: str = "") -> OfflineFacts:
    """The facts of a data directory (`wal_dir`: where --wal-dir puts the log elsewhere).

    Nothing is written, locked or waited for, and a running etcd may go on writing: the database is
    read before the log, so that it is never ahead of it by that alone, and once more after the log
    before it is said to be behind.

    `damage` holds everything found: that of the log, of the database (also named in their own
    facts), of the newest snapshot file, and what only the three together show:
    - no segment of the log, or no database, beside what is left of the other: etcd would begin
      anew, or refuse;
    - no usable snapshot file though the log no longer holds its beginning: etcd finds no segment;
    - a database behind the snapshot without a received one to replace it: etcd panics;
    - a database ahead of the log: the end of the log was lost. etcd starts, but takes the entries
      it appends up to that index for applied: writes hang (measured with 3.4, 3.5 and 3.6).
    A torn tail of the log alone is no damage. `size` is the sum of the file sizes.

    Verified: see wal.read_log (all segments; where there is no fast checksum, or more than 1 GiB of
    log, those from the newest snapshot on), schema.read_db, snapfiles.check_snapshot.
    """
    place = _Place(data_dir, wal_dir or f"{data_dir}/member/wal")
    if not host.is_dir(place.member):
        return OfflineFacts(data_dir, has_data=False)
    reading = _read(host, place)
    return OfflineFacts(
        data_dir=data_dir,
        has_data=True,
        size=_size(host, place.member, 0) + _size_outside(host, place),
        wal=reading.log.facts if reading.log else None,
        db=reading.db,
        damage=tuple(reading.all_damage()),
    )


@dataclass(frozen=True)
class _Place:
    data_dir: str
    wal: str

    @property
    def member(self) -> str:
        return f"{self.data_dir}/member"

    @property
    def snap(self) -> str:
        return f"{self.member}/snap"

    @property
    def db(self) -> str:
        return f"{self.snap}/db"


@dataclass
class _Reading:
    db: Optional[DbFacts]
    log: Optional[WalReading]
    files: list[Damage]
    contradictions: list[Damage]

    def all_damage(self) -> list[Damage]:
        own = [
            self.log.facts.damage if self.log else None,
            self.db.damage if self.db else None,
        ]
        return [d for d in own if d is not None] + self.files + self.contradictions


def _read(host: Host, place: _Place) -> _Reading:
    db = _read_db(host, place.db)
    log = read_log(host, place.wal, _from_index(host, place))
    files: list[Damage] = []
    start: Optional[Position] = None
    if log is not None:
        start, files = snapfiles.newest_usable(host, place.snap, log.snapshots)
        # etcd sets a bad file aside and takes an older one, if the log still reaches back to it.
        files = [] if start is not None and log.first <= start.index else files
    index = start.index if start else 0
    behind = _read_behind(host, place, index) if _is_behind(db, index) else None
    if behind is not None and not _is_behind(behind, index):
        # A received database that etcd would put in its place: the one it would start with.
        db, behind = behind, None
    return _Reading(db, log, files, _contradictions(place, db, log, index, behind))


def _is_behind(db: Optional[DbFacts], index: int) -> bool:
    return db is not None and db.damage is None and db.consistent_index < index


def _read_behind(host: Host, place: _Place, index: int) -> Optional[DbFacts]:
    """None if the database is no longer behind; else the received one, or the one behind."""
    db = _read_db(host, place.db)
    if not _is_behind(db, index):
        return None
    return _read_db(host, f"{place.snap}/{index:016x}.snap.db") or db


def _read_db(host: Host, path: str) -> Optional[DbFacts]:
    try:
        return read_db(host, path)
    except FileNotFoundError:
        return None


def _from_index(host: Host, place: _Place) -> int:
    """Where to begin with the log: 0 for its beginning."""
    total = sum(host.stat(f"{place.wal}/{s.name}").st_size for s in segment_names(host, place.wal))
    if crc32c.engine_name() != "python" and total <= _READ_ALL_BELOW:
        return 0
    newest = snapfiles.snapshot_names(host, place.snap)
    return newest[0][0].index if newest else 0


def _contradictions(
    place: _Place,
    db: Optional[DbFacts],
    log: Optional[WalReading],
    index: int,
    behind: Optional[DbFacts],
) -> list[Damage]:
    """`index`: of the snapshot etcd starts from; `behind`: the database that lies before it."""
    if log is None:
        used = db is not None and (db.members or db.revision > 1 or db.damage)
        return [Damage(place.wal, 0, "wal: file not found")] if used else []
    if db is None:
        reason = f"database file ({place.db}) of the backend is missing"
        return [Damage(place.db, 0, reason)]
    found = []
    if log.first > index and log.facts.damage is None:
        reason = f"wal: file not found which matches the snapshot index '{index}'"
        found.append(Damage(place.wal, 0, f"{reason}: no older segment, no newer snapshot file"))
    if behind is not None:
        reason = (
            f"index {behind.consistent_index} does not match with snapshot (index {index}), and "
            f"{index:016x}.snap.db is missing"
        )
        found.append(Damage(place.db, 0, reason))
    if log.facts.damage is None and db.consistent_index > log.facts.last_index:
        reason = (
            f"the log ends at index {log.facts.last_index}, and the database holds "
            f"{db.consistent_index}: the end of the log was lost"
        )
        found.append(Damage(place.wal, 0, reason))
    return found


# ---- size ----------------------------------------------------------------------------------------


def _size_outside(host: Host, place: _Place) -> int:
    inside = place.wal.startswith(place.member + "/")
    return 0 if inside else _size(host, place.wal, 0)


def _size(host: Host, path: str, depth: int) -> int:
    """Bytes of the regular files below a directory, links to directories not followed."""
    total = 0
    for name in host.listdir(path) if depth < _MAX_DEPTH else []:
        here = f"{path}/{name}"
        try:
            if not host.is_dir(here):
                total += host.stat(here).st_size
            elif not host.is_link(here):
                total += _size(host, here, depth + 1)
        except FileNotFoundError:
            continue  # renamed or purged meanwhile
    return total
