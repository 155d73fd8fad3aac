"""The operator at work: `fab` in a process of its own, its exit code, its result, what it says."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.host import Host, wait_until
from tests.lab.paths import REPO_DIR

FAB = REPO_DIR / ".venv/bin/fab"
DEADLINE = 240.0
"""Seconds that one task may take before a test ends it."""

OK, USAGE, REFUSED, UNREACHABLE, STEP_FAILED, PAUSED, LOCKED = 0, 2, 3, 4, 5, 6, 7


@dataclass(frozen=True)
class Ended:
    """A task that came to its end. code: negative after a signal."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def result(self) -> Any:
        """What stdout said, parsed; None where it said nothing."""
        return json.loads(self.out) if self.out.strip() else None

    def expect(self, *codes: int) -> Ended:
        """The same, once the exit code is one of these; a failure shows all that was said."""
        said = f"fab {' '.join(self.words)}: exit code {self.code}\n{self.err}\n{self.out}"
        assert self.code in codes, said
        assert "Traceback" not in self.err, said
        return self


class Running:
    """A task under way: what it has said so far, and ways to disturb it."""

    def __init__(self, words: Sequence[str], argv: Sequence[str]) -> None:
        self.words = tuple(words)
        self._process = subprocess.Popen(
            argv, cwd=REPO_DIR, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self._out: list[str] = []
        self._watchers: list[tuple[re.Pattern[str], Callable[[], None]]] = []
        self._guard = threading.Lock()
        self._threads = [
            threading.Thread(target=self._read_errors, daemon=True),
            threading.Thread(target=self._read_output, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            print(line, end="", file=sys.stderr)  # pytest shows it where a test fails
            with self._guard:
                self.lines.append(line)
                due = [(p, act) for p, act in self._watchers if p.search(line)]
                self._watchers = [w for w in self._watchers if w not in due]
            for _pattern, act in due:
                act()

    def _read_output(self) -> None:
        assert self._process.stdout is not None
        self._out.append(self._process.stdout.read())

    @property
    def err(self) -> str:
        """What stderr has said so far."""
        with self._guard:
            return "".join(self.lines)

    def on(self, pattern: str, act: Callable[[], None]) -> None:
        """Do something at the first line of stderr that matches, the lines so far included."""
        compiled = re.compile(pattern)
        with self._guard:
            is_past = any(compiled.search(line) for line in self.lines)
            if not is_past:
                self._watchers.append((compiled, act))
        if is_past:
            act()

    def wait_for(self, pattern: str, timeout: float = 60) -> None:
        """Wait for a line of stderr; AssertionError with all that was said if the task ends."""
        compiled = re.compile(pattern)

        def is_there() -> bool:
            if compiled.search(self.err):
                return True
            assert self._process.poll() is None, f"ended without {pattern!r}:\n{self.err}"
            return False

        wait_until(is_there, timeout, f"{pattern!r} of fab {' '.join(self.words)}:\n{self.err}")

    @property
    def process_id(self) -> int:
        """The leader of the task's process group."""
        return self._process.pid

    @property
    def is_over(self) -> bool:
        """Whether the task has ended."""
        return self._process.poll() is not None

    def kill(self) -> Ended:
        """SIGKILL the coordinator and every helper of its own, as a crash of its machine would."""
        os.killpg(self._process.pid, signal.SIGKILL)
        return self.end(20)

    def end(self, timeout: float = DEADLINE) -> Ended:
        """Wait for the end."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            raise AssertionError(f"fab {' '.join(self.words)} hangs:\n{self.err}") from None
        for thread in self._threads:
            thread.join(20)
        return Ended(self.words, code, "".join(self._out), self.err)


def start_fab(task: str, *words: str, hosts: str = "master-0", output: str = "json") -> Running:
    """Start a task. hosts: what -H says; empty for nothing. output: empty for no --output."""
    where = ["-H", hosts] if hosts else []
    form = ["--output", output] if output else []
    said = [*where, task, *words, *form]
    return Running(said, [str(FAB), *said])


def fab(task: str, *words: str, hosts: str = "master-0", output: str = "json") -> Ended:
    """Run a task to its end, without a terminal, as a script of the operator's would."""
    return start_fab(task, *words, hosts=hosts, output=output).end()


def rescue_quorum(*lost: str, hosts: str = "master-0", more: Sequence[str] = ()) -> Running:
    """Start `rescue-quorum --yes` with these hosts declared lost."""
    words = [word for name in lost for word in ("--lost", name)]
    return start_fab("rescue-quorum", "--yes", *words, *more, hosts=hosts)


def ssh_sessions(host: Host) -> list[int]:
    """The host's sshd processes that serve a connection, by their number inside the host."""
    listed = host.run(["ps", "-eo", "pid=,args="]).stdout.splitlines()
    return [int(line.split()[0]) for line in listed if re.search(r"sshd: \S+( \[priv\]|@)", line)]


def agent_pids(host: Host) -> list[int]:
    """The agents that run on a host, by their number in the enclosure.

    Delivery starts the agent's Python with these options, and turns the same process into it.
    """
    home = network_of(host.leader)
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            argv = (folder / "cmdline").read_bytes()
            is_sudo = argv.partition(b"\0")[0].endswith(b"sudo")
            if b"\0-c\0exec(" in argv and not is_sudo and network_of(folder.name) == home:
                found.append(int(folder.name))
    return found


def network_of(pid: int | str | None) -> str:
    """The network namespace of a process, which is its host's."""
    return os.readlink(f"/proc/{pid}/ns/net")
