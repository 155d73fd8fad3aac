"""Frames and records of one segment of etcd's write-ahead log.

Format: etcd's server/storage/wal/{encoder,decoder}.go and walpb/record.proto. A frame is a 64-bit
little-endian length (low 56 bits: size of the record; if the top bit is set, bits 56-58: bytes of
padding to a multiple of 8), the record, the padding. A length of 0 ends a segment: preallocated
space follows. A record is protobuf: 1 type, 2 CRC-32C of all data since the last crc record and
that record's own value, 3 data.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple, Optional

from agent.etcd import protobuf
from agent.survey import crc32c
from agent.survey.positioned import PositionedFile

METADATA, ENTRY, STATE, CRC, SNAPSHOT = 1, 2, 3, 4, 5

SECTOR = 512  # minSectorSize: what a disk writes whole or not at all
_FRAME = struct.Struct("<Q")
_SIZE_MASK = (1 << 56) - 1
_WINDOW = 1024 * 1024
_LARGE = 4 * 1024 * 1024
_HEAD = 64
_OLD_MAX = 10 * 1024 * 1024  # maxWALEntrySizeLimit; a bad length, since lengths are never torn
_OLD_LIMIT = "; etcd 3.4 and early 3.5 refuse it: wal: max entry size limit exceeded"
_RECORD_SHAPE = {1: protobuf.VARINT, 2: protobuf.VARINT, 3: protobuf.BYTES}
_ZEROS = bytes(_WINDOW)


class Record(NamedTuple):
    """One record whose checksum fits. data: the first 64 bytes only where it is above 4 MiB."""

    offset: int
    type: int
    crc: int
    data: bytes


class Stop(NamedTuple):
    """Why and where reading of a segment ended.

    cut_short: etcd calls it io.ErrUnexpectedEOF: in the last segment it truncates the file at
    `offset` and goes on, in any other it gives up. An empty reason is a regular end.
    """

    offset: int
    reason: str = ""
    cut_short: bool = False


@dataclass
class _Frame:
    offset: int
    size: int
    padding: int

    @property
    def start(self) -> int:
        return self.offset + 8

    @property
    def end(self) -> int:
        return self.start + self.size + self.padding


class Segment:
    """Reads the records of one segment in order; `stop` says why it ended.

    crc: the running checksum that the segment begins with (0: none yet, the crc record at its head
    sets it); afterwards the one it ends with. last_offset: of the record read last. is_last: only
    there a torn write is told from damage. Holds one window of 1 MiB, and a record up to 4 MiB, in
    memory, whatever the file says.
    """

    def __init__(self, file: PositionedFile, crc: int, is_last: bool) -> None:
        self.file, self.crc, self.is_last = file, crc, is_last
        self.stop = Stop(0)
        self.last_offset = 0
        self._at = 0
        self._window = b""
        self._window_at = 0

    def next(self) -> Optional[Record]:
        """The next record, or None at the end (see `stop`). Raises DamagedAt on a read error."""
        frame = self._frame()
        if frame is None:
            return None
        self.last_offset = frame.offset
        if frame.size > _LARGE:
            return self._next_large(frame)
        raw = self._bytes(frame.start, frame.size)
        try:
            kind, crc, data = parse_record(raw)
        except protobuf.Malformed as error:
            return self._bad(frame, error.reason, error.cut_short)
        if kind != CRC:
            self.crc = crc32c.update(self.crc, data)
            if self.crc != crc:
                return self._bad(frame, _mismatch(crc, self.crc))
        elif self.crc not in (0, crc):
            return self._bad(frame, _mismatch(crc, self.crc), of_chain=True)
        else:
            self.crc = crc
        self._at = frame.end
        return Record(frame.offset, kind, crc, data)

    def ignored_data(self) -> int:
        """Offset of the first byte other than 0 behind a regular end; -1 where there is none.

        etcd overwrites what lies there with zeros at its next start.
        """
        at = self.stop.offset
        while at < self.file.size:
            at = max(at, self.file.next_data(at))
            chunk = self.file.read(at, _WINDOW)
            if chunk != _ZEROS[: len(chunk)]:
                return at + len(chunk) - len(chunk.lstrip(b"\0"))
            if not chunk:
                break
            at += len(chunk)
        return -1

    # ---- frames ----------------------------------------------------------------------------------

    def _frame(self) -> Optional[_Frame]:
        at = self._at
        head = self._bytes(at, 8)
        if len(head) < 8:
            # A few bytes less than a length: binary.Read says unexpected EOF.
            self.stop = Stop(at, protobuf.UNEXPECTED_EOF, True) if head else Stop(at)
            return None
        (length,) = _FRAME.unpack(head)
        if length == 0:
            self.stop = Stop(at)
            return None
        size = length & _SIZE_MASK
        padding = (length >> 56) & 7 if length >> 63 else 0
        frame = _Frame(at, size, padding)
        if frame.end > self.file.size:
            left = self.file.size - at
            reason = f"unexpected EOF: record of {size} bytes in the last {left} bytes of the file"
            reason += _OLD_LIMIT if size >= _OLD_MAX else ""
            self.stop = Stop(at, reason, True)
            return None
        return frame

    def _bytes(self, at: int, length: int) -> bytes:
        start = at - self._window_at
        if start < 0 or start + length > len(self._window):
            self._window = self.file.read(at, max(_WINDOW, length))
            self._window_at, start = at, 0
        return self._window[start : start + length]

    def _bad(
        self, frame: _Frame, reason: str, cut_short: bool = False, of_chain: bool = False
    ) -> Optional[Record]:
        """None, with `stop` set."""
        torn = self.is_last and not of_chain and not cut_short and self._is_torn(frame)
        if torn:
            reason = f"unexpected EOF: {reason}, with a sector of zeros: a torn write"
        self.stop = Stop(frame.offset, reason, cut_short or torn)
        return None

    def _is_torn(self, frame: _Frame) -> bool:
        """decoder.isTornEntry: a sector's share of the frame is all zeros."""
        at = frame.start
        while at < frame.end:
            chunk = self._bytes(at, min(_WINDOW - at % SECTOR, frame.end - at))
            if not chunk:
                return False
            if _has_zero_sector(chunk, at):
                return True
            at += len(chunk)
        return False

    # ---- records too large to hold ---------------------------------------------------------------

    def _next_large(self, frame: _Frame) -> Optional[Record]:
        """A record above 4 MiB, as etcd writes them: its data last, and nothing behind it."""
        head = self._bytes(frame.start, _HEAD)
        parsed = _canonical(head, frame.size)
        if parsed is None or parsed[0] == CRC:
            return self._bad(frame, f"not a record, and {frame.size} bytes long")
        kind, crc, skip = parsed
        at, end = frame.start + skip, frame.start + frame.size
        first = self._bytes(at, _HEAD)
        while at < end:
            chunk = self._bytes(at, min(_WINDOW, end - at))
            if not chunk:
                break
            self.crc = crc32c.update(self.crc, chunk)
            at += len(chunk)
        if self.crc != crc:
            return self._bad(frame, _mismatch(crc, self.crc))
        self._at = frame.end
        return Record(frame.offset, kind, crc, first)


def parse_record(raw: bytes) -> tuple[int, int, bytes]:
    """(type, crc, data) of a record. Raises Malformed."""
    parsed = _canonical(raw, len(raw))
    if parsed is not None:
        kind, crc, skip = parsed
        return kind, crc, raw[skip:]
    found = protobuf.message(raw, _RECORD_SHAPE)
    data = found.get(3, b"")
    crc = protobuf.unsigned(found, 2) & 0xFFFFFFFF
    return protobuf.unsigned(found, 1), crc, data if isinstance(data, bytes) else b""


def _canonical(raw: bytes, size: int) -> Optional[tuple[int, int, int]]:
    """(type, crc, where data begins) if the record is laid out as etcd does it, else None.

    `raw` may be only the head of a record of `size` bytes. Saves the general reader for each of
    some hundred thousand records.
    """
    try:
        if raw[0] != 0x08 or raw[2] != 0x10 or raw[1] > 0x7F:
            return None
        crc, at = protobuf.varint(raw, 3)
        if at == size:
            return raw[1], crc & 0xFFFFFFFF, at
        if raw[at] != 0x1A:
            return None
        length, at = protobuf.varint(raw, at + 1)
    except (IndexError, protobuf.Malformed):
        return None
    return (raw[1], crc & 0xFFFFFFFF, at) if at + length == size else None


def _mismatch(expected: int, computed: int) -> str:
    return f"crc mismatch: expected: {expected:x} computed: {computed:x}"


def _has_zero_sector(chunk: bytes, offset: int) -> bool:
    start = 0
    while start < len(chunk):
        end = min(start + SECTOR - (offset + start) % SECTOR, len(chunk))
        if chunk[start:end] == _ZEROS[: end - start]:
            return True
        start = end
    return False
