"""A runtime on its way that is cut short, and several on their way at once."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from agent.errors import Unreachable
from coordinator.agent_file import AgentFile
from coordinator.channel import Channel, Messages
from coordinator.delivery import host_command, open_channel, start_code
from coordinator.hosts import HostSpec
from coordinator.onhost import carry
from coordinator.onhost.code import install_line
from coordinator.runtime_file import RuntimeFile
from tests.unit.coordinator.onhost.conftest import runtimes

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the agent is started as root")

HERE = HostSpec("here", transport="local")


def opened(agent_file: AgentFile, state: Path) -> Channel:
    return open_channel(HERE, agent_file, state_dir=str(state))


def started(tmp_path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        shlex.split(host_command(True, False)), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, cwd=tmp_path,
    )  # fmt: skip


def feed(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin
    process.stdin.write(data)
    process.stdin.flush()


def hear(process: subprocess.Popen[bytes], wanted: bytes) -> None:
    assert process.stdout
    while wanted not in (line := process.stdout.readline()):
        assert line, wanted


@pytest.mark.parametrize("end", ["dropped", "killed"])
@pytest.mark.parametrize("at", ["busybox", "archive"])
def test_an_interrupted_one_leaves_nothing_that_has_the_name(
    bare: Path, tmp_path: Path, agent_file: AgentFile, carried: RuntimeFile, at: str, end: str
) -> None:
    state = tmp_path / "state"
    lines = start_code(agent_file, str(state))
    process = started(tmp_path)
    feed(process, lines.shell + lines.python)
    hear(process, b'"lacks"')
    feed(process, install_line(carried))
    hear(process, b"busybox")
    if at == "archive":
        feed(process, carried.busybox.read_bytes())
        hear(process, b"archive")
    feed(process, carried.busybox.read_bytes()[:100_000])
    (unfinished,) = runtimes(state)
    if end == "killed":
        process.kill()
    assert process.stdin
    process.stdin.close()
    process.wait(timeout=10)
    wait_until_children_end(state)
    assert runtimes(state) == ([unfinished] if end == "killed" else [])
    with opened(agent_file, state) as channel:
        assert channel.call("echo", {}) == {}
    assert runtimes(state) == [carried.tree_id]


def test_a_line_that_breaks_on_the_way_is_said(
    bare: Path, tmp_path: Path, agent_file: AgentFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = carry._part

    def killed_first(runtime: RuntimeFile, message: dict[str, str], messages: Messages) -> bytes:
        for path in Path("/proc").glob("[0-9]*"):  # as a power cut would, with its shell
            with contextlib.suppress(OSError):
                if os.readlink(path / "cwd") == "/" and "eval" in (path / "cmdline").read_text():
                    environ = (path / "environ").read_bytes()
                    if str(tmp_path).encode() in environ:
                        os.kill(int(path.name), signal.SIGKILL)
        return part(runtime, message, messages)

    monkeypatch.setattr(carry, "_part", killed_first)
    monkeypatch.setenv("MARK", str(tmp_path))
    with pytest.raises(Unreachable, match="the line broke while") as caught:
        opened(agent_file, tmp_path / "state")
    assert "again" in caught.value.next
    monkeypatch.setattr(carry, "_part", part)
    opened(agent_file, tmp_path / "state").close()


@pytest.mark.parametrize("boot", ["this", "00000000"])
def test_what_another_left_is_removed_unless_it_is_still_at_work(
    bare: Path, tmp_path: Path, agent_file: AgentFile, carried: RuntimeFile, boot: str
) -> None:
    now = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    name = f"{carried.tree_id}.{now if boot == 'this' else boot}.{os.getpid()}.tmp"
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state/runtime").mkdir(mode=0o700)
    (tmp_path / "state/runtime" / name).mkdir()
    opened(agent_file, tmp_path / "state").close()
    kept = [name] if boot == "this" else []
    assert runtimes(tmp_path / "state") == [carried.tree_id, *kept]


def wait_until_children_end(state: Path) -> None:
    """Until no process has a file below `state` open: a killed shell leaves `head` to its end."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        users = [fd for fd in Path("/proc").glob("[0-9]*/fd/*") if is_below(fd, state)]
        if not users:
            return
        time.sleep(0.05)
    pytest.fail(f"still open: {users}")


def is_below(fd: Path, state: Path) -> bool:
    try:
        return os.readlink(fd).startswith(f"{state}/")
    except OSError:
        return False


def test_two_coordinators_at_once(
    bare: Path, tmp_path: Path, agent_file: AgentFile, carried: RuntimeFile
) -> None:
    state, channels, errors = tmp_path / "state", [], []

    def work() -> None:
        try:
            channels.append(opened(agent_file, state))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not errors
    for number, channel in enumerate(channels):
        assert channel.call("echo", {"n": number}) == {"n": number}
        channel.close()
    assert len(channels) == 4
    assert runtimes(state) == [carried.tree_id]
