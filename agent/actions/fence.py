"""Raise and lift a fence: the tombstone that says by whom, when and why an etcd must not run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Optional

from agent.actions.base import Action, Context, Data, NoArgs
from agent.actions.services import require_stopped
from agent.host import STATE_DIR

FENCE_FILE = f"{STATE_DIR}/fence.json"


@dataclass(frozen=True)
class FenceArgs:
    """reason: a sentence for whoever finds the host like this."""

    reason: str


class RaiseFence(Action[FenceArgs]):
    """Leave a tombstone; with the parked definition it keeps this host's etcd from running."""

    name = "raise_fence"
    args_type = FenceArgs
    title = "fence: prove that etcd is stopped, and leave a tombstone"
    precondition = "etcd is proved stopped, its definition parked"
    undo_text = "lift the fence"

    def check(self, ctx: Context, args: FenceArgs) -> None:
        require_stopped(ctx)

    def is_done(self, ctx: Context, args: FenceArgs, undo: Optional[Data]) -> bool:
        return ctx.host.exists(FENCE_FILE) and _owner(ctx) == ctx.plan

    def act(self, ctx: Context, args: FenceArgs, undo: Data) -> Data:
        note = {
            "plan": ctx.plan,
            "step": ctx.step,
            "time": ctx.host.now(),
            "reason": args.reason,
            "holder": "etcd-rescue",
        }
        ctx.host.write_atomic(FENCE_FILE, json.dumps(note).encode())
        return {}

    def undo(self, ctx: Context, args: FenceArgs, undo: Data) -> None:
        _lift(ctx)


class LiftFence(Action[NoArgs]):
    """Take the tombstone away: this host's etcd is a member again."""

    name = "lift_fence"
    args_type = NoArgs
    title = "lift the fence"
    precondition = "none"
    undo_text = "nothing: it is only a note"

    def is_done(self, ctx: Context, args: NoArgs, undo: Optional[Data]) -> bool:
        return not ctx.host.exists(FENCE_FILE)

    def act(self, ctx: Context, args: NoArgs, undo: Data) -> Data:
        _lift(ctx)
        return {}


def _owner(ctx: Context) -> str:
    return str(json.loads(ctx.host.read_bytes(FENCE_FILE)).get("plan", ""))


def _lift(ctx: Context) -> None:
    """Rename, never delete: the history of fences stays beside it."""
    if ctx.host.exists(FENCE_FILE):
        lifted = f"{STATE_DIR}/lifted"
        ctx.host.makedirs(lifted)
        ctx.host.rename_new(FENCE_FILE, f"{lifted}/fence-{ctx.plan}-{ctx.step}-{ctx.host.now():.3f}")
