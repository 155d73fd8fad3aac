"""Requests that change something without being a step of a plan: not during one, nor unsigned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from agent.errors import Unsigned
from agent.host import Host
from agent.model.holding import held
from agent.records.locks import read_lock
from agent.records.signing import POLICY_FILE, policy_here

Verb = Callable[[Host, dict[str, Any], Callable[[str], None]], Any]

_LOOKS = (
    ("version",), ("get",), ("endpoint",), ("member", "list"), ("alarm", "list"), ("check",),
    ("help",), ("--help",), ("--version",),
)  # fmt: skip
"""How words begin by which etcdctl changes nothing. Flags come after: one before could take the
subcommand for its value."""


def guarded(name: str, verb: Verb) -> Verb:
    """The verb, refused where it would change something that a plan or a policy stands for."""

    def run(host: Host, args: dict[str, Any], say: Callable[[str], None]) -> Any:
        words = args.get("args", ())
        if name != "etcdctl" or not _only_looks(words if isinstance(words, list) else ()):
            require_nothing_planned(host, name)
        return verb(host, args, say)

    return run


def _only_looks(words: Sequence[object]) -> bool:
    return not words or any(tuple(words[: len(look)]) == look for look in _LOOKS)


def require_nothing_planned(host: Host, name: str) -> None:
    """Raise Unsigned where this host takes signed plans only, Locked where a plan holds it."""
    policy = policy_here(host)
    if policy.required:
        raise Unsigned(
            f"{host.hostname()}: `{name}` is no part of a signed plan",
            f"signed plans only: {policy.source}",
            f"as root on that host, for the time of this: require_signed_plans: false in "
            f"{POLICY_FILE}",
        )
    lock = read_lock(host)
    if lock is not None and lock.plan:
        raise held(host.hostname(), lock, host.now())
