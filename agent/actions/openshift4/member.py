"""Wait for what the etcd operator does on this host: a new definition, a new member, a voter."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Optional

from agent.actions.base import Action, Context, Data, wait_for
from agent.actions.definitions import parked_here
from agent.actions.services import ServeArgs, WaitServing
from agent.errors import Paused, PreconditionFailed, RescueError, Timeout
from agent.survey.watched import PARKED_DIR, read_watched


@dataclass(frozen=True)
class AwaitArgs:
    """deadline: seconds; then the plan is paused, and `resume` waits on."""

    deadline: float = 900.0


class AwaitMember(Action[AwaitArgs]):
    """Look until the operator's definition is in place here and its etcd is a voter that serves.

    The old definition, which a step of this plan parked, is then kept under a name that nobody
    takes for a parked one: two would make the next fence ambiguous.
    """

    name = "await_member"
    args_type = AwaitArgs

    def check(self, ctx: Context, args: AwaitArgs) -> None:
        config, strays, _problems = read_watched(ctx.host, ctx.platform)
        if strays and config is not None:
            raise PreconditionFailed(
                f"{strays[0].path}: {strays[0].problem}",
                "with a second definition the operator's etcd cannot start",
                f"move it out of {ctx.platform.manifest_dir}, then: fab resume",
            )

    def is_done(self, ctx: Context, args: AwaitArgs, undo: Optional[Data]) -> bool:
        return self._probe(ctx)[0] and not self._own(ctx)

    def act(self, ctx: Context, args: AwaitArgs, undo: Data) -> Data:
        what = "the etcd operator to bring the member back"
        try:
            seen = wait_for(ctx.say, what, lambda: self._probe(ctx), args.deadline, 0.25)
        except Timeout as error:
            raise Paused(
                error.seen,
                "what it waits for: oc describe clusteroperator etcd",
                "fab resume   (it waits on, and repeats nothing)",
            ) from None
        for path in self._own(ctx):
            folder, name = posixpath.split(path)
            ctx.host.rename_new(path, f"{folder}/.{name}.former")
        return {"seen": seen}

    def _own(self, ctx: Context) -> list[str]:
        """Definitions that this plan parked, and the operator has written anew."""
        found = [p for p in parked_here(ctx) if p.plan == ctx.plan]
        return [p.path for p in found if p.path.startswith(f"{PARKED_DIR}/")]

    def _probe(self, ctx: Context) -> tuple[bool, str]:
        try:
            config, _strays, problems = read_watched(ctx.host, ctx.platform)
            if config is None:
                told = "; ".join(problems)
                return False, told or f"{ctx.platform.manifest} is not there yet"
            return WaitServing().probe(ctx, ServeArgs())
        except RescueError as error:
            return False, error.seen
