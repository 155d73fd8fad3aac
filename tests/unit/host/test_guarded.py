"""What others may have put into our directories, or in their place: nothing is written there."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.archive import extract
from agent.errors import CommandFailed, Damaged, Refused
from agent.host import STATE_DIR, Host
from agent.host.syscalls import open_in_root


def state(tmp_path: Path) -> Path:
    return tmp_path / STATE_DIR[1:]


SWAP = (
    "import ctypes, sys\n"
    "libc = ctypes.CDLL(None)\n"
    "while True: libc.renameat2(-100, sys.argv[1].encode(), -100, sys.argv[2].encode(), 2)\n"
)
WRITES: dict[str, Callable[[Host, str], object]] = {
    "write": lambda host, below: host.write_atomic(f"{below}/lock.json", b"{}"),
    "append": lambda host, below: host.append_synced(f"{below}/x.jsonl", b"{}\n", 0),
    "makedirs": lambda host, below: host.makedirs(f"{below}/more"),
    "copy": lambda host, below: host.copy_file("/etc/source", f"{below}/copy"),
    "rename": lambda host, below: host.rename_new("/etc/source", f"{below}/moved"),
    "move": lambda host, below: host.move_new("/etc/source", f"{below}/moved"),
    "spawn": lambda host, below: host.spawn(["true"], f"{below}/log"),
    "archive": lambda host, below: extract(host, io.BytesIO(bytes(1024)), f"{below}/n", "t.tar"),
}
OURS = {
    "the state directory": STATE_DIR,
    "below it": f"{STATE_DIR}/journal",
    "beside the data": "/var/lib/etcd/.etcd-rescue/quarantine",
}


@pytest.mark.reliability(
    "Hostile input",
    "somebody put a link in the place of a directory of ours, or below it: every way of writing"
    " refuses, and nothing is written where it leads",
)
@pytest.mark.parametrize("below", OURS.values(), ids=OURS)
@pytest.mark.parametrize("write", WRITES)
def test_no_write_goes_through_a_planted_link(tmp_path: Path, below: str, write: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    for directory in (elsewhere, tmp_path / "etc", tmp_path / "var/lib/etcd"):
        directory.mkdir(parents=True)
    (tmp_path / "etc/source").write_text("moved")
    place = tmp_path / below[1:]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(elsewhere)
    with pytest.raises(Refused, match="it is a link"):
        WRITES[write](Host(str(tmp_path)), below)
    assert list(elsewhere.iterdir()) == []
    assert (tmp_path / "etc/source").read_text() == "moved"


@pytest.mark.reliability(
    "Hostile input",
    "the state directory belongs to another user, or others may write into it: nothing is written,"
    " and the error says what to do",
)
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
@pytest.mark.parametrize("write", WRITES)
def test_a_state_directory_that_others_may_change_is_refused(
    tmp_path: Path, write: str, mode: int
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/source").write_text("here")
    state(tmp_path).mkdir(parents=True)
    state(tmp_path).chmod(mode)
    with pytest.raises(Refused, match=f"mode {mode:04o}") as caught:
        WRITES[write](Host(str(tmp_path)), STATE_DIR)
    assert "chmod 700 /var/lib/etcd-rescue" in caught.value.next
    assert list(state(tmp_path).iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_state_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    state(tmp_path).mkdir(parents=True, mode=0o700)
    os.chown(state(tmp_path), 12345, 12345)
    with pytest.raises(Refused, match="belongs to uid 12345"):
        Host(str(tmp_path)).write_atomic(f"{STATE_DIR}/lock.json", b"{}")


@pytest.mark.parametrize("way", ["var", "var/lib"])
def test_the_way_to_the_state_directory_may_lead_over_links(tmp_path: Path, way: str) -> None:
    """Absolute ones too: below a prefix they lead inside it."""
    (tmp_path / "big/lib").mkdir(parents=True)
    (tmp_path / way).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / way).symlink_to("/big" if way == "var" else "/big/lib")
    host = Host(str(tmp_path))
    host.makedirs(f"{STATE_DIR}/journal")
    host.write_atomic(f"{STATE_DIR}/journal/x", b"1")
    assert (tmp_path / "big/lib/etcd-rescue/journal/x").read_bytes() == b"1"


def test_a_data_directory_may_be_a_link_and_ours_lies_in_it(tmp_path: Path) -> None:
    (tmp_path / "disk/member").mkdir(parents=True)
    (tmp_path / "var/lib").mkdir(parents=True)
    (tmp_path / "var/lib/etcd").symlink_to("/disk")
    host = Host(str(tmp_path))
    host.makedirs("/var/lib/etcd/.etcd-rescue/quarantine")
    host.rename_new("/var/lib/etcd/member", "/var/lib/etcd/.etcd-rescue/quarantine/member")
    assert (tmp_path / "disk/.etcd-rescue/quarantine/member").is_dir()


@pytest.mark.reliability(
    "Hostile input",
    "while files are written, another process keeps swapping our directory for a link: nothing is"
    " ever written where the link leads",
)
def test_a_directory_swapped_for_a_link_meanwhile(
    tmp_path: Path, figure: Callable[[str, int], None]
) -> None:
    """The data directory's owner may rename what is in it: .etcd-rescue beside the data too."""
    data, elsewhere = tmp_path / "var/lib/etcd", tmp_path / "elsewhere"
    for directory in (data / ".etcd-rescue/work", elsewhere / "work"):
        directory.mkdir(parents=True)
    (data / "link").symlink_to(elsewhere)
    ours, link = str(data / ".etcd-rescue"), str(data / "link")
    swapper = subprocess.Popen([sys.executable, "-c", SWAP, ours, link])
    host, refused, written = Host(str(tmp_path)), 0, 0
    try:
        while refused < 200 or written < 200:
            try:
                host.write_atomic(f"/var/lib/etcd/.etcd-rescue/work/f{written}", b"1")
                written += 1
            except Refused:
                refused += 1
    finally:
        swapper.kill()
        swapper.wait()
    assert list((elsewhere / "work").iterdir()) == []
    figure("writes raced against a planted link", written + refused)


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "directory"])
def test_what_is_no_file_is_not_read(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "x"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "device":
        place.symlink_to("/dev/zero")
    elif kind == "directory":
        place.mkdir()
    else:
        socket.socket(socket.AF_UNIX).bind(str(place))
    with pytest.raises((Damaged, OSError)):
        Host("/").read_bytes(str(place))


@pytest.mark.reliability(
    "Hostile input",
    "below a prefix such as /host, a directory on the way is swapped for a link that leads out,"
    " while files are read: what is read is always the host's own",
)
def test_a_link_out_of_the_prefix_swapped_in_meanwhile(
    tmp_path: Path, figure: Callable[[str, int], None]
) -> None:
    top = os.open(tmp_path, os.O_RDONLY)
    try:
        os.close(open_in_root(top, "/", os.O_RDONLY))
    except OSError:
        pytest.skip("this kernel has no openat2, or a filter forbids it")
    finally:
        os.close(top)
    root, outside = tmp_path / "host", tmp_path / "outside"
    for directory, text in ((root / "data", "inside"), (outside, "OUTSIDE")):
        directory.mkdir(parents=True)
        (directory / "file").write_text(text)
    (root / "link").symlink_to(outside)  # below the prefix there is nothing of that name
    swapper = subprocess.Popen([sys.executable, "-c", SWAP, f"{root}/data", f"{root}/link"])
    host, read, missed = Host(str(root)), 0, 0
    try:
        while read < 300 or missed < 300:
            try:
                assert host.read_text("/data/file") == "inside"
                read += 1
            except FileNotFoundError:
                missed += 1
    finally:
        swapper.kill()
        swapper.wait()
    figure("reads raced against a planted link", read + missed)


def test_a_large_file_is_refused_without_reading_it(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    tracemalloc.start()
    try:
        with pytest.raises(Damaged, match="larger than 67108864 bytes"):
            Host(str(tmp_path)).read_bytes("/journal", 64 * 1024 * 1024)
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()


# ---- what commands of the host say ---------------------------------------------------------------


@pytest.mark.reliability(
    "Hostile input",
    "a command of the host says without end, on stdout or stderr, or never ends: it is killed, with"
    " a clear error, in bounded memory",
)
@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("yes", "said more than 8 MiB"),
        ("yes >&2", "said more than 8 MiB"),
        ("tr '\\0' x </dev/zero", "said more than 8 MiB"),
        ("sleep 60", "did not end within"),
        ("sleep 60 & exec sleep 60", "did not end within"),
        ("exec >&- 2>&-; sleep 60", "did not end within"),
    ],
)
def test_a_command_that_does_not_end_well(script: str, told: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CommandFailed, match=told):
            Host("/").run(["sh", "-c", script], timeout=2 if "end" in told else 60)
        assert tracemalloc.get_traced_memory()[1] < 32 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_input_and_output_of_a_command_do_not_wait_for_each_other() -> None:
    data = os.urandom(3_000_000)
    done = Host("/").run(["sh", "-c", "od -An -tx1 -v | head -c 5000000"], input=data, timeout=60)
    assert len(done.stdout) == 5_000_000
    assert Host("/").run(["true"], input=data).stdout == ""
    assert Host("/").run(["cat"], input=b"").stdout == ""
    assert Host("/").run(["cat"]).stdout == ""


def test_an_argument_with_a_nul_byte_is_no_crash() -> None:
    with pytest.raises(CommandFailed, match="null byte"):
        Host("/").run(["true", "a\0b"])
