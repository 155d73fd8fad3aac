"""The lab's one door to processes: argv lists, no stdin, errors that carry the output."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

Argument = str | Path


class CommandFailed(RuntimeError):
    """A command of the lab ended with a code other than zero."""

    def __init__(self, argv: Sequence[str], code: int, output: str) -> None:
        super().__init__(f"{' '.join(argv)}: exit code {code}\n{output.strip()[-4000:]}")
        self.argv = list(argv)
        self.code = code
        self.output = output


def run(
    argv: Sequence[object],
    *,
    check: bool = True,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = 300,
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end and return its output as text."""
    words = [str(word) for word in argv]
    done = subprocess.run(
        words,
        input=stdin if stdin is not None else "",
        capture_output=True,
        text=True,
        errors="replace",
        env=env,
        cwd=cwd,
        timeout=timeout,
    )
    if check and done.returncode:
        raise CommandFailed(words, done.returncode, done.stderr + done.stdout)
    return done
