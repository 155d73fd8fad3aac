from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from agent.errors import Damaged, Locked
from agent.host import Host
from agent.locks import (
    LOCK_FILE,
    check_lock,
    only_agent,
    read_lock,
    release_lock,
    require_free,
    take_lock,
)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(str(tmp_path))


def test_nobody_holds_a_new_host(host: Host, tmp_path: Path) -> None:
    assert read_lock(host) is None
    require_free(host, "p1", 1)
    assert list(tmp_path.iterdir()) == []  # looking changes nothing


def test_a_lock_taken_is_read_back(host: Host) -> None:
    taken = take_lock(host, "p1", "ops@desk", 3)
    assert read_lock(host) == taken
    check_lock(host, "p1", 3)


@pytest.mark.parametrize("token", [1, 2, 3])
def test_a_token_that_does_not_grow_is_refused(host: Host, token: int) -> None:
    take_lock(host, "p1", "first", 3)
    with pytest.raises(Locked, match="first holds token 3; this order carries"):
        take_lock(host, "p1", "second", token)
    assert read_lock(host) is not None


def test_another_plan_is_refused_and_told_what_to_do(host: Host) -> None:
    take_lock(host, "p1", "first", 3)
    for refused in (partial(take_lock, host, "p2", "x", 9), partial(require_free, host, "p2", 9)):
        with pytest.raises(Locked) as caught:
            refused()
        assert "plan p1 of first holds this host" in caught.value.seen
        assert caught.value.next.startswith("fab resume p1")
    check_lock(host, "p1", 3)


def test_the_same_plan_takes_over_and_the_old_coordinator_is_refused(host: Host) -> None:
    take_lock(host, "p1", "first", 3)
    take_lock(host, "p1", "second", 4)
    check_lock(host, "p1", 4)
    with pytest.raises(Locked, match="second holds token 4; this order carries 3"):
        check_lock(host, "p1", 3)
    with pytest.raises(Locked):
        check_lock(host, "p1", 5)


def test_release_keeps_the_token(host: Host) -> None:
    take_lock(host, "p1", "first", 3)
    release_lock(host, "p2")  # not the holder: nothing happens
    check_lock(host, "p1", 3)
    release_lock(host, "p1")
    with pytest.raises(Locked, match="does not hold the lock"):
        check_lock(host, "p1", 3)
    with pytest.raises(Locked, match="a later run holds token 3"):
        take_lock(host, "p2", "late", 3)
    take_lock(host, "p2", "next", 4)
    check_lock(host, "p2", 4)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"[" * 100_000, b"\xff", b'{"plan": 1}', b'{"x": 1}']
)
def test_a_lock_that_cannot_be_read_is_no_free_lock(
    host: Host, tmp_path: Path, content: bytes
) -> None:
    take_lock(host, "p1", "first", 1)
    (tmp_path / LOCK_FILE[1:]).write_bytes(content)
    for look in (partial(read_lock, host), partial(take_lock, host, "p2", "x", 9)):
        with pytest.raises(Damaged) as caught:
            look()
        assert LOCK_FILE in caught.value.seen
        assert caught.value.next


# ---- one agent per host --------------------------------------------------------------------------

HOLDING = """
import sys, time
from agent.host import Host
from agent.locks import only_agent
with only_agent(Host(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_agent_is_refused_until_the_first_is_dead(host: Host, tmp_path: Path) -> None:
    first = subprocess.Popen([sys.executable, "-c", HOLDING, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        with (
            pytest.raises(Locked, match=f"another agent .pid {first.pid}. is at work"),
            only_agent(host),
        ):
            pass
        first.kill()
        first.wait()
        with only_agent(host):
            pass  # a dead agent holds nothing
    finally:
        first.kill()
        first.wait()
        first.stdout.close() if first.stdout else None


def test_the_lock_is_free_again_after_an_error(host: Host) -> None:
    with pytest.raises(ZeroDivisionError), only_agent(host):
        raise ZeroDivisionError
    with only_agent(host):
        pass
