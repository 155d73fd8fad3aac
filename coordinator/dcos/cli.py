"""The `dcos` command as a child process: argument lists, deadlines, and errors that say what to do.

Words and flags are those of the DC/OS CLI (0.5 to 1.2) and of the package `kubernetes` 1.x, as
their documentation and their sources give them (docs/dcos.md says what was tried on what).
"""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from agent.errors import CommandFailed, RescueError, Unreachable, UsageError
from agent.model.codec import parse_json

TIMEOUT = 60.0
"""Seconds for a look; dcos itself takes one or two, and a proxy or a slow master some more."""

MAX_ANSWER = 64 * 1024 * 1024
_MAX_SAID = 64 * 1024
_PIECE = 1 << 16

_TELLS_ON_STDOUT = ("dcos kubernetes", "dcos package")

Sink = Callable[[bytes], None]


@dataclass(frozen=True)
class Dcos:
    """The command and the service it is asked about. secrets: texts that no error may show."""

    program: str
    service: str
    secrets: tuple[str, ...] = ()

    @classmethod
    def find(cls, service: str) -> Dcos:
        """The `dcos` on PATH. Raises UsageError where there is none, or for a name it cannot be."""
        _require_name(service)
        program = shutil.which("dcos")
        if program is None:
            raise UsageError(
                "there is no `dcos` command on PATH",
                "DC/OS has no host to log in to here: all goes through its CLI on this machine",
                "install the DC/OS CLI, then: dcos cluster setup URL",
            )
        return cls(program, service)

    def json(self, *words: str, timeout: float = TIMEOUT) -> Any:
        """What a command prints, as JSON. Raises UsageError for anything else."""
        data = self.run(*words, timeout=timeout)
        try:
            return parse_json(data, f"dcos {' '.join(words)}")
        except UsageError as error:
            raise UsageError(
                error.seen,
                f"something else than JSON came: {data[:200].decode(errors='replace').strip()!r}",
                "look at the command's answer by hand; nothing was changed",
            ) from None

    def kubernetes(self, *words: str, timeout: float = TIMEOUT) -> bytes:
        """`dcos kubernetes --name=SERVICE WORDS`."""
        return self.run("kubernetes", f"--name={self.service}", *words, timeout=timeout)

    def kubernetes_json(self, *words: str) -> Any:
        """The same, parsed."""
        return self.json("kubernetes", f"--name={self.service}", *words)

    def run(self, *words: str, timeout: float = TIMEOUT) -> bytes:
        """Run a command to its end. Raises what `told` makes of a failure; Unreachable, Usage."""
        found = bytearray()

        def keep(piece: bytes) -> None:
            found.extend(piece)
            if len(found) > MAX_ANSWER:
                raise UsageError(f"dcos {words[0]}: an answer larger than {MAX_ANSWER} bytes")

        self.stream(keep, *words, timeout=timeout)
        return bytes(found)

    def stream(self, sink: Sink, *words: str, timeout: float, idle: float = 0.0) -> None:
        """Run a command, handing on what it prints. idle: end it after so long without a byte."""
        process = subprocess.Popen(
            [self.program, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            start_new_session=True,
        )
        try:
            said = _pump(process, sink, timeout, idle or timeout, f"dcos {words[0]}")
        except BaseException:
            _end(process)
            raise
        if process.wait() != 0:
            raise self.told(words, process.returncode, said)

    def told(self, words: Sequence[str], code: int, said: bytes) -> RescueError:
        """The error that a failed command means, by what it said."""
        text = self.shown(said.decode(errors="replace").strip())
        plain = [word for word in words[:8] if not word.startswith(("@", "--options=", "--aws-"))]
        what = self.shown(f"dcos {' '.join(plain)}")
        for signs, make in _MEANINGS:
            if any(sign in text.lower() for sign in signs):
                return make(what, text, self.service)
        return CommandFailed(
            f"{what}: exit code {code}: {text[-600:] or 'it said nothing'}",
            "the DC/OS CLI reports a failure",
            "fab dcos-diagnose",
        )

    def shown(self, text: str) -> str:
        """A text without the secrets that were handed to the command."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def _require_name(service: str) -> None:
    letters = service.replace("-", "").replace("_", "").replace(".", "")
    if not (
        letters.isascii() and letters.isalnum() and len(service) <= 24 and service[0].isalnum()
    ):
        raise UsageError(
            f"{service!r} is not a service name",
            "letters, digits, '-', '_' and '.', at most 24; a service in a folder (/dev/kubernetes)"
            " is not supported",
            "dcos package list",
        )


def _pump(
    process: subprocess.Popen[bytes], sink: Sink, timeout: float, idle: float, what: str
) -> bytes:
    """Hand stdout on until both pipes end; returns what stderr said.

    Of stdout nothing gets into an error, unless it is the package's CLI, which prints its errors
    there: from a task come keys, values and snapshots.
    """
    said, last = bytearray(), bytearray()
    deadline = time.monotonic() + timeout
    with selectors.DefaultSelector() as ready:
        for pipe in filter(None, (process.stdout, process.stderr)):
            ready.register(pipe, selectors.EVENT_READ)
        while ready.get_map():
            left = min(idle, deadline - time.monotonic())
            events = ready.select(max(0.0, left))
            if not events:
                raise _silent(what, idle if left == idle else timeout)
            for key, _mask in events:
                piece = os.read(key.fd, _PIECE)
                if not piece:
                    ready.unregister(key.fileobj)
                elif key.fileobj is process.stdout:
                    last = (last + piece)[-_MAX_SAID:] if what in _TELLS_ON_STDOUT else last
                    sink(piece)
                else:
                    said = (said + piece)[-_MAX_SAID:]
    _close(process)
    return bytes(said + b"\n" + last)


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in filter(None, (process.stdout, process.stderr)):
        pipe.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # dcos runs its subcommands as children of its own
    process.wait()
    _close(process)


def _silent(what: str, seconds: float) -> Unreachable:
    return Unreachable(
        f"{what}: nothing came for {seconds:g} s",
        "the connection to the DC/OS cluster hangs, or was cut",
        "dcos node; then the same command again",
    )


# ---- what failures mean --------------------------------------------------------------------------


def _no_login(what: str, _text: str, _service: str) -> RescueError:
    return Unreachable(
        f"{what}: the login to DC/OS has expired, or there is none",
        "the cluster takes no request without one; nothing was changed by this command",
        "dcos auth login",
    )


def _no_service(what: str, _text: str, service: str) -> RescueError:
    return UsageError(
        f"{what}: DC/OS knows no service {service!r}, or it is just starting",
        "the name is what was given as --service, by default `kubernetes`",
        "dcos package list; then --service NAME",
    )


def _no_plugin(what: str, _text: str, _service: str) -> RescueError:
    return UsageError(
        f"{what}: the CLI does not know `kubernetes`",
        "the package's own commands are not installed on this machine",
        "dcos package install kubernetes --cli",
    )


def _no_cluster(what: str, text: str, _service: str) -> RescueError:
    return UsageError(f"{what}: {text[:200]}", "the CLI does not know which cluster is meant",
                      "dcos cluster list; dcos cluster attach NAME")  # fmt: skip


def _no_connection(what: str, text: str, _service: str) -> RescueError:
    return Unreachable(f"{what}: {text[-300:]}", "the DC/OS cluster could not be reached, or the "
                       "connection was cut", "dcos node; then the same command again")  # fmt: skip


_MEANINGS: tuple[tuple[tuple[str, ...], Callable[[str, str, str], RescueError]], ...] = (
    (("401 unauthorized", "authentication failed", "bad auth token", "run `dcos auth login`"),
     _no_login),
    (("not a dcos command", 'unknown command "kubernetes"'), _no_plugin),
    (("did you provide the correct service name",), _no_service),
    (("no cluster is attached", "missing required config parameter"), _no_cluster),
    (("connection reset", "connection refused", "connection aborted", "broken pipe", "eof",
      "i/o timeout", "no such host", "unable to connect", "could not connect"), _no_connection),
)  # fmt: skip
