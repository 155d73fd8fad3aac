from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent.entry.verbs import VERBS
from agent.errors import Damaged, Locked
from agent.host import STATE_DIR, Host
from agent.model.plan import Plan, plan_to_plain
from agent.records.locks import (
    LOCK_FILE,
    check_lock,
    only_agent,
    read_lock,
    release_lock,
    require_free,
    take_lock,
)
from tests.unit.rooted import plan_of


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


# ---- whose lock it is, and whether he lives ------------------------------------------------------

PLAN = plan_of(("lift_fence", {}))
OTHER = plan_of(("lift_fence", {}), created=2.0)
HOLD_MARK = """
import sys, time
from agent.host import Host
from agent.records.locks import mark_at_work
mark_at_work(Host(sys.argv[1]), int(sys.argv[2]))
print("held", flush=True)
time.sleep(60)
"""


def begin(host: Host, plan: Plan, token: int, run: str = "") -> dict[str, Any]:
    args = {"plan": plan_to_plain(plan), "holder": "ops@desk pid 7", "token": token, "run": run}
    answer: dict[str, Any] = VERBS["begin"](host, args, print)
    return answer


def order(plan: Plan, token: int, **more: str) -> dict[str, Any]:
    return {"plan": plan.id, "token": token, **more}


@contextmanager
def at_work(host: Host, token: int) -> Iterator[subprocess.Popen[bytes]]:
    argv = [sys.executable, "-c", HOLD_MARK, host.root, str(token)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            yield process
        finally:
            process.kill()


@pytest.mark.reliability(
    "Locks", "a run is at work as long as its agent lives: killed without warning, it has ended"
)
def test_a_run_is_at_work_until_its_agent_is_dead(host: Host) -> None:
    take_lock(host, "p1", "ops@desk", 3)
    with at_work(host, 3) as agent:
        lock = read_lock(host)
        assert lock is not None
        assert lock.alive
        with pytest.raises(Locked, match=r"p1 of ops@desk holds .* that run is at work there now"):
            require_free(host, "p2", 9)
        agent.kill()
        agent.wait()
        with pytest.raises(Locked, match="that run has ended, and the plan is not finished"):
            require_free(host, "p2", 9)
    with at_work(host, 3):
        take_lock(host, "p1", "heir", 4)
        lock = read_lock(host)
        assert lock is not None
        assert not lock.alive  # the one who lives is the one whose lock was taken over


def test_marks_of_runs_that_ended_are_swept_away(host: Host, tmp_path: Path) -> None:
    for token in (1, 2):
        with at_work(host, token):
            pass
    with at_work(host, 3), at_work(host, 4):
        assert {p.name for p in (tmp_path / STATE_DIR[1:] / "runs").iterdir()} == {"3", "4"}


@pytest.mark.reliability(
    "Locks",
    "a crash between closing a plan and giving its lock back leaves a lock that holds nothing",
)
@pytest.mark.parametrize("kind", ["complete", "rolled-back"])
def test_a_lock_of_a_closed_plan_holds_nothing(host: Host, tmp_path: Path, kind: str) -> None:
    begin(host, PLAN, 1)
    with pytest.raises(Locked):
        begin(host, OTHER, 2)
    kept = (tmp_path / LOCK_FILE[1:]).read_bytes()
    VERBS["end"](host, order(PLAN, 1, kind=kind), print)
    (tmp_path / LOCK_FILE[1:]).write_bytes(kept)  # as a power cut right before leaves it
    lock = read_lock(host)
    assert lock is not None
    assert (lock.plan, lock.token) == ("", 1)
    assert begin(host, OTHER, 2)["state"] == "open"
    assert VERBS["end"](host, order(PLAN, 1, kind=kind), print) is None
    check_lock(host, OTHER.id, 2)


@pytest.mark.reliability(
    "Locks",
    "an answer that is lost with the line is asked for again: begin and end can be repeated",
)
def test_begin_and_end_are_safe_to_repeat(host: Host) -> None:
    first = begin(host, PLAN, 4, "run-a")
    again = begin(host, PLAN, 4, "run-a")
    assert (first["new"], again["new"]) == (True, False)
    with pytest.raises(Locked, match="holds token 4; this order carries 4"):
        begin(host, PLAN, 4, "run-b")  # the same token of another run is no repetition
    for _ in range(2):
        VERBS["end"](host, order(PLAN, 4, kind="complete"), print)
    assert begin(host, PLAN, 5, "run-b")["state"] == "complete"
    with pytest.raises(Locked, match="does not hold the lock"):
        VERBS["step"](host, order(PLAN, 5, step="01"), print)


def test_a_plan_that_was_rolled_back_is_opened_again_with_a_lock_that_holds(host: Host) -> None:
    begin(host, PLAN, 1)
    VERBS["end"](host, order(PLAN, 1, kind="rolled-back"), print)
    assert begin(host, PLAN, 2) == {"state": "open", "done": [], "begun": [], "new": True}
    with pytest.raises(Locked):
        begin(host, OTHER, 3)


@pytest.mark.reliability(
    "Locks", "a step, skip, undo or end with the token of a run that was replaced is refused"
)
@pytest.mark.parametrize("verb", ["step", "skip", "undo", "end"])
def test_a_stale_order_is_refused_whatever_it_says(host: Host, verb: str) -> None:
    begin(host, PLAN, 1)
    begin(host, PLAN, 2)
    stale = order(PLAN, 1, step="01", reason="x", kind="complete")
    with pytest.raises(Locked, match="holds token 2; this order carries 1"):
        VERBS[verb](host, stale, print)
    assert [facts["state"] for facts in VERBS["journal"](host, {}, print)] == ["open"]


# ---- one agent per host --------------------------------------------------------------------------

HOLDING = """
import sys, time
from agent.host import Host
from agent.records.locks import only_agent
with only_agent(Host(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.reliability("Locks", "a second agent on a host is refused until the first is dead")
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
