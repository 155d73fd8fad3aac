"""The agent's way onto a host, and its start there."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable

from agent.host import STATE_DIR
from bench.figures import Figure, interleaved, ratio
from coordinator.agent_file import AgentFile, build_agent
from coordinator.connection import Access
from coordinator.delivery import host_command, open_channel, start_code
from coordinator.hosts import HostSpec
from tests.lab.host import Host
from tests.lab.lab import Lab

RUNS = 9
"""Cheap enough to be repeated more often than the rescues."""

_HOST = "master-0"


def measure(lab: Lab) -> list[Figure]:
    """First and second delivery against scp and ssh, the agent's start, its survey."""
    host, agent = lab.hosts[_HOST], build_agent()
    first, scp = interleaved(RUNS, lambda: _first(host, agent), lambda: _scp(agent))
    again, ssh = interleaved(RUNS, lambda: _open(agent), _ssh)
    (start,) = interleaved(RUNS, lambda: _start(host, agent))
    return [
        ratio(
            "push_ratio", first, scp,
            "connect to a host without the agent, send it, start it and hear its hello ÷ scp of "
            "the same bytes and then ssh HOST true",
            1.5,
        ),
        ratio(
            "push_again_ratio", again, ssh,
            "connect to a host that has the agent, check its hash, start it and hear its hello ÷ "
            "ssh HOST true",
            1.3,
        ),
        Figure(
            "agent_start_ms", "ms", tuple(s * 1000 for s in start),
            "on the host, without SSH: from the start of its Python until the agent's hello, the "
            "agent being there already",
        ),
        Figure(
            "survey_ms", "ms", _surveys(agent),
            "one survey of a healthy control-plane host by an agent that runs, by its own clock",
        ),
    ]  # fmt: skip


def _timed(action: Callable[[], object]) -> float:
    start = time.monotonic()
    action()
    return time.monotonic() - start


def _open(agent: AgentFile) -> float:
    start = time.monotonic()
    channel = open_channel(HostSpec(_HOST), agent, Access())
    took = time.monotonic() - start
    channel.close()
    return took


def _first(host: Host, agent: AgentFile) -> float:
    host.run(["rm", "-rf", f"{STATE_DIR}/agent"])
    return _open(agent)


def _ssh() -> float:
    return _timed(lambda: subprocess.run(["ssh", _HOST, "true"], check=True))


def _scp(agent: AgentFile) -> float:
    copy = ["scp", "-q", str(agent.path), f"{_HOST}:copy.pyz"]
    return _timed(lambda: subprocess.run(copy, check=True)) + _ssh()


def _start(host: Host, agent: AgentFile) -> float:
    code = start_code(agent, STATE_DIR)
    argv = host.enter_command(["sh", "-c", host_command(is_root=True, has_password=False)])
    start = time.monotonic()
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(code.shell + code.python)
        process.stdin.flush()
        while "hello" not in json.loads(process.stdout.readline()):
            pass
        took = time.monotonic() - start
        process.stdin.close()
    return took


def _surveys(agent: AgentFile) -> tuple[float, ...]:
    with open_channel(HostSpec(_HOST), agent, Access()) as channel:
        return tuple(float(channel.call("survey")["duration_ms"]) for _ in range(RUNS))
