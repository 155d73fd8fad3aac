"""An enclosure: namespaces that hold a whole lab and end with their first process.

The outer process stays where it was and waits. Its child is process 1 of new pid, mount, network,
IPC and UTS namespaces and dies with it, whatever killed it; and with process 1 the kernel ends
every process, mount and network device inside. State lies on a tmpfs of the private /run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType

from tests.lab import cgroups, names, operator_home
from tests.lab import syscalls as sys_
from tests.lab.paths import CGROUP_PREFIX, ENCLOSURE_MARK, OPERATOR_HOME, STATE_DIR

_NAMESPACES = sys_.CLONE_NEWNS | sys_.CLONE_NEWNET | sys_.CLONE_NEWIPC | sys_.CLONE_NEWUTS
_FORWARDED = (signal.SIGTERM, signal.SIGHUP)


def is_enclosed() -> bool:
    """Whether this process is inside an enclosure."""
    return ENCLOSURE_MARK.exists()


def group_name() -> str:
    """The control group under which this enclosure's hosts have theirs."""
    return ENCLOSURE_MARK.read_text()


def operator_environment(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of the operator inside an enclosure."""
    kept = {key: value for key, value in env.items() if not key.startswith("SSH_")}
    return {**kept, "HOME": str(OPERATOR_HOME), "USER": "root", "LOGNAME": "root"}


def enclose(argv: Sequence[str], on_start: Callable[[int], None] | None = None) -> int:
    """Run a command in a new enclosure and return its exit code (128 + N after signal N)."""
    cgroups.remove_leftovers()
    group = f"{CGROUP_PREFIX}{os.getpid()}.{time.monotonic_ns() // 1_000_000}"
    claim = cgroups.claim(group)
    sys_.unshare(sys_.CLONE_NEWPID)
    child = os.fork()
    if child == 0:
        sys_.die_with_parent(signal.SIGKILL)
        _be_first_process(argv, group)
    if on_start:
        on_start(child)
    code = _wait(child)
    _remove_groups(group)
    claim.close()
    cgroups.remove_leftovers()
    return code


def _remove_groups(group: str) -> None:
    deadline = time.monotonic() + 5
    while not cgroups.remove(group) and time.monotonic() < deadline:
        time.sleep(0.05)


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _wait(child: int) -> int:
    """Wait for process 1, handing on what is meant for the command."""

    def forward(number: int, _frame: FrameType | None) -> None:
        os.kill(child, number)

    for number in _FORWARDED:
        signal.signal(number, forward)
    # The terminal sends Ctrl-C to the command as well; it decides what that means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return _exit_code(os.waitpid(child, 0)[1])


def _be_first_process(argv: Sequence[str], group: str) -> None:
    """Furnish the enclosure, run the command and reap orphans until it ends; never returns."""
    code = 125
    try:
        sys_.unshare(_NAMESPACES)
        _furnish(group)
        command = subprocess.Popen(
            list(argv), env=operator_environment(os.environ), preexec_fn=_default_signals
        )
        for number in _FORWARDED:
            signal.signal(number, lambda given, _frame: os.kill(command.pid, given))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        code = _reap_until(command.pid)
    except Exception as error:
        print(f"lab: cannot make an enclosure: {error}", file=sys.stderr)
    finally:
        sys.stdout.flush()
        os._exit(code)


def _default_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _reap_until(command: int) -> int:
    while True:
        pid, status = os.wait()
        if pid == command:
            return _exit_code(status)


def _furnish(group: str) -> None:
    """Give the enclosure its own /proc, /run, name resolution and operator."""
    sys_.mount("none", "/", flags=sys_.MS_REC | sys_.MS_PRIVATE)
    quiet = sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOEXEC
    sys_.mount("proc", "/proc", "proc", quiet)
    sys_.mount("tmpfs", "/run", "tmpfs", 0, "mode=755,size=90%")
    for folder in ("/run/netns", "/run/lock", str(STATE_DIR)):
        Path(folder).mkdir(parents=True)
    ENCLOSURE_MARK.write_text(group)
    _bind("hosts", names.hosts_file(), "/etc/hosts")
    _bind("passwd", operator_home.passwd_with_home(Path("/etc/passwd")), "/etc/passwd")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    operator_home.create()


def _bind(name: str, content: str, target: str) -> None:
    source = STATE_DIR / f"etc-{name}"
    source.write_text(content)
    sys_.mount(str(source), target, flags=sys_.MS_BIND)
