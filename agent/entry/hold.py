"""A debug pod is kept for as long as somebody works in it, and ends by itself.

Its own command is `rescue-agent hold`. Whoever works in it (`rescue-agent --held …`, started there
by `oc exec`) keeps a connection to it open, which the kernel closes however that process ends. The
pod ends with the last of them; and where nobody came, or nothing came from the coordinator for as
long as an idle session may last, so does what waits. What is cut off in the middle of a step is in
the journal, on the host.
"""

from __future__ import annotations

import os
import select
import socket
import time
from contextlib import suppress

from agent.errors import Refused

READY = "etcd-rescue: ready"
"""What `hold` says first; the coordinator waits for it (coordinator/transports/pod.py)."""

FIRST_SECONDS = 300.0
"""How long a pod waits for the first who works in it."""

SIGN_SECONDS = 60.0

IDLE_SECONDS = 900.0
"""How long a session in a pod waits for a request: as long as a shell of oc debug's own."""

_SOCKET = "/run/etcd-rescue-hold"
"""In the pod's own file system, not the host's."""

_JOIN_SECONDS = 10.0
_STEP = 0.05
_CHUNK = 65536


def hold(path: str = _SOCKET, first: float = FIRST_SECONDS, sign: float = SIGN_SECONDS) -> int:
    """Wait for those who work here, and then until none is left. Returns the exit code.

    sign: seconds between two signs of life. oc follows the pod's log; a proxy on the way cuts off
    what is silent for long, and oc then takes the pod away 15 minutes after it made it.
    """
    with suppress(FileNotFoundError):
        os.unlink(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen()
        print(f"{READY}; this pod ends by itself", flush=True)
        deadline = time.monotonic() + first
        workers: list[socket.socket] = []
        while True:
            left = sign if workers else max(deadline - time.monotonic(), 0)
            ready = select.select([listener, *workers], [], [], left)[0]
            if not ready and not workers:
                print("etcd-rescue: nobody came", flush=True)
                return 0
            if not ready:
                print("etcd-rescue: at work", flush=True)
            had_workers = bool(workers)
            workers = [each for each in workers if each not in ready or each.recv(1)]
            if listener in ready:
                workers.append(listener.accept()[0])
            if had_workers and not workers:
                return 0


def join(path: str = _SOCKET, patience: float = _JOIN_SECONDS) -> socket.socket:
    """Keep the pod for as long as what this gives is open. Raises Refused where nothing holds it.

    The pod's own command may still be starting.
    """
    deadline = time.monotonic() + patience
    while True:
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            line.connect(path)
            return line
        except OSError as error:
            line.close()
            if time.monotonic() > deadline:
                raise Refused(
                    f"nothing holds this pod: {path}: {error.strerror}",
                    "--held is for what fab starts in a debug pod whose command is `hold`",
                    "rescue-agent survey   (without --held)",
                ) from None
        time.sleep(_STEP)


class PatientLines:
    """Lines of a descriptor; one on which nothing came for `idle` seconds has ended."""

    def __init__(self, fd: int, idle: float = IDLE_SECONDS) -> None:
        self._fd, self._idle = fd, idle
        self._rest = b""

    def readline(self, limit: int) -> bytes:
        """The next line with its newline, at most `limit` bytes of it; b"" at the end."""
        while b"\n" not in self._rest and len(self._rest) < limit:
            if not select.select([self._fd], [], [], self._idle)[0]:
                return b""
            data = os.read(self._fd, _CHUNK)
            if not data:
                break
            self._rest += data
        end = self._rest.find(b"\n") + 1 or len(self._rest)
        line, self._rest = self._rest[: min(end, limit)], self._rest[min(end, limit) :]
        return line


def require_root(root: str) -> None:
    """Raise Refused unless a host's file system is there: in a pod it has to be mounted."""
    if root == "/" or os.path.isdir(root):
        return
    raise Refused(
        f"{root} holds no host's file system",
        "in a pod or a container this works on the host that is mounted there",
        "oc debug node/NAME --image=IMAGE -- rescue-agent survey; or give --root",
    )
