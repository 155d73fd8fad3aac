"""Files that arrive: every byte where it belongs, whatever comes in which pieces and then fails."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import resource
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import Damaged, Refused, RescueError
from coordinator import arriving as module
from coordinator.arriving import BUFFER, Arriving, arriving

EDGES = (0, 1, 511, 4095, 4096, 4097, BUFFER - 1, BUFFER, BUFFER + 1, BUFFER + 4096, 3 * BUFFER)
sizes = st.one_of(st.sampled_from(EDGES), st.integers(0, 11 * BUFFER))


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def feed(file: Arriving, data: bytes, most: int) -> None:
    """As a connection does: as many bytes at once as it has, and never more than there is room."""
    while data and file.left:
        room = file.room()
        count = min(len(room), most, len(data))
        room[:count] = data[:count]
        file.add(count)
        data = data[count:]


def take(part: Path, data: bytes, have: int, most: int = 1 << 20) -> str:
    with arriving(part, len(data), have) as file:
        feed(file, data[have:], most)
        return file.digest()


@settings(max_examples=30, deadline=None)
@given(size=sizes, start=sizes, most=st.sampled_from((4096, 32_000, 65_536, BUFFER)))
def test_it_is_what_came(size: int, start: int, most: int) -> None:
    data, have = noise(size), min(start, size)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:  # a disk's, not memory's
        part = Path(folder) / "part"
        part.write_bytes(data[:have])
        part.chmod(0o644)
        before = os.umask(0)
        try:
            assert take(part, data, have, most) == hashlib.sha256(data).hexdigest()
        finally:
            os.umask(before)
        assert part.read_bytes() == data
        assert stat.S_IMODE(part.stat().st_mode) == 0o600


def test_it_goes_past_the_page_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but what is no whole block, wherever the file system can do that."""
    direct, write = {True: 0, False: 0}, os.pwrite

    def pwrite(fd: int, data: memoryview, at: int) -> int:
        count = write(fd, data, at)
        direct[bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT)] += count
        return count

    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        try:
            os.close(os.open(f"{folder}/x", os.O_CREAT | os.O_WRONLY | os.O_DIRECT, 0o600))
        except OSError:
            pytest.skip("/var/tmp lies on a file system without direct writes")
        monkeypatch.setattr(os, "pwrite", pwrite)
        data, part = noise(3 * BUFFER + 100), Path(folder) / "part"
        part.write_bytes(data[:77])
        take(part, data, 77)
    assert direct == {True: 2 * BUFFER, False: BUFFER - 77 + 100}


def test_a_disk_with_larger_blocks_gets_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the kernel then says is EINVAL, and the page cache takes it."""
    monkeypatch.setattr(module, "_BLOCK", 1)
    data = noise(3 * BUFFER + 100)
    part = tmp_path / "part"
    part.write_bytes(data[:77])
    assert take(part, data, 77) == hashlib.sha256(data).hexdigest()
    assert part.read_bytes() == data


def test_a_file_system_without_direct_writes_gets_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_DIRECT", 0)
    data = noise(3 * BUFFER + 100)
    assert take(tmp_path / "part", data, 0) == hashlib.sha256(data).hexdigest()
    assert (tmp_path / "part").read_bytes() == data


def cut_after(part: Path, data: bytes, came: int) -> None:
    with arriving(part, len(data), 0) as file:
        feed(file, data[:came], 65_536)
        raise KeyboardInterrupt


@pytest.mark.parametrize("came", [0, 1, 5000, BUFFER, BUFFER + 1, 9 * BUFFER + 12_345])
def test_what_came_before_a_cut_is_there(tmp_path: Path, came: int) -> None:
    data, part = noise(10 * BUFFER), tmp_path / "part"
    with pytest.raises(KeyboardInterrupt):
        cut_after(part, data, came)
    assert part.read_bytes() == data[:came]
    assert take(part, data, came) == hashlib.sha256(data).hexdigest()
    assert part.read_bytes() == data


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """The kernel itself refuses what goes beyond, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("limit", [4096, 5000, BUFFER, 3 * BUFFER + 777])
def test_where_no_more_fits_it_is_refused_and_nothing_lies_behind_a_hole(
    tmp_path: Path, limit: int
) -> None:
    data, part = noise(20 * BUFFER), tmp_path / "part"
    with files_up_to(limit), pytest.raises(Refused, match=f"{part}: cannot be written"):
        take(part, data, 0)
    kept = part.read_bytes()
    assert len(kept) <= limit
    assert kept == data[: len(kept)]
    assert take(part, data, len(kept)) == hashlib.sha256(data).hexdigest()


def test_what_a_disk_did_not_take_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(RescueError, match="Input/output error"):
        take(tmp_path / "part", noise(BUFFER), 0)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"precious")
    (tmp_path / "part").symlink_to(other)
    with pytest.raises(OSError, match="symbolic link"):
        take(tmp_path / "part", noise(10), 0)
    assert other.read_bytes() == b"precious"


def test_a_part_that_became_shorter_is_no_part(tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_bytes(noise(100))
    with pytest.raises(Damaged, match="became shorter"):
        take(part, noise(1000), 200)


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    take(tmp_path / "part", noise(BUFFER), 0)
    with pytest.raises(KeyboardInterrupt), arriving(tmp_path / "part", BUFFER, 0):
        raise KeyboardInterrupt
    assert len(os.listdir("/proc/self/fd")) == before
