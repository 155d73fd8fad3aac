"""The persistent lab: an enclosure in the background, and the way into it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.lab import enclosure
from tests.lab.options import LabOptions
from tests.lab.paths import PERSISTENT_DIR, REPO_DIR

_STATE = PERSISTENT_DIR / "state.json"
LOG = PERSISTENT_DIR / "log"
READY = "the lab is ready"


class NoLab(RuntimeError):
    """No persistent lab runs on this machine."""


@dataclass(frozen=True)
class Running:
    """The processes of a persistent lab; a start time tells a process from a later namesake."""

    outer: int
    first: int
    started: str


def _start_time(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def find() -> Running | None:
    """The persistent lab that runs now, if one does."""
    try:
        running = Running(**json.loads(_STATE.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    alive = running.started and _start_time(running.first) == running.started
    return running if alive else None


def up(options: LabOptions, timeout: float = 180) -> None:
    """Start a lab in the background and wait until it is healthy."""
    if find():
        raise RuntimeError("a lab is up already: python -m tests.lab down")
    PERSISTENT_DIR.mkdir(exist_ok=True)
    LOG.write_text("")
    _STATE.unlink(missing_ok=True)
    words = [sys.executable, "-m", "tests.lab", "_background", options.to_json()]
    with LOG.open("ab") as log:
        background = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=REPO_DIR,
        )
    deadline = time.monotonic() + timeout
    while READY not in LOG.read_text():
        if background.poll() is not None or time.monotonic() > deadline:
            down()
            raise RuntimeError(f"the lab did not come up:\n{LOG.read_text()[-3000:]}")
        time.sleep(0.05)


def serve_in_background(options: str) -> int:
    """The outer process of a persistent lab: encloses the one that serves."""

    def remember(first: int) -> None:
        _STATE.write_text(json.dumps(asdict(Running(os.getpid(), first, _start_time(first)))))

    command = [sys.executable, "-m", "tests.lab", "_serve", options]
    return enclosure.enclose(command, remember)


def down(timeout: float = 20) -> bool:
    """End the persistent lab; False where there was none."""
    running = find()
    if not running:
        return False
    os.kill(running.first, signal.SIGKILL)
    deadline = time.monotonic() + timeout
    while Path(f"/proc/{running.outer}").exists() and time.monotonic() < deadline:
        if _is_zombie(running.outer):
            break
        time.sleep(0.02)
    _STATE.unlink(missing_ok=True)
    return True


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def enter_command(argv: Sequence[str]) -> list[str]:
    """The argv that runs a command inside the persistent lab's enclosure, as its operator."""
    running = find()
    if not running:
        raise NoLab("no lab is up: python -m tests.lab up")
    enter = ["nsenter", "-t", str(running.first), "-m", "-p", "-n", "-i", "-u", "--"]
    environment = enclosure.operator_environment({})
    settings = [f"{key}={value}" for key, value in environment.items()]
    return [*enter, "env", f"--chdir={Path.cwd()}", *settings, *argv]
