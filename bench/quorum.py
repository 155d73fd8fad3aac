"""A lost quorum brought back: by `fab rescue-quorum`, by the documented way, by a bare script."""

from __future__ import annotations

import re
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.figures import RUNS, Figure, ratio
from bench.witness import Witness
from coordinator.agent_file import build_agent
from tests.lab.host import wait_until
from tests.lab.lab import Lab
from tests.lab.paths import REPO_DIR

SURVIVOR, LOST = "master-0", ("master-1", "master-2")
KEYS = 500
_HERE = Path(__file__).parent
_DEADLINE = 120.0
_CLOCK = re.compile(r"^ *(\d+\.\d) s (.*)")
_PAUSED = 6


@dataclass(frozen=True)
class Run:
    """One rescue, in seconds. outage: from the first stop to service; wall: from the command on.

    parts: what fab was at, and how long, up to service.
    """

    outage: float
    wall: float
    parts: dict[str, float] = field(default_factory=dict)


@dataclass
class _Said:
    """A finished command: exit code, and its stderr lines with the time of each."""

    code: int
    lines: list[tuple[float, str]]


def measure(lab: Lab) -> tuple[list[Figure], str]:
    """The two quorum figures, and a table of where our seconds go."""
    rows = []
    for number in range(1, RUNS + 1):
        row = (_ours(lab), _script(lab, "manifest_way.sh"), _script(lab, "scratch_way.sh"))
        rows.append(row)
        told = " ".join(f"{r.outage:.1f}/{r.wall:.1f}" for r in row)
        print(f"  quorum run {number}: outage/wall ours, manifest, scratch: {told} s", flush=True)
    ours, manifest, scratch = ([row[i] for row in rows] for i in range(3))
    return [
        ratio(
            "quorum_outage_ratio",
            [r.outage for r in ours],
            [r.outage for r in manifest],
            "from the manifest's first change until etcd takes writes for good: fab rescue-quorum "
            "÷ the documented manifest procedure as a shell script, on one lab host with the "
            "kubelet timing that was measured",
            0.4,
        ),
        ratio(
            "quorum_overhead_ratio",
            [r.wall for r in ours],
            [r.wall for r in scratch],
            "from the start of the command until etcd takes writes for good, the agent not yet on "
            "the host: fab rescue-quorum ÷ a shell script of the scratch-etcd steps alone over ssh",
            1.5,
        ),
    ], _parts_table(ours)


# ---- the sides -------------------------------------------------------------------------------


def _ours(lab: Lab) -> Run:
    words = ["-H", SURVIVOR, "rescue-quorum", "--yes", "--output", "json"]
    words += [word for host in LOST for word in ("--lost", host)]
    return _measured(lab, [str(REPO_DIR / ".venv/bin/fab"), *words], "", (_PAUSED,))


def _script(lab: Lab, name: str) -> Run:
    argv = ["ssh", SURVIVOR, "sudo", "-n", "bash", "-s"]
    return _measured(lab, argv, (_HERE / name).read_text(), (0,))


def _measured(lab: Lab, argv: list[str], stdin: str, codes: tuple[int, ...]) -> Run:
    """Lose the quorum anew, run the command, and see from outside when etcd serves."""
    keys = _lose_quorum(lab)
    with Witness(lab, SURVIVOR) as witness:
        start = time.monotonic()
        said = _run(argv, stdin)
        text = "\n".join(line for _when, line in said.lines)
        if said.code not in codes:
            raise RuntimeError(f"{' '.join(argv)}: exit code {said.code}\n{text}")
        serving = witness.serving_since()
    if witness.first_stop is None:
        raise RuntimeError(f"{' '.join(argv)} never touched the manifest\n{text}")
    _require_rescued(lab, keys)
    return Run(serving - witness.first_stop, serving - start, _parts(start, serving, said))


def _lose_quorum(lab: Lab) -> dict[str, bytes]:
    """A fresh cluster with keys, two of whose three hosts lose power; the keys."""
    build_agent()  # nobody's time, should its sources have changed since the last run
    lab.reset()
    # The scripts are what a person types as root; sudo gives the tool its one command only.
    lab.hosts[SURVIVOR].write("/etc/sudoers.d/by-hand", "core ALL=(ALL) NOPASSWD: ALL\n", 0o440)
    keys = lab.put_keys(KEYS)
    for host in LOST:
        lab.hosts[host].power_cut()
    wait_until(lambda: not lab.is_healthy(SURVIVOR), 30, "the quorum to be lost")
    time.sleep(1.0)
    return keys


def _require_rescued(lab: Lab, keys: dict[str, bytes]) -> None:
    """No figure for a rescue that is none: one member, and every key."""
    members = lab.members(SURVIVOR)
    have = lab.get_all(SURVIVOR)
    missing = sum(have.get(key) != value for key, value in keys.items())
    if len(members) != 1 or missing:
        raise RuntimeError(f"not rescued: {len(members)} members, {missing} keys missing")


def _run(argv: list[str], stdin: str) -> _Said:
    process = subprocess.Popen(
        argv, cwd=REPO_DIR, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stderr is not None
    with process.stdin as pipe:
        pipe.write(stdin)
    lines = [(time.monotonic(), line.rstrip()) for line in process.stderr]
    return _Said(process.wait(_DEADLINE), lines)


# ---- where the seconds go ------------------------------------------------------------------------


def _parts(start: float, serving: float, said: _Said) -> dict[str, float]:
    """Between each line that fab tells and the one before: what was done then → seconds."""
    parts: dict[str, float] = {}
    last = start
    for when, line in said.lines:
        match = _CLOCK.match(line)
        if match is None or last >= serving:
            continue
        if not parts:
            parts["fab itself: Python, imports, inventory"] = when - float(match[1]) - start
            last = when - float(match[1])
        what = _name_of(match[2])
        if what:
            parts[what] = min(when, serving) - last
            last = when
    return parts


def _name_of(text: str) -> str:
    """What ended with that line; empty for lines that only tell what is being waited for."""
    if text.startswith("surveyed"):
        return "connect, deliver, survey, diagnose"
    step = re.match(r" +(\d\d) (?:ok|FAILED) (\S+: [a-z ]+?) (?:\(.*\) )?\d", text)
    return f"{step[1]} {step[2]}" if step else ""


def _parts_table(runs: list[Run]) -> str:
    names = list(dict.fromkeys(name for run in runs for name in run.parts))
    lines = ["where our seconds go (medians):"]
    for name in names:
        median = statistics.median([run.parts.get(name, 0.0) for run in runs])
        lines.append(f"  {median:6.2f} s  {name}")
    rest = statistics.median([run.wall - sum(run.parts.values()) for run in runs])
    wall = statistics.median([run.wall for run in runs])
    return "\n".join(
        [*lines, f"  {rest:6.2f} s  until the writer saw it", f"  {wall:6.2f} s  in all"]
    )
