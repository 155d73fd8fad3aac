"""A plan that goes on without its operator: after the loss of the line, and after a reboot.

Its journal here has a record `unattended`, by an option of the run; a unit of systemd waits beside
the run, and where nobody is at work on the plan for a while it does what a console's `resume` does:
this host's steps as far as this host's own journal proves what they stand on, and no further.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Optional

from agent.errors import RescueError
from agent.host import Host
from agent.records.journal import Journal
from agent.records.locks import read_lock

KIND = "unattended"
GRACE = 100.0
"""Seconds without anybody at work; a coordinator tries for 90 to come back to its agents."""

_GRACE_VARIABLE = "ETCD_RESCUE_GRACE"
_POLL = 1.0

Say = Callable[[str], None]


def is_wanted(journal: Journal) -> bool:
    """Whether the plan says that it goes on by itself on this host."""
    return any(record.kind == KIND for record in journal.records)


def require_possible(host: Host) -> None:
    """Raise PreconditionFailed where no plan could go on by itself."""
    from agent.actions.timer.plan_unit import require_possible as require

    require(host)


def want(host: Host, journal: Journal) -> None:
    """Have the plan go on by itself here. Raises PreconditionFailed where that cannot be."""
    from agent.actions.timer.plan_unit import arm

    arm(host, journal.plan.id)
    if not is_wanted(journal):
        journal.append(KIND)


def let_go(host: Host, journal: Journal) -> None:
    """Let it go on by itself no more; the record stays, and the next run that begins arms it."""
    if is_wanted(journal):
        from agent.actions.timer.plan_unit import disarm

        with suppress(RescueError, OSError):  # a closed plan does nothing, armed or not
            disarm(host, journal.plan.id)


def carry_on(host: Host, plan_id: str, say: Say) -> bool:
    """Wait until nobody is at work on the plan, then go on with it here; False where none is open.

    Raises Paused where it is another host's turn, and what the steps raise.
    """
    if not _wait_for_silence(host, plan_id, say):
        return False
    from agent.entry.applying import apply
    from agent.entry.visit import Asked

    apply(host, Asked(plan=plan_id, yes=True, is_resume=True))
    return True


def _wait_for_silence(host: Host, plan_id: str, say: Say) -> bool:
    """Wait for as long as somebody is at work; False once the plan is closed, or let go."""
    from agent.actions.timer.plan_unit import is_armed

    grace = float(os.environ.get(_GRACE_VARIABLE) or GRACE)
    since: Optional[float] = None
    while True:
        if Journal.open(host, plan_id).state != "open" or not is_armed(host, plan_id):
            say("the plan is closed, or goes on by itself no more")
            return False
        lock = read_lock(host)
        if lock is None or lock.alive or lock.plan != plan_id:
            since = None
        elif since is None:
            since = time.monotonic()
            say(f"nobody is at work on plan {plan_id[:12]}; going on in {grace:g} s")
        elif time.monotonic() - since >= grace:
            return True
        time.sleep(_POLL)
