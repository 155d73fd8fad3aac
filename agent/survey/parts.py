"""Parts of a survey: each in its own thread, each with a deadline, none able to fail the whole."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from agent.errors import RescueError
from agent.host.memory import exhausted, is_exhausted
from agent.log import logger

T = TypeVar("T")


class Part(Generic[T]):
    """One independent piece of looking, begun at once in a thread of its own."""

    def __init__(self, name: str, work: Callable[[], T], instead: T, seconds: float) -> None:
        self.name, self.seconds = name, seconds
        self._work, self._instead = work, instead
        self._done: list[T] = []
        self._problem = ""
        self._deadline = time.monotonic() + seconds
        # A daemon: what hangs in a dead file system must not keep the agent from ending.
        self._thread = threading.Thread(target=self._run, daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # no room for its stack: the others may still see something
            self._problem = f"{self.name}: {error}: {exhausted().seen}"

    def _run(self) -> None:
        try:
            self._done.append(self._work())
        except RescueError as error:
            self._problem = "; ".join(filter(None, (error.seen, error.why, error.next)))
        except OSError as error:
            self._problem = f"{self.name}: {error.filename or ''} {error.strerror or error}".strip()
        except RecursionError:
            self._problem = f"{self.name}: a file is nested too deeply to be read"
        except Exception as error:
            if is_exhausted(error):
                self._problem = f"{self.name}: {exhausted().seen}"
                return
            # A mistake of ours in one part must not hide what all the others have seen.
            logger().exception("a part of the survey failed", part=self.name)
            self._problem = f"{self.name}: internal error: {type(error).__name__}: {error}"

    def result(self) -> tuple[T, str]:
        """(its value, what went wrong), waited for until its deadline."""
        if self._thread.ident is not None:
            self._thread.join(max(0.0, self._deadline - time.monotonic()))
        done, problem = list(self._done), self._problem
        if done or problem:
            return (done or [self._instead])[0], problem
        return self._instead, f"{self.name}: no answer within {self.seconds:.2g} s"


class Parts:
    """Begins parts and ends them; gathers, once each, what went wrong."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._ended: dict[int, object] = {}

    def begin(self, name: str, work: Callable[[], T], instead: T, seconds: float) -> Part[T]:
        """Begin at once. instead: the value where `work` raises or outlives `seconds`."""
        return Part(name, work, instead, seconds)

    def end(self, part: Part[T]) -> T:
        """The part's value, the same however often it is asked for."""
        if id(part) not in self._ended:
            value, problem = part.result()
            self._ended[id(part)] = (part, value)  # kept, so that its id stays its own
            if problem:
                self.problems.append(problem)
        kept: tuple[Part[T], T] = self._ended[id(part)]  # type: ignore[assignment]
        return kept[1]
