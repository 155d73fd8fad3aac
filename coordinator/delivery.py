"""Gets the right agent onto a host, once, and starts it: check, push if needed, run, in one exec.

What goes over the line: the command below starts a shell that says {} and reads a line
(onhost/start.sh), which takes a Python of the host's, or the carried runtime's where none will do
(onhost/install.sh). That Python reads `bootstrap.py`, as one line; it answers {"have", "python",
"arch"}; the agent file follows where it is not there yet; then comes the agent's hello. A host
fetches nothing, and nothing of it lies in /tmp.

What runs as root is always the same short command, so that sudoers can name it and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import Refused, RescueError, Unreachable, plain
from agent.host import STATE_DIR
from coordinator.agent_file import AgentFile, build_agent
from coordinator.channel import Channel, Messages, greeted
from coordinator.connection import Access
from coordinator.hosts import HostSpec
from coordinator.onhost.carry import take_along
from coordinator.onhost.code import SEARCH_PATH, SHELL_PROGRAM, SUDO_COMMAND, start_lines
from coordinator.runtime_file import find_runtimes
from coordinator.streams import ByteStream
from coordinator.transports.open_line import open_line

START_TIMEOUT = 30.0
_PUSH_TIMEOUT = 120.0
_PROMPT = "etcd-rescue-sudo-password:"
_PROMPT_EVERY = 0.02
_ASK_PASSWORD = "the same command with --ask-sudo-password"
_BOOTSTRAP = (Path(__file__).parent / "bootstrap.py").read_text()


@dataclass(frozen=True)
class Code:
    """What goes ahead of the agent: two lines.

    shell: for the host's shell; empty over a transport that starts a Python itself. python: for
    whichever Python it is.
    """

    shell: bytes
    python: bytes


class WrongMachine(Refused):
    """The agent file was built for another kind of machine. machine: the host's."""

    def __init__(self, host: str, machine: str, built_for: str) -> None:
        super().__init__(f"{host} is a {machine}, the agent file was built for {built_for}")
        self.machine = machine


def open_channel(
    spec: HostSpec,
    agent_file: AgentFile,
    access: Access | None = None,
    state_dir: str = STATE_DIR,
) -> Channel:
    """Connect to a host, put the agent there if it is not, start it, and hear its hello.

    Call it again to reattach after a drop. Raises Unreachable or Refused; see `connect` for what
    can be in the way of a connection, and here: sudo, no Python, no room in `state_dir`.
    """
    access = access or Access()
    try:
        return _open(spec, agent_file, access, state_dir)
    except WrongMachine as error:
        other = build_agent(machine=error.machine)
        return _open(spec, other, access, state_dir)


def _open(spec: HostSpec, agent_file: AgentFile, access: Access, state_dir: str) -> Channel:
    line = open_line(spec, access)
    stream: ByteStream | None = None
    try:
        stream = line.start(lambda is_root: host_command(is_root, bool(access.sudo_password)))
        messages = Messages(stream, spec.name)
        words = (*line.words, "session")
        code = start_code(agent_file, state_dir, words, has_shell=line.has_shell)
        deliver(spec.name, stream, messages, code, agent_file, access)
        return greeted(spec.name, stream, messages, _with_last_words(spec.name, stream, line.close))
    except BaseException:
        if stream is not None:
            stream.close()
        line.close()
        raise


def _with_last_words(
    host: str, stream: ByteStream, let_go: Callable[[], None]
) -> Callable[[], None]:
    """In debug mode an agent's log goes to our stderr when its channel is closed."""
    if not os.environ.get("ETCD_RESCUE_DEBUG"):
        return let_go

    def close() -> None:
        for line in stream.errors().splitlines():
            print(plain(f"{host}: {line}"), file=sys.stderr)
        let_go()

    return close


def host_command(is_root: bool, has_password: bool) -> str:
    """The one command line: a login shell runs it, even csh. It carries no secret.

    Where the login is not root's, sudo runs a command that never differs.
    """
    command = shlex.join(["sh", "-c", SHELL_PROGRAM])
    if is_root:
        return command
    sudo = f"env LC_ALL=C sudo {_sudo_flags(has_password)} /bin/{command}"
    return shlex.join(["sh", "-c", f"PATH={SEARCH_PATH}; export PATH; exec {sudo}"])


def _sudo_flags(has_password: bool) -> str:
    return f"-S -p {_PROMPT}" if has_password else "-n"


def start_code(
    agent_file: AgentFile,
    state_dir: str,
    argv: Sequence[str] = ("session",),
    *,
    has_shell: bool = True,
) -> Code:
    """What the host is sent first: it finds a Python, which runs bootstrap.py and calls `start`.

    argv: the agent's verb and its arguments.
    """
    call = (state_dir, agent_file.sha256, agent_file.size, agent_file.machine, list(argv))
    debug = bool(os.environ.get("ETCD_RESCUE_DEBUG"))
    code = f"{_BOOTSTRAP}\nstart(*{call!r}, debug={debug})\n"
    shell = start_lines(state_dir, find_runtimes()) if has_shell else b""
    return Code(shell, f"exec({code!a})\n".encode("ascii"))


# ---- the conversation before hello ---------------------------------------------------------------


def deliver(
    host: str,
    stream: ByteStream,
    messages: Messages,
    code: Code,
    agent_file: AgentFile,
    access: Access,
) -> None:
    """Make what was started the agent: its code, and the agent file where it is not there yet.

    Raises Unreachable, Refused.
    """
    started = time.monotonic()
    try:
        report = None
        if access.sudo_password:
            report = _give_password(host, stream, messages, access.sudo_password)
        if report is None:
            _send(stream, code.shell + code.python)
            report = _first_report(messages)
        if not (report.get("python") or report.get("error")):
            failed = take_along(host, stream, messages, report, code.python)
            report = failed or _first_report(messages)
    except (OSError, EOFError, Unreachable) as error:
        raise _no_start(host, messages.last_words(), error, time.monotonic() - started) from None
    _check_report(host, report, agent_file, messages)
    if not report["have"]:
        try:
            stream.write(agent_file.path.read_bytes(), _PUSH_TIMEOUT)
        except (OSError, EOFError) as error:
            raise Unreachable(
                f"{host}: the agent could not be sent: {error or type(error).__name__}",
                messages.last_words(),
            ) from None


def _send(stream: ByteStream, code: bytes) -> None:
    """Give the bootstrap its code; a host that did not wait for it has said why on stdout."""
    try:
        stream.write(code, START_TIMEOUT)
    except TimeoutError:
        raise
    except (OSError, EOFError):
        return


def _first_report(messages: Messages) -> dict[str, Any]:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        message = messages.next(max(deadline - time.monotonic(), 0))
        if "have" in message:
            return message
        messages.refuse()


def _check_report(
    host: str, report: dict[str, Any], agent_file: AgentFile, messages: Messages
) -> None:
    if report.get("arch") != agent_file.machine:
        raise WrongMachine(host, str(report.get("arch")), agent_file.machine)
    if report.get("error"):
        look = f"df -h {STATE_DIR}; df -i {STATE_DIR}; ls -ld {STATE_DIR}"
        if "noexec" in str(report["error"]):
            look = f"findmnt -T {STATE_DIR}; ls -Zd {STATE_DIR}"
        raise Unreachable(
            f"{host}: the agent cannot be put there: {report['error']}",
            messages.last_words(),
            f"on {host}: {look}",
        )


def _give_password(
    host: str, stream: ByteStream, messages: Messages, password: str
) -> dict[str, Any] | None:
    """Answer sudo's prompt if it comes; return once Python waits, or what sh said in its place.

    Until then nothing else is sent: sudo would take it for a second try of the password.
    """
    deadline = time.monotonic() + START_TIMEOUT
    answered = False
    while time.monotonic() < deadline:
        with contextlib.suppress(TimeoutError):
            return messages.next(_PROMPT_EVERY) or None
        prompts = stream.errors().count(_PROMPT)
        if prompts > 1:
            raise Refused(
                f"{host}: sudo did not take the password", "the agent needs root", _ASK_PASSWORD
            )
        if prompts and not answered:
            stream.write(password.encode() + b"\n", START_TIMEOUT)
            answered = True
    raise TimeoutError


_SUDO_SAYS = (
    (
        r"a password is required|no password was provided",
        "sudo wants a password there",
        f"{_ASK_PASSWORD}; or allow it in sudoers: USER ALL=(root) NOPASSWD: {SUDO_COMMAND}",
    ),
    (
        r"must have a tty|no tty present",
        "sudoers there has `requiretty`",
        "in sudoers: Defaults:USER !requiretty; or log in as root: user: root in cluster.yaml",
    ),
    (
        r"not in the sudoers|not allowed to (?:execute|run)|may not run sudo",
        "this user may not become root there",
        "log in as one who may: user: NAME in cluster.yaml, or -H NAME@HOST; or allow it in "
        f"sudoers: USER ALL=(root) NOPASSWD: {SUDO_COMMAND}",
    ),
    (
        r"sudo: (?:command )?not found|sudo.{0,20}No such file",
        "there is no sudo",
        "log in as root: user: root in cluster.yaml, or -H root@HOST",
    ),
)


def _no_start(host: str, said: str, error: Exception, seconds: float) -> RescueError:
    """Why nothing was heard of the bootstrap, as far as stderr tells."""
    said = said.replace(_PROMPT, "").strip()
    said = "" if said == "{}" else said  # the shell's own first word
    for pattern, seen, next in _SUDO_SAYS:
        if re.search(pattern, said):
            return Refused(f"{host}: {seen}: {said[-300:]}", "the agent needs root", next)
    if isinstance(error, TimeoutError):
        return Unreachable(
            f"{host}: nothing was heard of the command for {seconds:.0f} s after the login",
            said or "a hanging disk, or a login shell that waits for something",
            "ssh HOST sudo -n -l",
        )
    if isinstance(error, Unreachable) and "connection ended" not in error.seen:
        return error
    return Unreachable(
        f"{host}: the command ended before the agent started",
        said or "it said nothing",
        "ssh HOST sudo -n -l",
    )
