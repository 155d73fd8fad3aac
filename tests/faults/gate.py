"""The other side of shim.py: every call of an agent that touches the disk waits for a word here.

A call is held by the kernel until it is answered, so a process can be stopped exactly before one,
looked at, and killed there: the call is then never carried out.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import fcntl
import os
import select
import signal
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tests.faults import shim
from tests.lab.host import Host, wait_until
from tests.lab.lab import Lab

_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, _SEND
_CONTINUE = 1
_NAMES = {
    1: "write", 74: "fsync", 75: "fdatasync", 82: "rename", 264: "renameat", 316: "renameat2",
    59: "execve", 322: "execveat",
}  # fmt: skip
_CWD = -100  # AT_FDCWD


@dataclass(frozen=True)
class Call:
    """One system call, before it is carried out. path, target: the host's own names.

    agent: the process of the agent. by_agent: its main thread calls; else a process that it
    started. data: what is to be written, of a write; argv: of an exec.
    """

    host: str
    agent: int
    name: str
    by_agent: bool
    path: str = ""
    target: str = ""
    data: bytes = b""
    argv: tuple[str, ...] = ()


Watcher = Callable[[Call], None]


class Gate:
    """Between the agents of a lab and their disks. watch: hears of each call, and may take time."""

    def __init__(self, lab: Lab, watch: Watcher) -> None:
        self._lab, self._watch = lab, watch
        self._sockets: list[socket.socket] = []
        self.errors: list[BaseException] = []

    def __enter__(self) -> Gate:
        for host in self._lab.machines:
            self._stand_before(host)
        return self

    def __exit__(self, *_: object) -> None:
        """Watch no new agents; those that are watched stay so until they end."""
        for listening in self._sockets:
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            listening.close()

    def _stand_before(self, host: Host) -> None:
        place = host.path(shim.SOCKET)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(place))
        listening.listen(16)
        place = host.path("/usr/bin") / "python3"  # the link itself
        place.unlink()
        place.write_bytes(Path(shim.__file__).read_bytes())
        place.chmod(0o755)
        self._sockets.append(listening)
        threading.Thread(target=self._accept, args=(host.name, listening), daemon=True).start()

    def _accept(self, host: str, listening: socket.socket) -> None:
        while True:
            try:
                came, _address = listening.accept()
            except OSError:
                return
            with came:
                peer = came.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                agent = struct.unpack("3i", peer)[0]
                _data, carried, _flags, _from = came.recvmsg(1, socket.CMSG_SPACE(4))
                if not carried:
                    continue
                listener = array.array("i", carried[0][2])[0]
                threading.Thread(
                    target=self._serve, args=(host, agent, listener), daemon=True
                ).start()
                came.send(b"+")

    def _serve(self, host: str, agent: int, listener: int) -> None:
        """Answer for one agent and all that it starts, until none of them is left."""
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        while True:
            ((_fd, events),) = poll.poll()
            if not events & select.POLLIN:
                break
            message = bytearray(80)
            try:
                fcntl.ioctl(listener, _RECEIVE, message, True)
            except OSError:
                continue  # it was killed meanwhile
            id, pid, _flags, number, _arch, _ip, *args = struct.unpack("QIIiIQ6Q", message)
            try:
                base = Call(host, agent, _NAMES[number], by_agent=pid == agent)
                self._watch(_read_call(base, pid, args))
            except Exception as error:
                self.errors.append(error)
            with contextlib.suppress(OSError):
                fcntl.ioctl(listener, _SEND, struct.pack("QqiI", id, 0, 0, _CONTINUE))
        os.close(listener)


def _read_call(base: Call, pid: int, args: list[int]) -> Call:
    try:
        if base.name == "rename":
            return replace(base, path=_text(pid, args[0]), target=_text(pid, args[1]))
        if base.name.startswith("rename"):
            path, target = _path_at(pid, args[0], args[1]), _path_at(pid, args[2], args[3])
            return replace(base, path=path, target=target)
        if base.name.startswith("exec"):
            return replace(base, argv=_words(pid, args[2 if base.name == "execveat" else 1]))
        path = os.readlink(f"/proc/{pid}/fd/{args[0]}")
        is_record = base.name == "write" and base.by_agent and "/journal/" in path
        data = _memory(pid, args[1], min(args[2], 1 << 20)) if is_record else b""
        return replace(base, path=path, data=data)
    except OSError:
        return base  # it is gone


def _memory(pid: int, address: int, size: int) -> bytes:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        return os.pread(memory.fileno(), size, address)


def _text(pid: int, address: int) -> str:
    """A C string of another process; it may end right before an unmapped page."""
    found = b""
    while b"\0" not in found and len(found) < 4096:
        here = address + len(found)
        found += _memory(pid, here, 4096 - here % 4096)
    return found.partition(b"\0")[0].decode(errors="replace")


def _path_at(pid: int, folder: int, address: int) -> str:
    """A path of the renameat family: relative to an open directory, unless it is absolute."""
    path = _text(pid, address)
    descriptor = ctypes.c_int(folder).value
    if path.startswith("/") or descriptor == _CWD:
        return path
    return os.path.join(os.readlink(f"/proc/{pid}/fd/{descriptor}"), path)


def _words(pid: int, address: int) -> tuple[str, ...]:
    words: list[str] = []
    while len(words) < 200:
        pointer = int.from_bytes(_memory(pid, address + 8 * len(words), 8), "little")
        if not pointer:
            break
        words.append(_text(pid, pointer))
    return tuple(words)


def kill(pid: int) -> None:
    """SIGKILL a process that stands at the gate, and see it gone before the call is answered."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not lives(pid), 10, f"the end of process {pid}")


def lives(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
