"""Runs one process to its end with bounded output: what it says cannot fill our memory."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Optional

_CHUNK = 65536
_INPUT = "in"


class TooMuch(Exception):
    """A process that said more than the limit; it was killed."""


def capture(
    argv: Sequence[str],
    env: Mapping[str, str],
    timeout: float,
    input: Optional[bytes],
    limit: int,
    first: Optional[Callable[[], None]] = None,
) -> tuple[int, bytes, bytes]:
    """(exit code, stdout, stderr) of a command; with no input but the bytes given.

    limit: bytes that it may say on both together. first: what the child does before it becomes the
    command. Raises FileNotFoundError and other OSErrors of
    starting it; subprocess.TimeoutExpired; TooMuch. Whatever it raises, the process is dead.
    """
    deadline = time.monotonic() + timeout
    with subprocess.Popen(
        list(argv),
        stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(env),
        bufsize=0,
        preexec_fn=first,
    ) as process:
        try:
            said = _exchange(process, input or b"", limit, deadline)
            code = process.wait(max(deadline - time.monotonic(), 0))
        except BaseException:
            process.kill()
            raise
    return code, said["out"], said["err"]


def _exchange(
    process: subprocess.Popen[bytes], input: bytes, limit: int, deadline: float
) -> dict[str, bytes]:
    """Give the input and take the output until both ends are closed."""
    taken: dict[str, list[bytes]] = {"out": [], "err": []}
    left, view = limit, memoryview(input)
    with selectors.DefaultSelector() as waiting:
        for pipe, name in ((process.stdout, "out"), (process.stderr, "err")):
            waiting.register(pipe, selectors.EVENT_READ, name)  # type: ignore[arg-type]
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
            waiting.register(process.stdin, selectors.EVENT_WRITE, _INPUT)
        while waiting.get_map():
            ready = waiting.select(max(deadline - time.monotonic(), 0))
            if not ready:
                raise subprocess.TimeoutExpired(process.args, 0)
            for key, _events in ready:
                if key.data == _INPUT:
                    view = _give(key.fd, view)
                    data = bytes(view[:1])
                else:
                    data = os.read(key.fd, _CHUNK)
                    taken[key.data].append(data)
                    left -= len(data)
                if not data:
                    waiting.unregister(key.fileobj)
                    key.fileobj.close()  # type: ignore[union-attr]
                if left < 0:
                    raise TooMuch
    return {name: b"".join(pieces) for name, pieces in taken.items()}


def _give(fd: int, view: memoryview) -> memoryview:
    """Write some of the input; nothing is left of it where nobody reads any more."""
    try:
        return view[os.write(fd, view[:_CHUNK]) :]
    except BrokenPipeError:
        return view[:0]
    except BlockingIOError:
        return view
