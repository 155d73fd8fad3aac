"""A person who walks from console to console with a stick, and types what the last one told."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coordinator.agent_file import build_agent
from tests.lab.evidence import STATE
from tests.lab.host import Host, wait_until
from tests.lab.lab import Lab
from tests.lab.operator import OK

STICK = "/mnt/stick"
_NEXT = re.compile(r"carry the stick to (\S+), and type there:\n\s+(rescue-agent .*)$", re.M)
_STEP = re.compile(r"the next step is (\d+) \(([a-z ]+)\)")


@dataclass(frozen=True)
class Told:
    """What a console said is next: on which host, what to type, and for which step, if any."""

    host: str
    words: str
    action: str = ""


class Person:
    """Somebody at one console at a time. The stick is a directory that is in one host at a time."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.at = lab, ""
        self.told: Told | None = None
        self._agent = build_agent().path

    def go(self, name: str) -> Host:
        """Go to a console, with the stick."""
        host = self.lab.hosts[name]
        if self.at == name:
            return host
        target = host.path(STICK)
        target.mkdir(parents=True, exist_ok=True)
        if self.at:
            source = self.lab.hosts[self.at].path(STICK)
            shutil.copytree(source, target, dirs_exist_ok=True)
            shutil.rmtree(source)
        else:
            shutil.copyfile(self._agent, target / "rescue-agent.pyz")
        self.at = name
        return host

    def argv(self, words: str) -> list[str]:
        """What runs when a line is typed at the console."""
        program, *rest = shlex.split(words)
        assert program == "rescue-agent"
        return ["env", "COLUMNS=80", "python3", f"{STICK}/rescue-agent.pyz", *rest]

    def type(self, words: str, *codes: int, at: str = "") -> str:
        """Type a line at the console; it must end with one of these codes. Gives all it said."""
        host = self.go(at or self.at)
        done = host.run(self.argv(words), check=False, timeout=180)
        said = f"{self.at}$ {words}\n{done.stdout}{done.stderr}"
        print(said)  # pytest shows it where a test fails
        assert done.returncode in (codes or (OK,)), f"exit code {done.returncode}\n{said}"
        assert "Traceback" not in said
        where, step = _NEXT.search(said), _STEP.search(said)
        self.told = Told(where[1], where[2], step[2] if step else "") if where else None
        return said

    def kill_during(self, words: str, action: str, at: str) -> None:
        """Type a line, and SIGKILL what runs as soon as the journal says that a step began."""
        host = self.go(at)
        with self._started(host, words, action) as running:
            children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text()
            for child in [*children.split(), str(running.pid)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(child), signal.SIGKILL)

    def cut_power_during(self, words: str, action: str, at: str) -> None:
        """Type a line, and take the host's power as soon as the journal says that a step began."""
        host = self.go(at)
        with self._started(host, words, action):
            host.power_cut()
        host.boot()

    @contextlib.contextmanager
    def _started(self, host: Host, words: str, action: str) -> Iterator[subprocess.Popen[bytes]]:
        running = subprocess.Popen(
            host.enter_command(self.argv(words)),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_until(lambda: has_begun(host, action), 60, f"{action} on {host.name} to begin")
        yield running
        running.wait(30)

    def files(self) -> list[Path]:
        """What is on the stick, as this side sees it."""
        return sorted(self.lab.hosts[self.at].path(STICK).iterdir())


def has_begun(host: Host, action: str) -> bool:
    """Whether the newest record of some journal is the intent of this action."""
    for path in host.path(f"{STATE}/journal").glob("*.jsonl"):
        first, *_others, last = path.read_bytes().rstrip(b"\0\n").split(b"\n")
        with contextlib.suppress(ValueError):  # half a record, being written
            stages = json.loads(first)["data"]["plan"]["stages"]
            steps = {s["id"]: s["action"] for stage in stages for s in stage["steps"]}
            record = json.loads(last)
            if record["kind"] == "intent" and steps.get(record["step"]) == action:
                return True
    return False
