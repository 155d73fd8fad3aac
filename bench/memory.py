"""The agent's peak memory where etcd's data is large."""

from __future__ import annotations

import re
import time
from typing import Any

from agent.model.plan import FORMAT, Plan, Promise, Stage, Step
from bench.figures import Figure
from coordinator.agent_file import build_agent
from coordinator.connection import Access
from coordinator.delivery import open_channel
from coordinator.hosts import HostSpec
from tests.lab.host import Host
from tests.lab.lab import Lab

DATA_BYTES = 2 << 30
QUOTA = 6 << 30
_VALUE = 12 * 1024  # a hundred go into one transaction, which may have 1.5 MiB
_AT_ONCE = 4000
_HOST, _DATA = "master-0", "/var/lib/etcd"
_STEPS = ("park_definition", "stop_etcd", "copy_data")


def measure(lab: Lab) -> list[Figure]:
    """Fill a member's data directory, then survey and copy it; the peak after each."""
    host = lab.hosts[_HOST]
    _fill(lab, host)
    size = data_size(host)
    with open_channel(HostSpec(_HOST), build_agent(), Access()) as channel:
        channel.call("survey")
        surveyed = peak(host, channel.hello.pid)
        plan = _copy_plan()
        channel.call("begin", {"plan": plan, "holder": "bench", "token": 1})
        for step in _STEPS:
            channel.call("step", {"plan": plan.id, "step": step, "token": 1}, timeout=300)
        copied = peak(host, channel.hello.pid)
    note = (
        f"VmHWM of the agent, with {size >> 20} MiB in the data directory, after a survey "
        f"({surveyed:.0f} MiB) and after the copy step as well; runs: these two"
    )
    return [Figure("agent_rss_mib", "MiB", (surveyed, copied), note, 64.0)]


def _fill(lab: Lab, host: Host) -> None:
    """Write until database and write-ahead log together are as large as they shall be."""
    number = 0
    while data_size(host) < DATA_BYTES:
        lab.put_keys(_AT_ONCE, prefix=f"/registry/large/{number:04d}/", size=_VALUE)
        number += 1
    time.sleep(1.0)  # the last batch reaches the database within etcd's 100 ms


def data_size(host: Host) -> int:
    """Bytes that the data directory takes, holes not counted."""
    files = [path for path in host.path(_DATA).rglob("*") if path.is_file()]
    return sum(path.stat().st_blocks * 512 for path in files)


def _copy_plan() -> Plan:
    """The steps of a rescue up to the copy, with the arguments that mean etcd's own."""
    args: dict[str, dict[str, Any]] = {"copy_data": {"data_dir": _DATA}}
    steps = tuple(Step(name, _HOST, name, args.get(name, {}), "measured") for name in _STEPS)
    return Plan(
        format=FORMAT, recipe="bench", summary="copy the data", created=0.0, hosts={_HOST: ""},
        stages=(Stage("copy", steps),), promise=Promise(()),
    ).with_id()  # fmt: skip


def peak(host: Host, pid: int) -> float:
    """VmHWM of a process, in MiB. Memory maps of files count, as far as they were touched."""
    status = host.run(["cat", f"/proc/{pid}/status"]).stdout
    match = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    if match is None:
        raise RuntimeError(f"process {pid} is not there")
    return int(match[1]) / 1024
