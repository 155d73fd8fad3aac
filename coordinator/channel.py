"""The line to one host's agent: requests out, progress and answers in; and many hosts at once."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from agent.errors import Refused, RescueError, Unreachable, from_plain, plain
from agent.model.codec import to_plain
from coordinator.streams import ByteStream, LineReader

FORMAT = 1
"""Of the session protocol: must be the `format` of the agent's hello."""

MAX_GARBAGE = 64 * 1024
"""Bytes of login banners and the like that may be on stdout between messages."""

HELLO_TIMEOUT = 20.0
_WRITE_TIMEOUT = 20.0

T = TypeVar("T")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hello:
    """Who answers: the agent's own words about itself."""

    format: int
    version: str
    hostname: str
    pid: int


class Messages:
    """JSON objects, one per line, out of a stream that may also carry lines of something else."""

    def __init__(self, stream: ByteStream, host: str) -> None:
        self._lines = LineReader(stream, host)
        self._stream, self._host = stream, host
        self._garbage = 0
        self._last_line = b""
        self._last_garbage = b""

    def next(self, timeout: float) -> dict[str, Any]:
        """The next object. Raises TimeoutError, or Unreachable at the end of the stream."""
        deadline = time.monotonic() + timeout
        while True:
            line = self._lines.line(max(deadline - time.monotonic(), 0))
            if line is None:
                raise Unreachable(f"{self._host}: the agent's connection ended", self.last_words())
            message = _parse(line)
            if message is not None:
                self._last_line = line
                return message
            self._count_garbage(line)

    def refuse(self) -> None:
        """Count the last object as garbage: nobody asked for it. Raises Unreachable for too many.

        A host that says objects without end would else never be given up.
        """
        self._count_garbage(self._last_line)

    def rest(self) -> bytes:
        """Raw bytes that were read behind the last message."""
        return self._lines.rest()

    def last_words(self) -> str:
        """What stderr, or else stdout outside the protocol, said last; empty if nothing."""
        said = self._stream.errors().strip() or self._last_garbage.decode(errors="replace").strip()
        return plain("\n".join(said.split("\r\n")))[-2000:]

    def _count_garbage(self, line: bytes) -> None:
        self._garbage += len(line) + 1
        if line.strip():
            self._last_garbage = line[-2000:]
        if self._garbage > MAX_GARBAGE:
            raise Unreachable(
                f"{self._host}: stdout carries {self._garbage} bytes that are no agent's",
                f"last: {self._last_garbage[-200:].decode(errors='replace')!r}",
                "make the login shell's start-up files on that host silent: ssh HOST true | wc -c",
            )


class Channel:
    """An agent that said hello. Its requests are answered in order, one at a time."""

    def __init__(
        self,
        host: str,
        stream: ByteStream,
        messages: Messages,
        hello: Hello,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.host, self.hello = host, hello
        self._stream, self._messages, self._on_close = stream, messages, on_close
        self._turn = threading.Lock()
        self._last_id = 0
        self._broken: RescueError | None = None
        self._closed = False

    def call(
        self,
        verb: str,
        args: Mapping[str, Any] | None = None,
        timeout: float = 60.0,
        on_progress: Callable[[str], None] | None = None,
    ) -> Any:
        """The answer to one request, parsed JSON; threads take turns.

        timeout: the longest silence, in seconds; each progress line starts it anew, since every
        wait on the agent's side has a deadline of its own. Raises what the agent raised, and
        Unreachable for silence or a broken connection. After silence the channel stays usable: a
        late answer is recognised by its id and dropped.
        """
        with self._turn:
            if self._broken:
                raise self._broken
            self._last_id += 1
            try:
                self._send({"id": self._last_id, "verb": verb, "args": to_plain(dict(args or {}))})
                return self._answer(self._last_id, verb, timeout, on_progress)
            except _Broken as error:
                self._broken = error.reason
                raise error.reason from None

    def close(self) -> None:
        """End the agent's input: it finishes and journals the step it is in, and exits."""
        if self._closed:
            return
        self._closed = True
        self._broken = self._broken or Unreachable(f"{self.host}: the connection was closed")
        self._stream.close()
        self._on_close()

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, request: dict[str, Any]) -> None:
        data = json.dumps(request, ensure_ascii=False).encode() + b"\n"
        try:
            self._stream.write(data, _WRITE_TIMEOUT)
        except (OSError, EOFError) as error:  # TimeoutError is an OSError
            raise _Broken(
                Unreachable(
                    f"{self.host}: the agent takes no requests any more: "
                    f"{error or type(error).__name__}",
                    self._messages.last_words(),
                    "fab survey",
                )
            ) from None

    def _answer(
        self, id: int, verb: str, timeout: float, on_progress: Callable[[str], None] | None
    ) -> Any:
        while True:
            message = self._next(verb, timeout)
            if message.get("id") is None and "error" in message:
                raise _Broken(from_plain(error_of(message)))
            if message.get("id") != id:
                if message.get("id") not in range(1, id):  # else of a request that was given up
                    self._refuse(verb)
                continue
            if "progress" in message:
                if on_progress:
                    on_progress(str(message["progress"]))
            elif "ok" in message:
                return message["ok"]
            elif "error" in message:
                raise from_plain(error_of(message))
            else:
                self._refuse(verb)

    def _refuse(self, verb: str) -> None:
        try:
            self._messages.refuse()
        except Unreachable as error:
            raise _Broken(
                Unreachable(f"{error.seen} during `{verb}`", error.why, error.next)
            ) from None

    def _next(self, verb: str, timeout: float) -> dict[str, Any]:
        try:
            return self._messages.next(timeout)
        except TimeoutError:
            raise Unreachable(
                f"{self.host}: no word from the agent for {timeout:g} s during `{verb}`",
                "it may still be at it: what it does is in its journal",
                "fab survey",
            ) from None
        except Unreachable as error:
            seen = f"{error.seen} during `{verb}`"
            next = error.next or "fab resume, once the host answers; the agent ends its step first"
            raise _Broken(Unreachable(seen, error.why, next)) from None


class _Broken(Exception):
    """The line cannot be used any more, for `reason`."""

    def __init__(self, reason: RescueError) -> None:
        self.reason = reason


def greeted(
    host: str,
    stream: ByteStream,
    messages: Messages,
    on_close: Callable[[], None] = lambda: None,
    timeout: float = HELLO_TIMEOUT,
) -> Channel:
    """A Channel once the agent has said hello.

    Raises Unreachable where it does not within `timeout` seconds, Refused for another protocol
    or for what the agent's start-up refused.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            message = messages.next(max(deadline - time.monotonic(), 0))
        except TimeoutError:
            raise Unreachable(
                f"{host}: the agent did not say hello within {timeout:g} s",
                messages.last_words(),
            ) from None
        hello = message.get("hello")
        if isinstance(hello, dict):
            return Channel(host, stream, messages, _checked_hello(host, hello), on_close)
        if "error" in message:
            raise Unreachable(
                f"{host}: the agent cannot start: {message['error']}",
                next=f"on {host}: df -h /var/lib; df -i /var/lib",
            )
        messages.refuse()


def _checked_hello(host: str, hello: dict[str, Any]) -> Hello:
    format = hello.get("format")
    if format != FORMAT:
        raise Refused(
            f"{host}: the agent speaks format {format!r} of the session protocol, not {FORMAT}",
            "coordinator and agent are of different versions",
        )
    version, hostname, pid = hello.get("version"), hello.get("hostname"), hello.get("pid")
    return Hello(FORMAT, str(version), str(hostname), pid if isinstance(pid, int) else 0)


def error_of(message: dict[str, Any]) -> dict[str, str]:
    """The error in an agent's message, in the shape that from_plain takes."""
    error = message["error"]
    if not isinstance(error, dict):
        return {"seen": str(error)}
    return {str(key): str(value) for key, value in error.items()}


def _parse(line: bytes) -> dict[str, Any] | None:
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


# ---- many hosts ----------------------------------------------------------------------------------


def fan_out(
    hosts: Iterable[str], fn: Callable[[str], T], max_workers: int = 16
) -> dict[str, T | RescueError]:
    """fn(name) for every host, in parallel: name → its result, or the error it ended with.

    In the order given. An error of one host never hides another's, and a defect of ours in one
    of them becomes a RescueError too (its trace goes to the log). Ctrl-C starts nothing new.
    """
    names = list(dict.fromkeys(hosts))
    if not names:
        return {}
    pool = ThreadPoolExecutor(min(max_workers, len(names)), thread_name_prefix="host")
    try:
        futures = {name: pool.submit(_caught, fn, name) for name in names}
        return {name: future.result() for name, future in futures.items()}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _caught(fn: Callable[[str], T], name: str) -> T | RescueError:
    try:
        return fn(name)
    except RescueError as error:
        return error
    except Exception as error:
        logger.debug("%s: internal error", name, exc_info=True)
        return RescueError(
            f"{name}: internal error: {type(error).__name__}: {error}",
            "this is a defect of etcd-rescue, not of the host",
        )
