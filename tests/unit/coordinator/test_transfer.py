"""Transfers to and from a real agent process: whole or not at all, and gone on with after a cut."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import Damaged, Refused, Unreachable, UsageError
from agent.host import STATE_DIR
from coordinator import transfer
from coordinator.agent_file import AgentFile
from coordinator.channel import Messages
from coordinator.connection import Access
from coordinator.hosts import HostSpec
from coordinator.local_set import incoming
from coordinator.streams import ByteStream, ProcessStream
from coordinator.transfer import Piece, Way, fetch, upload

ROOT = Path(__file__).parents[3]
WAY = Way(HostSpec("m0"), AgentFile(Path("/dev/null"), "", 0, ""), Access())
SIZE = 3_000_000


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state directory of a host under a prefix; connections to it start an agent there."""
    root = tmp_path / "host"
    state = root / STATE_DIR.lstrip("/")
    state.mkdir(parents=True, mode=0o700)
    connect_through(monkeypatch, root, [])
    monkeypatch.setattr(transfer, "_WAIT", 0.0)
    return state


def connect_through(monkeypatch: pytest.MonkeyPatch, root: Path, filters: list[str]) -> None:
    """Each connection goes through the next of the filters, the later ones through none."""

    def started(
        way: Way, argv: list[str], stack: contextlib.ExitStack
    ) -> tuple[ByteStream, Messages]:
        agent = [sys.executable, "-m", "agent.entry.cli", "--root", str(root), *argv]
        command = f"cd {ROOT}; {filters.pop(0) if filters else 'AGENT'}"
        stream = ProcessStream(["/bin/sh", "-c", command.replace("AGENT", shlex.join(agent))])
        stack.callback(stream.close)
        return stream, Messages(stream, way.spec.name)

    monkeypatch.setattr(transfer, "_started", started)


def piece(host: Path, here: Path, name: str = "snapshot.db", size: int = SIZE) -> Piece:
    data = os.urandom(size)
    (host / name).write_bytes(data)
    return Piece(f"{STATE_DIR}/{name}", here / name, size, hashlib.sha256(data).hexdigest())


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


def said() -> tuple[list[str], Callable[[str], None]]:
    lines: list[str] = []
    return lines, lines.append


def test_files_come_in_one_go(host: Path, here: Path) -> None:
    pieces = [piece(host, here, "a"), piece(host, here, "b", 0), piece(host, here, "c", 1)]
    lines, say = said()
    before = os.umask(0)
    try:
        fetch(WAY, pieces, say)
    finally:
        os.umask(before)
    for each in pieces:
        assert each.target.read_bytes() == (host / each.target.name).read_bytes()
        assert stat.S_IMODE(each.target.stat().st_mode) == 0o600
    assert sorted(p.name for p in here.iterdir()) == ["a", "b", "c"]
    assert lines == []


@pytest.mark.reliability(
    "Resources",
    "However often a transfer is cut, it goes on where it was, and nothing has its final name "
    "before all of it is there with the right hash.",
)
def test_what_is_cut_is_gone_on_with(
    host: Path, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts = [f"AGENT | head -c {size}" for size in (0, 5, 1_000_000, 1, 900_000)]
    connect_through(monkeypatch, tmp_path / "host", cuts)
    lines, say = said()
    wanted = piece(host, here)
    fetch(WAY, [wanted], say)
    assert wanted.target.read_bytes() == (host / "snapshot.db").read_bytes()
    assert len(lines) == 5
    assert [p.name for p in here.iterdir()] == ["snapshot.db"]


def test_a_host_that_gives_nothing_is_given_up(
    host: Path, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect_through(monkeypatch, tmp_path / "host", ["AGENT | head -c 10"] * 20)
    _lines, say = said()
    wanted = piece(host, here)
    with pytest.raises(Unreachable):
        fetch(WAY, [wanted], say)
    assert not wanted.target.exists()


def test_a_part_of_something_else_is_found_out(host: Path, here: Path) -> None:
    wanted = piece(host, here)
    part = here / ".snapshot.db.part"
    part.write_bytes(b"of another snapshot")
    _lines, say = said()
    with pytest.raises(Damaged, match="the part of an earlier transfer"):
        fetch(WAY, [wanted], say)
    assert list(here.iterdir()) == []
    part.write_bytes(bytes(SIZE + 1))
    fetch(WAY, [wanted], say)
    assert wanted.target.exists()


def test_only_files_of_ours_are_sent(host: Path, here: Path) -> None:
    for source in ("/etc/shadow", f"{STATE_DIR}/../../../etc/shadow"):
        with pytest.raises(Refused, match="is not below"):
            fetch(WAY, [Piece(source, here / "x", 5, "0" * 64)], lambda text: None)
    assert not (here / "x").exists()


def test_a_file_is_sent_once_and_taken_whole(
    host: Path, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = here / "snapshot.db"
    source.write_bytes(os.urandom(SIZE))
    cuts = [f"head -c {size} | AGENT" for size in (0, 1_000_000)]
    connect_through(monkeypatch, tmp_path / "host", cuts)
    lines, say = said()
    there = upload(WAY, source, say)
    target = tmp_path / "host" / there.lstrip("/")
    assert target.read_bytes() == source.read_bytes()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert len(lines) == 2
    assert [p.name for p in target.parent.iterdir()] == ["snapshot.db"]
    changed = target.stat().st_mtime_ns
    assert upload(WAY, source, say) == there
    assert target.stat().st_mtime_ns == changed


def test_a_host_without_room_says_so_once(
    host: Path, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = here / "snapshot.db"
    with source.open("wb") as file:
        file.truncate(1 << 43)
    lines, say = said()
    with pytest.raises(Refused, match="MiB are free"):
        upload(WAY, source, say, "0" * 64)
    assert lines == []


def test_a_set_has_its_name_when_it_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    lines, say = said()
    before = os.umask(0)
    try:
        with incoming(folder, "set", say) as part:
            assert stat.S_IMODE(part.stat().st_mode) == 0o700
            with incoming(folder, "other", say):  # another run does not take this one's away
                (part / "file").write_text("")
    finally:
        os.umask(before)
    assert sorted(p.name for p in folder.iterdir()) == ["other", "set"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with pytest.raises(KeyboardInterrupt), incoming(folder, "third", say):
        raise KeyboardInterrupt
    assert (folder / ".third.part").exists()
    with pytest.raises(Refused, match="exists"), incoming(folder, "set", say):
        pass
    assert not (folder / ".third.part").exists()
    assert "left by an interrupted run" in lines[0]
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError), incoming(tmp_path / "file/x", "set", say):
        pass
