"""What an operator's login and all that it starts on a host execute and create, by strace."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.host import Host, wait_until

_LOG = "/root/trace"
_CALLS = (
    "execve,umask,open,openat,creat,mkdir,mkdirat,mknod,mknodat,chmod,fchmod,fchmodat,"
    "clone,clone3,fork,vfork"
)
_LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)(?:<.*>)?(?: .*)?$")
_PATH = re.compile(r'^(?:(?:AT_FDCWD|\d+)(?:<(.*?)>)?, )?"((?:[^"\\]|\\.)*)"')
_FD = re.compile(r"^\d+<(.*?)>")
_MODE = re.compile(r"0(\d*)$")


@dataclass(frozen=True)
class Made:
    """A file or directory that came to be, or got a mode; mode: what its permissions became."""

    call: str
    path: str
    mode: int


@dataclass
class Trace:
    """Every command line that was executed, and everything that was created."""

    argv: list[str] = field(default_factory=list)
    made: list[Made] = field(default_factory=list)
    calls: int = 0

    def below(self, *places: str) -> list[Made]:
        """What was made below these directories, they themselves included."""
        return [m for m in self.made if any(f"{m.path}/".startswith(f"{p}/") for p in places)]


@contextmanager
def traced(host: Host) -> Iterator[Trace]:
    """Watch the host's sshd and all that comes from it; the trace is filled at the end."""
    shown = host.run(["systemctl", "show", "-p", "MainPID", "--value", "ssh"]).stdout.strip()
    words = ["strace", "-f", "-y", "-s", "1000000", "-e", f"trace={_CALLS}", "-o", _LOG, "-p"]
    tracer = subprocess.Popen(
        host.enter_command([*words, shown]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    found = Trace()
    try:
        wait_until(lambda: _is_traced(host, shown), 10, "strace to attach to sshd")
        yield found
    finally:
        tracer.send_signal(signal.SIGTERM)
        tracer.wait(20)
    _read(host.path(_LOG), found)


def _is_traced(host: Host, pid: str) -> bool:
    return "TracerPid:\t0\n" not in host.run(["cat", f"/proc/{pid}/status"]).stdout


def _read(log: Path, into: Trace) -> None:
    umask: dict[str, int] = {}
    unfinished: dict[str, str] = {}
    for raw in log.read_text(errors="backslashreplace").splitlines():
        line = _whole(raw, unfinished)
        found = _LINE.match(line) if line else None
        if not found:
            continue
        pid, call, args, result = found.groups()
        into.calls += 1
        if call == "execve":
            into.argv.append(args)
        elif int(result) < 0:
            continue
        elif call == "umask":
            umask[pid] = int(args.lstrip("0") or "0", 8)
        elif call in ("clone", "clone3", "fork", "vfork"):
            umask[result] = umask.get(pid, 0)
        else:
            into.made += _made(call, args, umask.get(pid, 0))


def _whole(raw: str, unfinished: dict[str, str]) -> str:
    """A call on one line; strace cuts those during which another process is seen in two."""
    pid, _, rest = raw.partition(" ")
    rest = rest.lstrip()
    if rest.endswith("<unfinished ...>"):
        unfinished[pid] = rest[: -len("<unfinished ...>")].rstrip()
        return ""
    resumed = re.match(r"<\.\.\. \w+ resumed>(.*)$", rest)
    if resumed:
        rest = unfinished.pop(pid, "") + resumed.group(1)
    return f"{pid} {rest}"


def _made(call: str, args: str, umask: int) -> Iterator[Made]:
    mode = _MODE.search(args)
    creates = "O_CREAT" in args or call in ("creat", "mkdir", "mkdirat", "mknod", "mknodat")
    is_chmod = "chmod" in call
    if not mode or not (creates or is_chmod):
        return
    given = int(mode.group(1) or "0", 8)
    yield Made(call, _path(args), given if is_chmod else given & ~umask)


def _path(args: str) -> str:
    found = _PATH.match(args)
    if found:
        name = shlex.split(f'"{found.group(2)}"')[0]
        return os.path.normpath(os.path.join(found.group(1) or "/", name))
    handle = _FD.match(args)
    return handle.group(1) if handle else args
