"""What every action is: a check, undo data, an act, a proof, an undo."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Optional, TypeVar

from agent.errors import Timeout
from agent.host import STATE_DIR, Host
from agent.model.catalog import CATALOG, ActionSpec
from agent.platforms.base import Platform

ArgsT = TypeVar("ArgsT")
Data = dict[str, Any]


@dataclass(frozen=True)
class Context:
    """Where a step runs: the host, its platform, the plan's short ID, and a voice.

    plan_id: the plan's whole ID, for notes that are compared with journals. secrets: what came with
    the request beside the plan, and goes into no journal and no log. api_patience: seconds for
    which one request to the Kubernetes API is tried again; None: as many as usual.
    """

    host: Host
    platform: Platform
    plan: str
    step: str
    say: Callable[[str], None]
    plan_id: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    api_patience: Optional[float] = None


class Action(ABC, Generic[ArgsT]):
    """One thing a step can do.

    The runner calls, in this order: `check` (raises PreconditionFailed), `prepare` (undo data),
    then writes the intent, calls `act`, then `prove` (raises StepFailed), and writes done. After an
    interruption it asks `is_done` first, and else runs `act` again with the undo data of the first
    intent: every `act` must be safe to repeat from any point of itself.
    """

    name: ClassVar[str]
    args_type: ClassVar[type[Any]]

    @property
    def spec(self) -> ActionSpec:
        """The words for this action."""
        return CATALOG[self.name]

    def check(self, ctx: Context, args: ArgsT) -> None:
        """Raise PreconditionFailed where the step must not be done now. No effects."""
        return

    @abstractmethod
    def is_done(self, ctx: Context, args: ArgsT, undo: Optional[Data]) -> bool:
        """Say whether the effect is already there. undo: data of an earlier intent, if any."""

    def prepare(self, ctx: Context, args: ArgsT) -> Data:
        """Give what `undo` will need; it is in the journal before anything changes. No effects."""
        return {}

    @abstractmethod
    def act(self, ctx: Context, args: ArgsT, undo: Data) -> Data:
        """Do it; returns what the report should say (JSON)."""

    def prove(self, ctx: Context, args: ArgsT, undo: Data) -> None:
        """Raise StepFailed where the effect is not there after all."""
        return

    def undo(self, ctx: Context, args: ArgsT, undo: Data) -> None:
        """Take the effect back; safe to repeat, and safe where `act` never got to it."""
        return


@dataclass(frozen=True)
class NoArgs:
    """For actions that need no arguments."""


def wait_for(
    say: Callable[[str], None],
    what: str,
    probe: Callable[[], tuple[bool, str]],
    deadline: float,
    interval: float = 0.1,
    hold: float = 0.0,
    next: str = "",
) -> str:
    """Poll `probe` -> (reached, what is seen now) until it has held for `hold` seconds.

    Tells when what is seen changes, at most once a second; else after 1, 5, 10, 20, 40 … s. Raises
    Timeout after `deadline` seconds with the last thing seen. Returns what was seen when it was
    reached.
    """
    start = time.monotonic()
    since: Optional[float] = None
    progress = _Progress(start)
    while True:
        reached, seen = probe()
        now = time.monotonic()
        since = (since or now) if reached else None
        if since is not None and now - since >= hold:
            return seen
        if now - start > deadline:
            raise Timeout(f"waited {deadline:g} s for {what}; last seen: {seen}", next=next)
        if progress.is_due(now, seen):
            say(f"waiting for {what} ({now - start:.0f} s): {seen}")
        left = interval if since is None else since + hold - now
        time.sleep(min(interval, left))


_LONGEST_SILENCE = 60.0
"""Seconds; a coordinator gives a step up that is silent for 180 s."""


class _Progress:
    """When a wait is worth a word: news at most once a second, and a sign of life now and then."""

    def __init__(self, start: float) -> None:
        self._start = self._told = start
        self._seen: Optional[str] = None
        self._next = 1.0

    def is_due(self, now: float, seen: str) -> bool:
        """Say whether to tell now; what is told counts as told."""
        waited, is_news = now - self._start, seen != self._seen
        if now - self._told < 1.0 or not (is_news or waited >= self._next):
            return False
        while self._next <= waited:
            self._next = 5.0 if self._next < 5 else self._next + min(self._next, _LONGEST_SILENCE)
        self._told, self._seen = now, seen
        return True


@dataclass(frozen=True)
class Places:
    """Where a plan keeps things on a host; all on the file system of the data directory."""

    data_dir: str
    quarantine: str
    work: str

    @property
    def member(self) -> str:
        """The directory that is etcd's data: data and WAL lie in it."""
        return f"{self.data_dir}/member"

    @property
    def work_member(self) -> str:
        """The member directory of the scratch copy."""
        return f"{self.work}/member"


def places(host: Host, data_dir: str, plan: str) -> Places:
    """Places of a plan: under the state directory, or inside the data directory where that is a
    mount of its own, because a rename cannot leave it.

    Only `member/` ever moves: the data directory itself, its owner, label and mount, stays.
    """  # noqa: D205
    real = host.realpath(data_dir)
    base = STATE_DIR
    if host.mount_point(real) != host.mount_point(STATE_DIR):
        base = f"{real}/.etcd-rescue"
    return Places(real, f"{base}/quarantine/{plan}", f"{base}/work/{plan}")
