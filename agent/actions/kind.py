"""What is done differently for the two kinds of definition: a manifest, and a unit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from hashlib import sha256
from typing import Any, ClassVar, Optional

from agent.actions.base import Context
from agent.host import Host
from agent.model.facts import EtcdConfig

Texts = dict[str, str]
"""Path → content, of the files of a definition."""

Flags = dict[str, Optional[str]]
"""Flag → the value it is to have; None: it is to be gone."""


class Kind(ABC):
    """How a definition is parked, put back, stopped and changed. One of each kind serves all hosts.

    `path` is always the definition's place; `place` is where a parked one lies.
    """

    restarts_when_changed: ClassVar[bool]
    """Whether a changed definition restarts etcd by itself."""

    @abstractmethod
    def where(self, ctx: Context) -> str:
        """Where definitions lie, for a person."""

    @abstractmethod
    def require_own(self, ctx: Context, path: str) -> None:
        """Raise PreconditionFailed unless `path` is a definition that may be parked."""

    @abstractmethod
    def require_readable(self, ctx: Context, problems: tuple[str, ...]) -> None:
        """Raise PreconditionFailed where one is in place that cannot be read, and so not parked."""

    @abstractmethod
    def digest(self, ctx: Context, path: str) -> str:
        """sha256 of the definition in place; empty where none is in place."""

    @abstractmethod
    def parked_digest(
        self, ctx: Context, place: str, path: str, texts: Optional[Texts] = None
    ) -> str:
        """sha256 of the definition that is parked at `place`; empty where none is.

        texts: contents to take instead of the files' own.
        """

    @abstractmethod
    def is_there(self, ctx: Context, path: str) -> bool:
        """Say whether something is in place that makes etcd run."""

    @abstractmethod
    def remember(self, ctx: Context) -> dict[str, Any]:
        """Give what a note beside the parked definition must keep, for `release`."""

    @abstractmethod
    def hold(self, ctx: Context, path: str, place: str) -> None:
        """Park: from now on nothing starts etcd. Safe to repeat."""

    @abstractmethod
    def release(self, ctx: Context, place: str, path: str, start: bool = True) -> None:
        """Put a parked definition back, unchanged, and let etcd start. Safe to repeat."""

    @abstractmethod
    def is_started(self, ctx: Context) -> bool:
        """Say whether etcd is being run, or tried again and again, by what runs definitions."""

    @abstractmethod
    def begin_stop(self, ctx: Context) -> float:
        """Ask for the end of a parked etcd; give the seconds that it may take."""

    @abstractmethod
    def end_by_force(self, ctx: Context) -> None:
        """End what did not end by itself."""

    def end_leftovers(self, ctx: Context) -> None:
        """End what waits beside an etcd that has ended. Nothing, unless a kind has such a thing."""
        return

    @abstractmethod
    def still(self, ctx: Context) -> tuple[bool, str]:
        """Say whether all is stopped, no process being left, and what was seen."""

    @abstractmethod
    def clear_backoff(self, ctx: Context) -> None:
        """Clear what would hold the next start back."""

    @abstractmethod
    def config(self, ctx: Context, place: str, texts: Optional[Texts] = None) -> EtcdConfig:
        """Read the configuration, from `texts` rather than from the files."""

    @abstractmethod
    def changed(self, ctx: Context, place: str, texts: Texts, flags: Flags) -> Texts:
        """Give the new content of the files that a change of flags touches.

        texts: contents to begin with instead of a file's own. Raises Refused, with what to do,
        where the change cannot be made with certainty.
        """

    def owner(self, ctx: Context) -> tuple[int, int]:
        """User and group ID that etcd runs as, for a data directory that has to be made anew."""
        return 0, 0

    @abstractmethod
    def written(self, ctx: Context) -> None:
        """Make changed files known to what runs them."""


def file_hash(host: Host, path: str) -> str:
    """sha256 of a small file, as hex; empty where there is none."""
    return sha256(host.read_bytes(path)).hexdigest() if host.exists(path) else ""
