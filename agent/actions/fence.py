"""Raise and lift a fence: proof that an etcd is stopped, a block, and a tombstone that says why."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Optional

from agent.actions.base import Action, Context, Data, NoArgs
from agent.actions.definitions import (
    bring_back,
    park,
    parking_place,
    require_watched,
    take_away,
)
from agent.actions.kinds import kind_of
from agent.actions.services import stop, stopped_now
from agent.errors import Damaged, PreconditionFailed, StepFailed
from agent.host import STATE_DIR
from agent.survey.watched import read_watched

FENCE_FILE = f"{STATE_DIR}/fence.json"


@dataclass(frozen=True)
class FenceArgs:
    """reason: a sentence for whoever finds the host like this. deadline: seconds to stop etcd."""

    reason: str
    deadline: float = 60.0


class Fence(Action[FenceArgs]):
    """Park the definition if there is one, stop etcd and prove it, leave a tombstone.

    It needs nothing to be known of the host beforehand: a host that was off when the plan was made
    is fenced with the same step when it comes back.
    """

    name = "fence"
    args_type = FenceArgs

    def check(self, ctx: Context, args: FenceArgs) -> None:
        config, strays, problems = read_watched(ctx.host, ctx.platform)
        if strays:
            raise PreconditionFailed(
                f"{strays[0].path}: {strays[0].problem}",
                "with a second definition etcd cannot be kept stopped",
                take_away(ctx, strays[0].path),
            )
        if config is not None:
            require_watched(ctx, config.definition)
        else:
            kind_of(ctx).require_readable(ctx, problems)

    def is_done(self, ctx: Context, args: FenceArgs, undo: Optional[Data]) -> bool:
        return _tombstone(ctx).get("plan") == ctx.plan_id and stopped_now(ctx)[0]

    def prepare(self, ctx: Context, args: FenceArgs) -> Data:
        config, _strays, _problems = read_watched(ctx.host, ctx.platform)
        path = config.definition if config else ""
        place = parking_place(ctx, path) if path else ""
        digest = config.sha256 if config else ""
        return {
            "path": path,
            "sha256": digest,
            "parked": place,
            "earlier": _tombstone(ctx),
            "started": kind_of(ctx).is_started(ctx),
        }

    def act(self, ctx: Context, args: FenceArgs, undo: Data) -> Data:
        if undo["path"]:
            park(ctx, undo["path"], undo["sha256"], undo["parked"])
        seen = stop(ctx, args.deadline)
        now = ctx.host.now()
        note = {"plan": ctx.plan_id, "step": ctx.step, "time": now, "reason": args.reason}
        _write(ctx, {**note, "holder": "etcd-rescue"})
        return {"seen": seen, "parked": undo["parked"]}

    def prove(self, ctx: Context, args: FenceArgs, undo: Data) -> None:
        path, place = undo["path"], undo["parked"]
        if path and kind_of(ctx).parked_digest(ctx, place, path) != undo["sha256"]:
            raise StepFailed(f"{undo['parked']} is not the definition that was to be parked")
        if not self.is_done(ctx, args, undo):
            raise StepFailed(f"the fence does not stand: {stopped_now(ctx)[1]}")

    def undo(self, ctx: Context, args: FenceArgs, undo: Data) -> None:
        if undo["earlier"]:  # a fence that another plan had raised before stays
            _write(ctx, undo["earlier"])
        else:
            _lift(ctx)
        if undo["path"]:
            bring_back(ctx, undo["parked"], undo["path"], start=undo.get("started", True))


class LiftFence(Action[NoArgs]):
    """Take the tombstone away: this host's etcd is a member again."""

    name = "lift_fence"
    args_type = NoArgs

    def is_done(self, ctx: Context, args: NoArgs, undo: Optional[Data]) -> bool:
        return not ctx.host.exists(FENCE_FILE)

    def act(self, ctx: Context, args: NoArgs, undo: Data) -> Data:
        _lift(ctx)
        return {}


def _tombstone(ctx: Context) -> Data:
    """What the fence that stands says; empty where there is none, or none that can be read."""
    try:
        told = json.loads(ctx.host.read_bytes(FENCE_FILE, 65536))
    except (FileNotFoundError, Damaged, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _write(ctx: Context, tombstone: Data) -> None:
    ctx.host.makedirs(STATE_DIR)
    ctx.host.write_atomic(FENCE_FILE, json.dumps(tombstone).encode())


def _lift(ctx: Context) -> None:
    """Rename, never delete: the history of fences stays beside it."""
    if ctx.host.exists(FENCE_FILE):
        lifted = f"{STATE_DIR}/lifted"
        ctx.host.makedirs(lifted)
        place = f"{lifted}/fence-{ctx.plan}-{ctx.step}-{ctx.host.now():.3f}.json"
        ctx.host.rename_new(FENCE_FILE, place)
