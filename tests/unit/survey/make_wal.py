"""Makes write-ahead logs byte by byte, as etcd's encoder lays them out."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

from agent.survey import crc32c
from agent.survey.wal_record import CRC, ENTRY, METADATA, SNAPSHOT, STATE

MEMBER, CLUSTER = 0x1234567890ABCDEF, 0xFEDCBA0987654321


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def numbers(*values: int) -> bytes:
    """A message whose fields 1, 2, 3… are these integers."""
    return b"".join(varint(at << 3) + varint(value) for at, value in enumerate(values, 1))


def text(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def frame(record: bytes) -> bytes:
    padding = -len(record) % 8
    length = len(record) | ((0x80 | padding) << 56 if padding else 0)
    return struct.pack("<Q", length) + record + bytes(padding)


@dataclass
class WalMaker:
    """Builds segments in memory; `offsets` are those of the records of the current segment."""

    crc: int = 0
    segments: list[tuple[str, bytearray]] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    state: bytes = b""

    def __post_init__(self) -> None:
        self.cut(0, 0)
        self.snapshot(0, 0)

    @property
    def data(self) -> bytearray:
        return self.segments[-1][1]

    def record(self, kind: int, data: bytes) -> None:
        if kind != CRC:
            self.crc = crc32c.update(self.crc, data)
        self.offsets.append(len(self.data))
        body = numbers(kind, self.crc) + (text(3, data) if data else b"")
        self.data.extend(frame(body))

    def cut(self, seq: int, index: int) -> None:
        """Begin a segment: its crc record, the metadata, the hard state."""
        self.segments.append((f"{seq:016x}-{index:016x}.wal", bytearray()))
        self.offsets = []
        self.record(CRC, b"")
        self.record(METADATA, numbers(MEMBER, CLUSTER))
        if self.state:
            self.record(STATE, self.state)

    def entry(self, term: int, index: int, data: bytes = b"payload") -> None:
        self.record(ENTRY, numbers(0, term, index) + text(4, data))

    def hard_state(self, term: int, commit: int, vote: int = MEMBER) -> None:
        self.state = numbers(term, vote, commit)
        self.record(STATE, self.state)

    def snapshot(self, term: int, index: int) -> None:
        self.record(SNAPSHOT, numbers(index, term))

    def write(self, directory: Path, spare: int = 4096) -> list[Path]:
        """The segments as files, the last one with preallocated space behind it."""
        directory.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, data in self.segments:
            last = name == self.segments[-1][0]
            (directory / name).write_bytes(bytes(data) + (bytes(spare) if last else b""))
            paths.append(directory / name)
        return paths


def small_log(entries: int = 10, per_segment: int = 1000, size: int = 100) -> WalMaker:
    """`entries` committed entries of term 2, a new segment after every `per_segment`."""
    wal = WalMaker()
    wal.hard_state(2, 0)
    for index in range(1, entries + 1):
        if index > 1 and (index - 1) % per_segment == 0:
            wal.cut(len(wal.segments), index)
        wal.entry(2, index, bytes([index % 255 + 1]) * size)
    wal.hard_state(2, entries)
    return wal
