"""The coordinator's line to this host: JSON lines over stdin and stdout, one request at a time.

First line out: {"hello": {"format", "version", "hostname", "pid"}}. In: {"id", "verb", "args"}.
Out: any number of {"id", "progress": text}, then {"id", "ok": value} or {"id", "error": {...}}.
When the line drops, the step at hand is finished and journaled, and then the agent ends.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, BinaryIO, Optional, Protocol

from agent import __version__
from agent.entry.verbs import VERBS, Verb
from agent.errors import RescueError, StepFailed, UsageError
from agent.host import Host, memory
from agent.log import logger
from agent.model.codec import canonical, parse_json

FORMAT = 1
_MAX_LINE = 32 * 1024 * 1024


class Lines(Protocol):
    """Where requests come from."""

    def readline(self, limit: int, /) -> bytes:
        """The next line, at most `limit` bytes of it; b"" at the end."""


def serve(host: Host, lines: Lines, out: BinaryIO) -> int:
    """Answer requests until end of input. Returns the exit code."""
    for name in (signal.SIGHUP, signal.SIGPIPE):
        signal.signal(name, signal.SIG_IGN)  # a dropped line must not end a step in the middle
    line = Line(out)
    line.send(
        {"hello": {"format": FORMAT, "version": __version__, "hostname": host.hostname(),
                   "pid": os.getpid()}}
    )  # fmt: skip
    while request := lines.readline(_MAX_LINE + 1):
        if len(request) > _MAX_LINE:
            line.send({"id": None, "error": UsageError("request larger than 32 MiB").to_plain()})
            return UsageError.exit_code
        _answer(host, request, line)
        if line.lost:
            break
    _lower_guard(host)
    return 0


def _lower_guard(host: Host) -> None:
    """Take the guard of the peer port along; a session that raised none has not even loaded it."""
    guard = sys.modules.get("agent.actions.guard")
    if guard is not None and guard.is_up():
        guard.lower(host)


class Line:
    """The way back to the coordinator; once it is lost, what is said is dropped, quietly."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self.lost = False

    def send(self, message: dict[str, Any]) -> None:
        """Write one message and flush it."""
        if self.lost:
            return
        try:
            self._out.write(canonical(message) + b"\n")
            self._out.flush()
        except OSError as error:
            self.lost = True
            logger().warning("line lost", error=str(error))


def _answer(host: Host, request: bytes, line: Line) -> None:
    number: Any = None
    try:
        data = parse_request(request)
        number = data.get("id")
        verb, args = _verb(data)
        say: Callable[[str], None] = lambda text: line.send({"id": number, "progress": text})  # noqa: E731
        line.send({"id": number, "ok": verb(host, args, say)})
    except RescueError as error:
        line.send({"id": number, "error": error.to_plain()})
    except Exception as error:
        line.send({"id": number, "error": _meant(error).to_plain()})


def _meant(error: Exception) -> RescueError:
    """What an error that is none of ours means to the operator."""
    if memory.is_exhausted(error):
        logger().exception("out of memory")
        return memory.exhausted()
    if isinstance(error, OSError):
        return _refused_by_system(error)
    # A mistake of ours must reach the operator as a message, with its trace in stderr.
    logger().exception("internal error")
    return RescueError(
        f"internal error: {type(error).__name__}: {error}",
        "this is a defect of etcd-rescue; the journal says what was done",
        "fab journal",
    )


def _refused_by_system(error: OSError) -> StepFailed:
    logger().warning("the operating system refused it", error=str(error))
    place = f": {error.filename}" if error.filename else ""
    return StepFailed(
        f"{error.strerror or error}{place}",
        "the operating system refused it; what was done so far is in the journal",
        "mend that, then: fab resume   (or: fab rollback)",
    )


def parse_request(request: bytes) -> dict[str, Any]:
    """One line of a coordinator. Raises UsageError where it is no JSON object."""
    data = parse_json(request, "request is not JSON")
    if not isinstance(data, dict):
        raise UsageError("request is not an object with `verb` and `args`")
    return data


def _verb(request: dict[str, Any]) -> tuple[Verb, dict[str, Any]]:
    verb, args = request.get("verb"), request.get("args", {})
    if not isinstance(args, dict):
        raise UsageError("`args` is not an object")
    if not isinstance(verb, str) or verb not in VERBS:
        raise UsageError(f"unknown verb {verb!r}", f"known: {', '.join(sorted(VERBS))}")
    return VERBS[verb], args


def main_session(host: Host, lines: Optional[Lines] = None) -> int:
    """Serve on this process's stdin and stdout. lines: in place of stdin's."""
    return serve(host, lines or sys.stdin.buffer, sys.stdout.buffer)
