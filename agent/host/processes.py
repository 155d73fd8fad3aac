"""The processes of a host: the part of the door (host.py) that runs and looks at them."""

from __future__ import annotations

import os
import resource
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

from agent.errors import CommandFailed
from agent.host.capture import TooMuch, capture
from agent.host.syscalls import die_with_parent
from agent.log import debug

if TYPE_CHECKING:
    import psutil

_MAX_OUTPUT = 8 * 1024 * 1024


@dataclass(frozen=True)
class Completed:
    """A process that ended: its argv, exit code and output (decoded, bounded)."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str


class Processes:
    """Runs commands of the host and looks at its processes; Host is its only heir."""

    root: str

    def real(self, path: str) -> str:
        """Give the path to open for the host's `path`."""
        raise NotImplementedError

    def folder(self, path: str) -> AbstractContextManager[tuple[int, str]]:
        """Give (descriptor of the directory that `path` lies in, its name there)."""
        raise NotImplementedError

    # ---- processes ---------------------------------------------------------------------------

    def _first(
        self, dies_with_us: bool = False, unlimited: bool = False
    ) -> Optional[Callable[[], None]]:
        """What a child does before it becomes the command; None: nothing.

        Where the host lies under a prefix it enters that by itself, so that the command is looked
        for, loaded and run in the host's own root, and no chroot(1) is needed on our side.
        """
        if self.root == "/" and not dies_with_us:
            return None

        def enter() -> None:
            if self.root != "/":
                os.chroot(self.root)
                os.chdir("/")
            if unlimited:
                lift_own_limits()
            if dies_with_us:
                die_with_parent()

        return enter

    def run(
        self,
        argv: Sequence[str],
        timeout: float = 10.0,
        ok: Sequence[int] = (0,),
        env: Optional[Mapping[str, str]] = None,
        input: Optional[bytes] = None,
    ) -> Completed:
        """Run a command of the host without a shell; with no input but the bytes given.

        Raises CommandFailed where it is missing, outlives `timeout` seconds, says more than 8 MiB,
        or ends with an exit code that is not in `ok`.
        """
        shown, start = " ".join(argv), time.monotonic()
        try:
            code, out, err = capture(
                argv, clean_env(env), timeout, input, _MAX_OUTPUT, self._first()
            )
        except FileNotFoundError:
            raise CommandFailed(f"{argv[0]}: no such command on this host") from None
        except subprocess.TimeoutExpired:
            raise CommandFailed(f"`{shown}` did not end within {timeout:g} s") from None
        except TooMuch:
            raise CommandFailed(f"`{shown}` said more than {_MAX_OUTPUT >> 20} MiB") from None
        except ValueError as error:  # a NUL byte in an argument
            raise CommandFailed(f"`{shown}` cannot be run: {error}") from None
        debug("ran", argv=argv, code=code, seconds=round(time.monotonic() - start, 3))
        result = Completed(
            tuple(argv), code, out.decode(errors="replace"), err.decode(errors="replace")
        )
        if result.code not in ok:
            said = (result.stderr.strip() or result.stdout.strip())[-2000:]
            raise CommandFailed(f"`{shown}` ended with exit code {result.code}: {said}")
        return result

    def spawn(self, argv: Sequence[str], log: str) -> subprocess.Popen[bytes]:
        """Start a command that dies with us (PDEATHSIG), its output appended to `log` (0600).

        A killed agent must not leave a scratch etcd behind that holds a lock on the copy. It has no
        limits of a login's (ulimit), as the etcd that a kubelet or systemd starts has none: Go
        reserves, and etcd maps, far more than they use.
        """
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        with self.folder(log) as (folder, name):
            fd = os.open(name, flags, 0o600, dir_fd=folder)
        try:
            return subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=fd,
                stderr=fd,
                env=clean_env(),
                start_new_session=True,
                preexec_fn=self._first(dies_with_us=True, unlimited=True),
            )
        finally:
            os.close(fd)

    def stream(
        self,
        argv: Sequence[str],
        out: Callable[[str, bytes], None],
        env: Optional[Mapping[str, str]] = None,
        until: int = -1,
    ) -> int:
        """Run a command without a shell and without input, and hand on what it says as it says it.

        out: takes ("out" or "err", bytes). until: a descriptor; when its other side is gone, the
        command is ended. Gives the exit code, negative after a signal. Raises CommandFailed where
        there is no such command.
        """
        try:
            child = subprocess.Popen(
                list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, env=clean_env(env),
                preexec_fn=self._first(dies_with_us=True),
            )  # fmt: skip
        except FileNotFoundError:
            raise CommandFailed(f"{argv[0]}: no such command on this host") from None
        assert child.stdout is not None and child.stderr is not None  # noqa: S101, PT018
        names = {child.stdout.fileno(): "out", child.stderr.fileno(): "err"}
        poll = select.poll()
        for fd in names:
            poll.register(fd, select.POLLIN)
        if until >= 0:
            poll.register(until, 0)  # hang-ups alone
        with child:
            while names:
                for fd, _event in poll.poll():
                    data = os.read(fd, 65536) if fd in names else b""
                    if data:
                        out(names[fd], data)
                    elif fd in names:
                        poll.unregister(fd)
                        del names[fd]
                    else:
                        child.terminate()
                        poll.unregister(fd)
        return child.returncode

    def which(self, name: str) -> str:
        """The host's path of a command, or an empty string."""
        for directory in (
            "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin",
            "/opt/bin", "/usr/libexec",
        ):  # fmt: skip
            path = f"{directory}/{name}"
            if os.access(self.real(path), os.X_OK):
                return path
        return ""

    def processes(self, name: str) -> Iterator[psutil.Process]:
        """Processes of the host whose executable's name (argv[0] or comm) is `name`."""
        import psutil  # not needed to say hello

        for process in psutil.process_iter(["name", "cmdline", "status"]):
            info = process.info
            if info["status"] == psutil.STATUS_ZOMBIE:
                continue
            argv0 = os.path.basename(info["cmdline"][0]) if info["cmdline"] else ""
            if name in (argv0, info["name"]):
                yield process

    def listening_ports(self) -> set[int]:
        """TCP ports on which something of the host listens, any address."""
        found = set()
        for name in ("tcp", "tcp6"):
            try:
                with open(f"/proc/net/{name}") as file:
                    rows = file.read().splitlines()[1:]
            except OSError:
                continue
            for row in rows:
                fields = row.split()
                if fields[3] == "0A":  # TCP_LISTEN, include/net/tcp_states.h
                    found.add(int(fields[1].rsplit(":", 1)[1], 16))
        return found

    def listening_since(self, port: int) -> Optional[float]:
        """When the newest process that listens on a TCP port was started; None where none does.

        Seconds since the epoch, true to a second (the kernel counts from the boot).
        """
        import psutil

        pids = {
            row.pid
            for row in psutil.net_connections("tcp")
            if row.status == psutil.CONN_LISTEN and row.laddr and row.laddr.port == port and row.pid
        }
        found = []
        for pid in pids:
            with suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(pid).create_time())
        return max(found, default=None)


def lift_own_limits() -> None:
    """Take back what a login's ulimit says of memory: all of it takes CAP_SYS_RESOURCE."""
    for which in (resource.RLIMIT_DATA, resource.RLIMIT_AS):
        hard = resource.getrlimit(which)[1]
        for limit in (hard, resource.RLIM_INFINITY):
            with suppress(OSError, ValueError):
                resource.setrlimit(which, (limit, limit))


def forbid_core_dumps() -> None:
    """No core of ours or of a child: keys and values are in our memory.

    1 and not 0: with 0 a core_pattern that is a pipe is still fed (fs/coredump.c, do_coredump).
    """
    limit = min(1, resource.getrlimit(resource.RLIMIT_CORE)[1] % (1 << 62))  # unlimited is -1
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))


def clean_env(extra: Optional[Mapping[str, str]] = None) -> dict[str, str]:
    """The environment every child gets: nothing of ours that could change what it does or says."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/bin"
    return {"PATH": path, "LC_ALL": "C", "HOME": "/root", **(extra or {})}
