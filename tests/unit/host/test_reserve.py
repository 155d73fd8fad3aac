"""On real file systems that are full: a small tmpfs each, and what can still be written there."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agent.entry.verbs import VERBS
from agent.errors import Refused
from agent.host import STATE_DIR, Host
from agent.host.reserve import FILES, JOURNAL_ROOM, reserve_dir, stock
from agent.model.plan import plan_to_plain
from agent.records.journal import Journal
from agent.records.locks import only_agent, release_lock, take_lock
from tests.unit.rooted import plan_of

PLAN = plan_of(("park_definition", {}), ("copy_data", {}))
MakeFull = Callable[..., None]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a small tmpfs where our directory lies; gives its place."""
    place = tmp_path / STATE_DIR[1:]
    place.mkdir(parents=True)
    mounted = []

    def mount(options: str) -> Path:
        argv = ["mount", "-t", "tmpfs", "-o", f"mode=700,{options}", "tmpfs", str(place)]
        if os.geteuid() != 0 or subprocess.run(argv, check=False, capture_output=True).returncode:
            pytest.skip("needs to mount a tmpfs")
        mounted.append(place)
        return place

    yield mount
    for each in mounted:
        subprocess.run(["umount", "--lazy", str(each)], check=True)  # a run keeps its mark open


def fill(place: Path) -> None:
    """Take every block and every inode that is left."""
    with suppress(OSError), (place / "ballast").open("wb", buffering=0) as file:
        for size in (65536, 4096):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)
    with suppress(OSError):
        for number in range(min(os.statvfs(place).f_ffree, 1000)):
            (place / f"empty-{number}").touch()


def is_full(place: Path) -> bool:
    info = os.statvfs(place)
    return info.f_bfree == 0 or info.f_ffree == 0


@pytest.mark.reliability(
    "Resources",
    "the journal has its room before a step begins: on a disk that fills up meanwhile it goes on",
)
@pytest.mark.parametrize("options", ["size=4m", "size=4m,nr_inodes=60"])
def test_a_begun_plan_is_journaled_to_its_end_on_a_full_disk(
    tmp_path: Path, small: Callable[[str], Path], options: str
) -> None:
    place, host = small(options), Host(str(tmp_path))
    args = {"plan": plan_to_plain(PLAN), "holder": "me", "token": 1, "run": "r"}
    VERBS["begin"](host, args, print)
    fill(place)
    assert is_full(place)
    journal = Journal.open(host, PLAN.id)
    written = 0
    while written < JOURNAL_ROOM * 3 // 4:
        journal.append("intent", "01", {"path": "x" * 1000})
        written += 1000
    journal.append("undone", "01")
    assert len(Journal.open(host, PLAN.id).records) == len(journal.records)
    VERBS["begin"](host, {**args, "token": 2, "run": "s"}, print)  # as rollback does
    VERBS["end"](host, {"plan": PLAN.id, "token": 2, "kind": "rolled-back"}, print)
    assert Journal.open(host, PLAN.id).state == "rolled-back"


@pytest.mark.reliability(
    "Resources", "without room for its journal a plan does not begin, and is told where to look"
)
@pytest.mark.parametrize("options", ["size=300k", "size=4m,nr_inodes=8", "size=4m,ro"])
def test_no_plan_begins_where_it_could_not_be_journaled(
    tmp_path: Path, small: Callable[[str], Path], options: str
) -> None:
    small(options)
    host = Host(str(tmp_path))
    with pytest.raises(Refused, match="cannot be written to") as caught:
        VERBS["begin"](host, {"plan": plan_to_plain(PLAN), "holder": "me", "token": 1}, print)
    assert f"df -i {STATE_DIR}" in caught.value.next
    assert not host.listdir(f"{STATE_DIR}/journal")


def test_the_stock_is_used_file_by_file_and_filled_up_again(
    tmp_path: Path, small: Callable[[str], Path]
) -> None:
    place, host = small("size=3m"), Host(str(tmp_path))
    stock(host, STATE_DIR)
    fill(place)
    spare = reserve_dir(STATE_DIR)
    for number in range(FILES):
        host.write_atomic(f"{STATE_DIR}/note-{number}", b"n" * 5000)
        assert len(host.listdir(spare)) == FILES - number - 1
        assert host.read_bytes(f"{STATE_DIR}/note-{number}") == b"n" * 5000
        info = (place / f"note-{number}").stat()
        assert (stat.S_IMODE(info.st_mode), info.st_size) == (0o600, 5000)
        fill(place)
    with pytest.raises(OSError, match="No space left") as caught:
        host.write_atomic(f"{STATE_DIR}/one-more", b"n")
    assert caught.value.errno == errno.ENOSPC
    assert not list(place.glob(".*"))
    (place / "ballast").unlink()
    stock(host, STATE_DIR)
    assert len(host.listdir(spare)) == FILES


def test_what_is_too_large_for_the_stock_leaves_nothing(
    tmp_path: Path, small: Callable[[str], Path]
) -> None:
    place, host = small("size=3m"), Host(str(tmp_path))
    stock(host, STATE_DIR)
    fill(place)
    with pytest.raises(OSError, match="No space left"):
        host.write_atomic(f"{STATE_DIR}/large", b"n" * 1_000_000)
    assert not (place / "large").exists()
    assert not list(place.glob(".*"))


def test_locks_need_no_block_of_a_full_disk(tmp_path: Path, small: Callable[[str], Path]) -> None:
    place, host = small("size=3m"), Host(str(tmp_path))
    stock(host, STATE_DIR)
    fill(place)
    for token in range(1, 6):
        with suppress(FileNotFoundError), only_agent(host):
            take_lock(host, PLAN.id, "me", token)
    release_lock(host, PLAN.id)
