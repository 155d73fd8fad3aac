"""A debug pod lives as long as somebody works in it, and no longer."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agent.entry import hold
from agent.errors import Refused

ROOT = Path(__file__).parents[3]
POD = (
    "import sys; from agent.entry.hold import hold; sys.exit(hold(sys.argv[1], float(sys.argv[2])))"
)
WORKER = """
import sys
from agent.entry.hold import join
line = join(sys.argv[1])
print("in", flush=True)
sys.stdin.read()
"""


def start_hold(path: Path, first: float = 30) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", POD, str(path), str(first)]
    started = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    assert started.stdout.readline().startswith(hold.READY)
    return started


def start_worker(path: Path) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", WORKER, str(path)]
    started = subprocess.Popen(
        argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "in\n"
    return started


def test_it_ends_with_the_last_who_works_there(tmp_path: Path) -> None:
    path = tmp_path / "hold"
    pod = start_hold(path)
    first, second = start_worker(path), start_worker(path)
    first.communicate("")
    third = start_worker(path)
    second.communicate("")
    assert pod.poll() is None  # the third is there still
    third.communicate("")
    assert pod.wait(20) == 0


def test_it_shows_that_it_lives(tmp_path: Path) -> None:
    path = tmp_path / "hold"
    code = POD.replace("float(sys.argv[2])", "30, sign=0.05")
    pod = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert pod.stdout is not None
    assert pod.stdout.readline().startswith(hold.READY)
    worker = start_worker(path)
    assert [pod.stdout.readline() for _ in range(2)] == ["etcd-rescue: at work\n"] * 2
    worker.communicate("")
    assert pod.wait(20) == 0


def test_a_killed_worker_holds_nothing(tmp_path: Path) -> None:
    pod, worker = start_hold(tmp_path / "hold"), start_worker(tmp_path / "hold")
    worker.send_signal(signal.SIGKILL)
    assert pod.wait(20) == 0


def test_where_nobody_comes_it_ends(tmp_path: Path) -> None:
    pod = start_hold(tmp_path / "hold", first=0.2)
    assert pod.wait(20) == 0


def test_a_worker_waits_for_the_pod_s_command(tmp_path: Path) -> None:
    path = tmp_path / "hold"
    joined: list[socket.socket] = []
    worker = threading.Thread(target=lambda: joined.append(hold.join(str(path), 20)))
    worker.start()
    pod = start_hold(path)
    worker.join(20)
    joined[0].close()
    assert pod.wait(20) == 0


def test_without_one_that_holds_nothing_is_started(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="nothing holds this pod"):
        hold.join(str(tmp_path / "hold"), 0)


def test_an_old_socket_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "hold"
    killed = start_hold(path)
    killed.kill()
    killed.wait()
    pod = start_hold(path)
    start_worker(path).communicate("")
    assert pod.wait(20) == 0


@pytest.mark.parametrize("cuts", [[b"a\nb\n"], [b"a", b"\nb", b"\n"], [b"a\nb\nc"]])
def test_lines_come_whole(cuts: list[bytes]) -> None:
    reading, writing = os.pipe()
    lines = hold.PatientLines(reading, 20)

    def write() -> None:
        for cut in cuts:
            os.write(writing, cut)
        os.close(writing)

    threading.Thread(target=write).start()
    found = [lines.readline(100) for _ in range(4)]
    assert found == [b"a\n", b"b\n", b"c" if len(b"".join(cuts)) == 5 else b"", b""]
    os.close(reading)


def test_a_line_is_never_longer_than_the_limit() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"x" * 50 + b"\n")
    assert hold.PatientLines(reading, 20).readline(10) == b"x" * 10
    os.close(reading)
    os.close(writing)


def test_silence_ends_a_session() -> None:
    reading, writing = os.pipe()
    assert hold.PatientLines(reading, 0.05).readline(10) == b""
    os.write(writing, b"late\n")
    os.close(reading)
    os.close(writing)


def test_a_pod_without_the_host_is_refused(tmp_path: Path) -> None:
    hold.require_root("/")
    with pytest.raises(Refused, match="no host's file system"):
        hold.require_root(str(tmp_path / "host"))
