"""What etcd's write-ahead log says with no etcd running: identity, hard state, last entry."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple, Optional

from agent.etcd import protobuf
from agent.host import Host
from agent.model.facts import Damage, WalFacts
from agent.survey import wal_record
from agent.survey.positioned import DamagedAt, PositionedFile
from agent.survey.wal_record import Record, Segment

_NAME = re.compile(r"([0-9a-f]{1,16})-([0-9a-f]{1,16})\.wal\Z")
_ATTEMPTS = 4
_MAX_SNAPSHOTS = 512
_ENTRY_SHAPE = {1: 0, 2: 0, 3: 0, 4: protobuf.BYTES}
_PAIR_SHAPE = {1: 0, 2: 0}
_STATE_SHAPE = {1: 0, 2: 0, 3: 0}


class SegmentName(NamedTuple):
    """A segment file `%016x-%016x.wal`: its number, and the first entry that it may hold."""

    name: str
    seq: int
    first: int


@dataclass
class Position:
    """A place in the raft log."""

    term: int
    index: int


def segment_names(host: Host, wal_dir: str) -> list[SegmentName]:
    """The segments in a directory, oldest first.

    As etcd does, everything else is passed over: `0.tmp` (preallocated for the next segment) and
    `*.wal.broken` (a copy that a repair left).
    """
    found = []
    for name in host.listdir(wal_dir):
        match = _NAME.match(name)
        if match:
            found.append(SegmentName(name, int(match[1], 16), int(match[2], 16)))
    return found


@dataclass
class WalReading:
    """A log as read: the facts, and the snapshot records that etcd may start from, oldest first.

    snapshots: those at or below the commit index (wal.ValidSnapshotEntries), the last 512.
    first: the lowest entry that the oldest segment read may hold.
    """

    facts: WalFacts
    snapshots: tuple[Position, ...]
    first: int


def read_wal(host: Host, wal_dir: str, from_index: int = 0) -> Optional[WalFacts]:
    """The facts of `read_log`."""
    reading = read_log(host, wal_dir, from_index)
    return reading.facts if reading else None


def read_log(host: Host, wal_dir: str, from_index: int = 0) -> Optional[WalReading]:
    """Read the log as etcd would at its start, changing nothing; None where there is no segment.

    Verified, in every segment from the last one whose name's index is <= `from_index` (0: from
    the oldest one kept): the frames, each record's CRC-32C, the chain of the checksums across
    segments, the sequence of the segments, that all metadata records are equal, that entries after
    the newest usable snapshot have no gap, and that the commit index is not beyond the last entry.

    torn_tail: what etcd repairs at its start by truncating the last segment (io.ErrUnexpectedEOF,
    wal.Repair) or by zeroing what follows a zero length; the values before it stand. damage: what
    etcd stops at, in its words; the values before it stand too. Sources: server/storage/wal/{wal,
    decoder,repair,util}.go, etcdserver/bootstrap.go, raft.go (loadState).

    A log that an etcd writes to at the same moment is read again a few times where it looks torn.
    """
    reading: Optional[WalReading] = None
    for _ in range(_ATTEMPTS):
        before = _stamps(host, wal_dir)
        try:
            reading = _read_once(host, wal_dir, from_index)
        except FileNotFoundError:
            continue  # purged between listing and opening
        if reading is None or _is_calm(reading.facts) or _stamps(host, wal_dir) == before:
            break
    return reading


def _is_calm(facts: WalFacts) -> bool:
    return facts.damage is None and facts.torn_tail is None


def _stamps(host: Host, wal_dir: str) -> list[tuple[str, int, int]]:
    stamps = []
    for segment in segment_names(host, wal_dir):
        try:
            info = host.stat(f"{wal_dir}/{segment.name}")
        except FileNotFoundError:
            continue
        stamps.append((segment.name, info.st_size, info.st_mtime_ns))
    return stamps


def _read_once(host: Host, wal_dir: str, from_index: int) -> Optional[WalReading]:
    names = segment_names(host, wal_dir)
    if not names:
        return None
    names = names[_first_needed(names, from_index) :]
    log = _Log()
    crc = 0
    previous: Optional[SegmentName] = None
    for segment in names:
        path = f"{wal_dir}/{segment.name}"
        if previous is not None and segment.seq != previous.seq + 1:
            log.damage = Damage(path, 0, _missing(previous, segment))
            break
        try:
            crc = _read_segment(host, path, crc, log, is_last=segment is names[-1])
        except DamagedAt as error:
            log.damage = error.damage
        if log.damage is not None:
            break
        previous = segment
    return WalReading(log.facts(len(names)), tuple(log.usable()), names[0].first)


def _first_needed(names: list[SegmentName], index: int) -> int:
    if index == 0:
        return 0
    fitting = [at for at, segment in enumerate(names) if segment.first <= index]
    return fitting[-1] if fitting else 0


def _missing(before: SegmentName, after: SegmentName) -> str:
    return (
        "wal: file sequence numbers do not increase continuously: "
        f"{before.name} is followed by {after.name}"
    )


def _read_segment(host: Host, path: str, crc: int, log: _Log, is_last: bool) -> int:
    """Add a segment to `log`; the running checksum at its end. Raises DamagedAt."""
    with PositionedFile(host, path) as file:
        segment = Segment(file, crc, is_last)
        try:
            record = segment.next()
            while record is not None:
                log.add(record, path)
                record = segment.next()
        except protobuf.Malformed as error:
            raise DamagedAt(path, segment.last_offset, f"record: {error.reason}") from None
        stop = segment.stop
        log.end = (path, stop.offset)
        if not stop.reason and is_last:
            ignored = segment.ignored_data()
            if ignored >= 0:
                reason = f"a length of 0, and data again at {ignored}: a torn write"
                log.torn_tail = Damage(path, stop.offset, reason)
        elif stop.cut_short and is_last:
            log.torn_tail = Damage(path, stop.offset, stop.reason)
        elif stop.reason:
            raise DamagedAt(path, stop.offset, stop.reason)
        return segment.crc


@dataclass
class _Log:
    """What the records read so far add up to."""

    metadata: Optional[bytes] = None
    member_id: int = 0
    cluster_id: int = 0
    term: int = 0
    commit: int = 0
    last: Position = field(default_factory=lambda: Position(0, 0))
    snapshots: deque[Position] = field(default_factory=lambda: deque(maxlen=_MAX_SNAPSHOTS))
    records: int = 0
    end: tuple[str, int] = ("", 0)
    gap: Optional[tuple[Position, Damage]] = None
    torn_tail: Optional[Damage] = None
    damage: Optional[Damage] = None

    def add(self, record: Record, path: str) -> None:
        """Take in a record. Raises DamagedAt or Malformed where etcd would stop."""
        kind = record.type
        if kind == wal_record.ENTRY:
            self._add_entry(record, path)
        elif kind == wal_record.STATE:
            state = protobuf.message(record.data, _STATE_SHAPE)
            self.term, self.commit = protobuf.unsigned(state, 1), protobuf.unsigned(state, 3)
        elif kind == wal_record.METADATA:
            self._add_metadata(record, path)
        elif kind == wal_record.SNAPSHOT:
            self._add_snapshot(record)
        elif kind != wal_record.CRC:
            raise DamagedAt(path, record.offset, f"unexpected block type {kind}")
        self.records += 1

    def _add_entry(self, record: Record, path: str) -> None:
        entry = _entry_position(record.data)
        if entry.index > self.last.index + 1:
            reason = f"entry {entry.index} follows entry {self.last.index}: entries are missing"
            self.gap = (entry, Damage(path, record.offset, reason))
        # An entry for an earlier index takes the place of that one and of all behind it.
        self.last = entry

    def _add_metadata(self, record: Record, path: str) -> None:
        if self.metadata is not None and self.metadata != record.data:
            raise DamagedAt(path, record.offset, "wal: conflicting metadata found")
        self.metadata = record.data
        found = protobuf.message(record.data, _PAIR_SHAPE)
        self.member_id, self.cluster_id = protobuf.unsigned(found, 1), protobuf.unsigned(found, 2)

    def _add_snapshot(self, record: Record) -> None:
        found = protobuf.message(record.data, _PAIR_SHAPE)
        snapshot = Position(protobuf.unsigned(found, 2), protobuf.unsigned(found, 1))
        self.snapshots.append(snapshot)
        if snapshot.index > self.last.index:
            # Received from a leader: the log begins anew behind it.
            self.last = snapshot

    def usable(self) -> list[Position]:
        """The snapshots that are committed."""
        return [s for s in self.snapshots if s.index <= self.commit]

    def facts(self, segments: int) -> WalFacts:
        """The facts, with what only the whole log can show added to damage."""
        start = max(self.usable(), key=lambda s: (s.index, s.term), default=Position(0, 0))
        damage = self.damage or self._whole(start)
        return WalFacts(
            member_id=f"{self.member_id:016x}" if self.metadata else "",
            cluster_id=f"{self.cluster_id:016x}" if self.metadata else "",
            term=self.term,
            commit=self.commit,
            last_term=self.last.term,
            last_index=self.last.index,
            snapshot_term=start.term,
            snapshot_index=start.index,
            segments=segments,
            records=self.records,
            torn_tail=self.torn_tail,
            damage=damage,
        )

    def _whole(self, start: Position) -> Optional[Damage]:
        path, offset = self.end
        if not self.metadata:
            return Damage(path, offset, "no metadata record: the log names no member")
        if any(s.index == start.index and s.term != start.term for s in self.snapshots):
            return Damage(path, offset, f"wal: snapshot mismatch at index {start.index}")
        if self.gap is not None and self.gap[0].index > start.index + 1:
            return self.gap[1]
        if self.commit > self.last.index:
            reason = (
                f"state.commit {self.commit} is out of range [{start.index}, {self.last.index}]"
            )
            return Damage(path, offset, reason)
        return None


def _entry_position(data: bytes) -> Position:
    """Term and index of a raftpb.Entry: 1 type, 2 term, 3 index, 4 data. Raises Malformed."""
    if len(data) > 5 and data[0] == 0x08 and data[2] == 0x10 and data[1] < 0x80:
        term, at = protobuf.varint(data, 3)
        if at < len(data) and data[at] == 0x18:
            return Position(term, protobuf.varint(data, at + 1)[0])
    found = protobuf.message(data, _ENTRY_SHAPE)
    return Position(protobuf.unsigned(found, 2), protobuf.unsigned(found, 3))
