"""What delivery and transfers need of a way onto a host, and nothing more.

A line starts processes on one host and gives their stdin, stdout and stderr. Each of them says {}
and waits: a shell for the line that finds it a Python (onhost/start.sh), or a Python for the
bootstrap. From there on it is the same conversation over every transport.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from coordinator.streams import BulkStream, ByteStream

PYTHON_ARGS = "-E -s -S -c"
PROGRAM = "exec(input(str(dict())+chr(10)))"
"""For a transport without a shell: says {} on a line of its own, then runs the line of Python that
comes."""

CommandLine = Callable[[bool], str]
"""Gives the command line for a login shell that starts that shell, told whether it is root's."""


class Line(Protocol):
    """An open way onto one host. Whatever of it raises, raises Unreachable or Refused."""

    words: tuple[str, ...]
    """What the agent's arguments begin with over this transport."""

    has_shell: bool
    """Whether it is a shell that `start` starts; else it is a Python."""

    def start(self, command: CommandLine) -> ByteStream:
        """Start the process that becomes the agent.

        A transport that has no shell on the other side starts its own, without `command`.
        """

    def start_bulk(self, command: CommandLine) -> Iterator[BulkStream]:
        """The same for large transfers: streams to try one after the other, the fastest first."""

    def close(self) -> None:
        """Let go of the way; what was started over it has ended, or ends by itself."""
