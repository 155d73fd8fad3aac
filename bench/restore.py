"""A restore against the bare tool, and a restore on seven hosts against one on three."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure, ratio
from coordinator.agent_file import build_agent
from tests.lab.kubelet.timing import MEASURED
from tests.lab.lab import Lab
from tests.lab.paths import REPO_DIR

SNAPSHOT_BYTES = 1 << 30
QUOTA = 6 << 30
RUNS = 3
"""Each run restores a gigabyte twice, or a whole cluster."""

_HOST, _FOLDER = "master-0", "/var/lib/backup"
_VALUE, _AT_ONCE = 12 * 1024, 4000
_SNAPSHOT = f"{_FOLDER}/s.db"
_STEP = re.compile(r"ok (\S+): (.+?) (\d+\.\d) s")
_DATA_STEPS = ("preflight", "restore snapshot", "relocate data", "install data")
_KEYS = 2000


@dataclass(frozen=True)
class _Run:
    """One `fab restore`: seconds of each step by its name (the longest host), and of all of it."""

    steps: dict[str, float]
    wall: float


def measure_one(lab: Lab) -> list[Figure]:
    """One host with a gigabyte: ours, and the bare tool beside it, in turn."""
    _fill(lab)
    ours, bare = [], []
    for number in range(1, RUNS + 1):
        bare.append(_bare(lab))
        ours.append(_restore(f"{_HOST}:{_SNAPSHOT}", [_HOST], "--no-rehearsal"))
        made = sum(ours[-1].steps[name] for name in _DATA_STEPS)
        print(
            f"  restore run {number}: {made:.1f} s of {ours[-1].wall:.1f} s, bare {bare[-1]:.1f} s"
        )
        _forget(lab)
    rehearsed = _restore(f"{_HOST}:{_SNAPSHOT}", [_HOST])
    data = [sum(run.steps[name] for name in _DATA_STEPS) for run in ours]
    return [
        ratio(
            "restore_ratio", data, bare,
            "the steps of fab restore that verify the snapshot, restore it, keep the old data and "
            "put the new one in its place ÷ the bare `etcdutl snapshot restore` of the same 1 GiB; "
            "without stopping and starting etcd, and without the rehearsal",
            1.3,
        ),
        Figure(
            "restore_wall", "s", tuple(run.wall for run in ours),
            "the whole command of these runs: survey, verification, restore, stop, swap, start, "
            "and the proof by a fresh survey",
        ),
        Figure(
            "restore_rehearsal", "s", (rehearsed.steps["prove restored"],),
            "the same step with the restored keys counted: what the rehearsal costs, before "
            f"anything stops (without: {ours[-1].steps['prove restored']:.1f} s)",
        ),
    ]  # fmt: skip


def measure_all() -> list[Figure]:
    """Restores on all of seven hosts and on all of three, with the kubelet as slow as measured."""
    seven = _on_all(7)
    three = _on_all(3)
    return [
        ratio(
            "seven_hosts_ratio", seven, three,
            f"fab restore --all-nodes of {_KEYS} keys, the whole command: 7 hosts ÷ 3 hosts, on "
            "one machine of two cores",
            2.0,
        )
    ]  # fmt: skip


def _fill(lab: Lab) -> None:
    """Write a gigabyte, and take a snapshot of it onto the host."""
    host = lab.hosts[_HOST]
    number = 0
    while host.path("/var/lib/etcd/member/snap/db").stat().st_size < SNAPSHOT_BYTES:
        lab.put_keys(_AT_ONCE, prefix=f"/registry/large/{number:04d}/", size=_VALUE)
        number += 1
    host.run(["mkdir", "-p", "-m", "700", _FOLDER])
    lab.etcdctl(_HOST, "--command-timeout=120s", "snapshot", "save", str(host.path(_SNAPSHOT)))


def _bare(lab: Lab) -> float:
    """The tool alone, on the same file system and with the file as warm."""
    host = lab.hosts[_HOST]
    target = host.path("/var/lib/bare")
    shutil.rmtree(target, ignore_errors=True)
    argv = [str(lab.etcd_dir / "bin/etcdutl"), "snapshot", "restore", str(host.path(_SNAPSHOT))]
    began = time.monotonic()
    subprocess.run([*argv, "--data-dir", str(target)], check=True, capture_output=True)
    seconds = time.monotonic() - began
    shutil.rmtree(target)
    return seconds


def _restore(file: str, hosts: list[str], *more: str) -> _Run:
    words = ["-H", ",".join(hosts), "restore", file, "--discard-current", "--yes", *more]
    began = time.monotonic()
    done = subprocess.run(
        [REPO_DIR / ".venv/bin/fab", *words, "--output", "json"],
        cwd=REPO_DIR, text=True, capture_output=True, check=False,
    )  # fmt: skip
    wall = time.monotonic() - began
    if done.returncode != 0:
        raise RuntimeError(f"fab {' '.join(words)}: exit code {done.returncode}\n{done.stderr}")
    steps: dict[str, float] = {}
    for _host, name, seconds in _STEP.findall(done.stderr):
        steps[name] = max(steps.get(name, 0.0), float(seconds))
    return _Run(steps, wall)


def _forget(lab: Lab) -> None:
    """Take away what was kept: the disk is this machine's memory."""
    for folder in ("quarantine", "work"):
        shutil.rmtree(lab.hosts[_HOST].path(f"/var/lib/etcd-rescue/{folder}"), ignore_errors=True)


def _on_all(count: int) -> list[float]:
    """Seconds of each run on that many hosts."""
    with Lab.start(hosts=count, kubelet=MEASURED) as lab:
        lab.put_keys(_KEYS)
        file = Path("/tmp") / f"bench-{count}.db"
        lab.etcdctl(_HOST, "snapshot", "save", str(file))
        build_agent()
        runs = [_restore(str(file), list(lab.hosts), "--all-nodes").wall for _ in range(RUNS)]
        file.unlink()
    print(f"  restore on {count} hosts: {' '.join(f'{run:.1f}' for run in runs)} s", flush=True)
    return runs
