"""Snapshots of large databases: verified, fetched, and what memory that takes."""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from agent.snapshot.here import verify_here
from bench.figures import Figure, interleaved, ratio
from bench.memory import peak
from coordinator.agent_file import build_agent
from coordinator.connection import Access
from coordinator.delivery import open_channel
from coordinator.hosts import HostSpec
from coordinator.transfer import Piece, Way, fetch
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.operator import FAB
from tests.lab.paths import REPO_DIR

QUOTA = 8 << 30
FETCHED = 1536 << 20
LARGE = 4 << 30
FETCHES = 10
VERIFIES = 5
_HOST = "master-0"
_MEAN = 1200
_IN_ONE = 64
_WRITERS = 2


def measure(lab: Lab) -> list[Figure]:
    """Grow a member's database to 1.5 GiB and then to 4 GiB; look at each of its snapshots."""
    host = lab.hosts[_HOST]
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        here = Path(folder)
        _fill(lab, FETCHED)
        figures = _figures_of_speed(host, here)
        _fill(lab, LARGE)
        return [*figures, *_memory(host, here)]


def _fill(lab: Lab, size: int) -> None:
    """Objects as an API server stores them, most of 1 KiB; then compacted, as it does."""
    began = time.monotonic()
    with ThreadPoolExecutor(_WRITERS) as writers:
        list(writers.map(lambda number: _write(lab, size, number), range(_WRITERS)))
    client = lab.client(_HOST, timeout=60)
    status = client.status()
    client.call("kv/compaction", {"revision": status["header"]["revision"], "physical": True})
    _say(f"a database of {size >> 20} MiB in {time.monotonic() - began:.0f} s")


def _write(lab: Lab, size: int, writer: int) -> None:
    """One of the writers: objects of its own until the database is of that size."""
    dice, client = random.Random(f"{size} {writer}"), lab.client(_HOST, timeout=60)
    blob, number = dice.randbytes(1 << 20), 0
    with client.lasting():
        while int(client.status()["dbSize"]) < size:
            for _ in range(50):
                pairs = []
                for _ in range(_IN_ONE):
                    length = min(int(dice.expovariate(1 / _MEAN)) + 100, 20_000)
                    start = dice.randrange(len(blob) - length)
                    key = f"/registry/pods/{size}/{writer}/{number:08d}"
                    pairs.append((key, b"k8s\0" + blob[start : start + length]))
                    number += 1
                client.put_many(pairs)


@contextmanager
def _staged(host: Host) -> Iterator[tuple[str, dict[str, object], float]]:
    """(directory, the snapshot's row of its manifest, the agent's peak in MiB) of a staged set."""
    with open_channel(HostSpec(_HOST), build_agent(), Access()) as channel:
        answer = channel.call("take_snapshot", timeout=600)
        rows = [row for row in answer["set"]["files"] if row["what"] == "snapshot"]
        yield answer["directory"], rows[0], peak(host, channel.hello.pid)
        channel.call("discard_snapshot", {"set": answer["set"]["name"]}, timeout=60)


def _figures_of_speed(host: Host, here: Path) -> list[Figure]:
    way = Way(HostSpec(_HOST), build_agent(), Access())
    with _staged(host) as (directory, row, _peak):
        target = here / "snapshot.db"
        source = f"{directory}/{row['path']}"
        size, sha256 = int(str(row["size"])), str(row["sha256"])
        piece = Piece(source, target, size, sha256)
        host.run(["install", "-m", "644", source, "/home/core/snapshot.db"])
        ours, theirs = _fetched(way, piece, here / "by-scp.db")
        host.run(["rm", "/home/core/snapshot.db"])
        fetch(way, [piece], _say)
        _sha256sum(target)  # reads it into memory, for the first of them too
        verified, summed = interleaved(
            VERIFIES, lambda: _verify(target), lambda: _sha256sum(target)
        )
        target.unlink()
    return [
        ratio(
            "fetch_ratio", theirs, ours,
            f"throughput of a snapshot of {size >> 20} MiB from host to operator, hashed and "
            "durable, ÷ that of scp, which does neither; in turns, after one of each that does not "
            f"count; {FETCHES} of {FETCHES} came whole; runs are pairs, their median is the value; "
            "medians are of scp and of the fetch", None, least=0.8,
        ),
        ratio(
            "verify_ratio", summed, verified,
            "throughput of the verification of the same file ÷ that of sha256sum; medians are of "
            "sha256sum and of the verification", None, least=2.0,
        ),
    ]  # fmt: skip


def _fetched(way: Way, piece: Piece, by_scp: Path) -> tuple[list[float], list[float]]:
    """Seconds of each fetch, and of each scp right after it, which finds the machine as it was.

    The first of both is not counted: the host's file comes into its memory, and the agent there.
    """
    _fetch(way, piece)
    _scp(by_scp)
    ours, theirs = interleaved(FETCHES, lambda: _fetch(way, piece), lambda: _scp(by_scp))
    for mine, other in zip(ours, theirs, strict=True):
        _say(f"fetched in {mine:.2f} s, by scp in {other:.2f} s")
    return ours, theirs


def _memory(host: Host, here: Path) -> list[Figure]:
    with _staged(host) as (_directory, row, agent):
        size = int(str(row["size"]))
    words = [str(FAB), "-H", _HOST, "snapshot", _HOST, "--to", str(here), "--output", "json"]
    with subprocess.Popen(words, cwd=REPO_DIR, stdout=subprocess.DEVNULL) as process:
        _pid, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"fab snapshot: exit code {process.returncode}")
    note = f"with a snapshot of {size >> 20} MiB taken, verified and brought to the operator"
    return [
        Figure("rss_mib_agent", "MiB", (agent,), f"VmHWM of the agent, {note}", 64.0),
        Figure(
            "rss_mib_coordinator", "MiB", (usage.ru_maxrss / 1024,),
            f"peak of `fab snapshot` and its helpers, {note}", 150.0,
        ),
    ]  # fmt: skip


def _say(text: str) -> None:
    print(f"  {text}", flush=True)


def _fetch(way: Way, piece: Piece) -> float:
    piece.target.unlink(missing_ok=True)
    start = time.monotonic()
    fetch(way, [piece], _say)
    seconds = time.monotonic() - start
    piece.target.unlink()
    return seconds


def _scp(target: Path) -> float:
    start = time.monotonic()
    subprocess.run(["scp", "-q", f"{_HOST}:snapshot.db", target], check=True)
    seconds = time.monotonic() - start
    target.unlink()
    return seconds


def _verify(path: Path) -> float:
    start = time.monotonic()
    verify_here(str(path), False, _say)
    return time.monotonic() - start


def _sha256sum(path: Path) -> float:
    start = time.monotonic()
    subprocess.run(["sha256sum", path], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start
