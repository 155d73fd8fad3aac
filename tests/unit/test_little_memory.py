"""The agent's own work in little memory, by the kernel's own limit, on more data than fits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.rooted import DATA, kubeadm_host

LIMIT = 128 << 20
SIZE = 192 << 20
PROGRAM = """
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, ({limit}, {limit}))
from agent.records.journal import Journal
from agent.runner import Runner
from tests.unit.rooted import SWAP, Rooted, plan_of
host = Rooted(sys.argv[1])
plan = plan_of(("preflight", {{"binary": False}}), *SWAP)
runner = Runner(host, Journal.create(host, plan), lambda text: None)
for step in plan.steps():
    assert runner.run(step.id)["outcome"] == "done", step
try:
    bytearray({size})
except MemoryError:
    print("limited")
"""


@pytest.mark.reliability(
    "Resources",
    "with 128 MiB of memory the agent checks, copies and moves 192 MiB of data: its memory is flat",
)
def test_data_larger_than_memory_is_read_copied_and_moved(tmp_path: Path) -> None:
    host = kubeadm_host(tmp_path)
    large = tmp_path / DATA[1:] / "member/snap/db"
    with large.open("wb") as file:
        for number in range(SIZE >> 20):
            file.write(bytes([number]) * (1 << 20))
    code = PROGRAM.format(limit=LIMIT, size=SIZE)
    done = subprocess.run(
        [sys.executable, "-c", code, host.root], cwd=Path(__file__).parents[2],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "limited\n", done.stderr
    copied = [p for p in tmp_path.rglob("db") if p.stat().st_size == SIZE]
    assert len(copied) == 2  # in place, and in quarantine
