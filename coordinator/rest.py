"""Gives words after `--` to the task that wants them, exactly as they were typed.

Fabric would run them by a shell on every -H host instead, over a connection whose host key nobody
looked at.
"""

from __future__ import annotations

import sys
from typing import Any

from fabric.executor import Executor
from invoke.exceptions import Exit

TAKERS = frozenset({"etcdctl"})
"""Tasks that words after `--` may be given to."""


def claim_rest() -> None:
    """From now on nothing but a task sees the words after `--`; others refuse them."""
    expand = Executor.expand_calls

    def expand_calls(self: Any, calls: Any, apply_hosts: bool = True) -> Any:
        names = {getattr(call, "name", "") or "" for call in calls}
        if self.core.remainder and apply_hosts and not names & TAKERS:
            raise Exit("words after -- are for: fab etcdctl [HOST] -- WORDS", 2)
        self.core.remainder = ""
        return expand(self, calls, apply_hosts)

    setattr(Executor, "expand_calls", expand_calls)  # noqa: B010


def rest_of(argv: list[str] | None = None) -> tuple[str, ...]:
    """The words after the first `--` of the command line, exactly as they were given."""
    words = sys.argv if argv is None else argv
    return tuple(words[words.index("--") + 1 :]) if "--" in words else ()
