"""Streams of real processes, here and over a real sshd: all that they say, and its end."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from coordinator.connection import Access
from coordinator.hosts import HostSpec
from coordinator.streams import BulkStream, ProcessStream
from coordinator.transports.ssh import SshLine
from tests.unit.coordinator.conftest import Sshd

WAYS = ("process", "ssh")
SIZE = 5_000_011
Start = Callable[[str, str], BulkStream]
SAYS = f"yes abcdefg | head -c {SIZE}; yes noise | head -c 400000 >&2; echo last >&2"
SAID = (b"abcdefg\n" * (SIZE // 8 + 1))[:SIZE]


@pytest.fixture
def start(sshd: Sshd) -> Iterator[Start]:
    """Starts a command line on one way or the other."""
    lines: list[SshLine] = []

    def started(way: str, command: str) -> BulkStream:
        if way == "process":
            return ProcessStream(["/bin/sh", "-c", command])
        lines.append(SshLine(HostSpec("m1"), Access(config=str(sshd.config))))
        return lines[-1].run(command)

    yield started
    for line in lines:
        line.close()


@pytest.mark.parametrize("way", WAYS)
def test_all_of_it_comes_into_the_room_there_is(start: Start, way: str) -> None:
    got, room = bytearray(), memoryview(bytearray(100_003))
    with closing(start(way, SAYS)) as stream:
        while count := stream.read_into(room, 20):
            got += room[:count]
        assert stream.read_into(room, 20) == 0
        assert stream.errors().endswith("last\n")
    assert hashlib.sha256(got).digest() == hashlib.sha256(SAID).digest()


@pytest.mark.parametrize("way", WAYS)
def test_both_ways_of_reading_take_turns(start: Start, way: str) -> None:
    got, room = bytearray(), memoryview(bytearray(7))
    with closing(start(way, SAYS)) as stream:
        while len(got) < 50_000:
            got += stream.read(20)
            got += room[: stream.read_into(room, 20)]
        while data := stream.read(20):
            got += data
    assert bytes(got) == SAID


@pytest.mark.parametrize("way", WAYS)
def test_silence_has_an_end(start: Start, way: str) -> None:
    """What is said on stderr is no answer."""
    room = memoryview(bytearray(100))
    with closing(start(way, "echo one; while echo x >&2; do sleep 0.05; done")) as stream:
        assert bytes(room[: stream.read_into(room, 20)]) == b"one\n"
        with pytest.raises(TimeoutError):
            stream.read_into(room, 0.3)
