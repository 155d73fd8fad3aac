"""Log lines in the kubelet's format, on standard error, which is the journal."""

from __future__ import annotations

import os
import sys
import time


def duration(seconds: float) -> str:
    """A duration as Go prints it: 500ms, 10s, 1m20s, 5m0s."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}m{rest:g}s" if minutes else f"{rest:g}s"


def _log(level: str, message: str, **values: object) -> None:
    now = time.time()
    stamp = time.strftime("%m%d %H:%M:%S", time.localtime(now))
    caller = sys._getframe(2)
    place = f"{os.path.basename(caller.f_code.co_filename)}:{caller.f_lineno}"
    pairs = "".join(f" {key}={_quoted(value)}" for key, value in values.items())
    micro = int(now % 1 * 1_000_000)
    line = f'{level}{stamp}.{micro:06d} {os.getpid():7d} {place}] "{message}"{pairs}\n'
    sys.stderr.write(line)
    sys.stderr.flush()


def _quoted(value: object) -> str:
    text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'


def info(message: str, **values: object) -> None:
    """Log at level I."""
    _log("I", message, **values)


def error(message: str, **values: object) -> None:
    """Log at level E."""
    _log("E", message, **values)
