"""Takes the carried runtime along to a host whose Python will not do, or that has none."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from agent.errors import Refused, Unreachable, plain
from coordinator.channel import Messages
from coordinator.onhost.code import install_line
from coordinator.runtime_file import RuntimeFile, find_runtime
from coordinator.streams import ByteStream

STEP_TIMEOUT = 60.0
"""Seconds that the host may be silent: checking and unpacking 23 MB takes it one or two."""

_PUSH_TIMEOUT = 300.0


def take_along(
    host: str, stream: ByteStream, messages: Messages, report: dict[str, Any], code: bytes
) -> dict[str, Any] | None:
    """Give the host a runtime; its interpreter is running `code` when this returns.

    report: what start.sh said. Returns None, or the host's report of why it could not be done, with
    "error". Raises Refused where there is no runtime for that machine, or the host lacks what it
    takes; Unreachable, TimeoutError, OSError.
    """
    machine, lacks = str(report.get("arch", "")), str(report.get("lacks", ""))
    found = str(report.get("found", ""))
    runtime = find_runtime(machine)
    if runtime is None or lacks:
        raise _cannot(host, machine, lacks, found)
    _tell(host, found, runtime)
    _send(stream, install_line(runtime))
    while True:
        message = _next(host, messages)
        if "error" in message:
            return message
        if message.get("send") == "code":
            stream.write(code, STEP_TIMEOUT)
            return None
        _send(stream, _part(runtime, message, messages))


def _next(host: str, messages: Messages) -> dict[str, Any]:
    try:
        return messages.next(STEP_TIMEOUT)
    except Unreachable:
        raise Unreachable(
            f"{host}: the line broke while the interpreter was on its way there",
            "what came of it is not used; the next run sends it again",
            "the same command again, once the host answers",
        ) from None


def _tell(host: str, found: str, runtime: RuntimeFile) -> None:
    """Say why this connection takes longer than others; on stderr, as progress is."""
    has = f" ({found})" if found else ""
    mib = (runtime.size + runtime.busybox_size) >> 20
    text = f"{host}: no Python 3.9 or newer there{has}: an interpreter goes there, {mib} MiB, once"
    print(plain(text), file=sys.stderr, flush=True)


def _part(runtime: RuntimeFile, message: dict[str, Any], messages: Messages) -> bytes:
    part = {"busybox": runtime.busybox, "archive": runtime.path}.get(str(message.get("send")))
    if part is None:
        messages.refuse()
        return b""
    return part.read_bytes()


def _send(stream: ByteStream, data: bytes) -> None:
    """Send; a host that takes no more has said why, which comes next."""
    with contextlib.suppress(EOFError):
        try:
            stream.write(data, _PUSH_TIMEOUT)
        except TimeoutError:
            raise
        except OSError:
            return


def _cannot(host: str, machine: str, lacks: str, found: str) -> Refused:
    seen = f"{host}: no Python 3.9 or newer there" + (f" ({found})" if found else "")
    if lacks:
        return Refused(
            f"{seen}, and the carried runtime needs commands that it lacks: {lacks}",
            "the agent is a Python program",
            f"install python3 on {host}, or run the agent from the debug-pod image",
        )
    return Refused(
        f"{seen}, and here is no runtime for {machine or 'its machine'} to take along",
        "the agent is a Python program; nothing is downloaded while a rescue runs",
        f"make runtime MACHINES={machine or 'all'} (docs/hosts-without-python.md); "
        f"or install python3 on {host}",
    )
