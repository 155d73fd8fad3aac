"""Takes a definition out of a backup set, where a host has none any more; parked at first."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Optional

from agent.actions.base import Action, Context, Data
from agent.actions.definitions import (
    file_hash,
    note_parked,
    parked_here,
    parking_place,
    require_watched,
)
from agent.errors import PreconditionFailed, StepFailed
from agent.model.facts import Parked
from agent.survey.watched import PARKED_DIR, read_config, read_watched


@dataclass(frozen=True)
class PlaceArgs:
    """source: where the file lies on this host; path: where it belongs; sha256: of its content."""

    source: str
    path: str
    sha256: str


class PlaceDefinition(Action[PlaceArgs]):
    """Park the backup's definition as if it had been parked here: a later step puts it in place."""

    name = "place_definition"
    args_type = PlaceArgs

    def check(self, ctx: Context, args: PlaceArgs) -> None:
        if ctx.platform.definition_kind != "manifest":
            raise PreconditionFailed(
                f"etcd here is run by {ctx.platform.title}",
                "only a static pod's definition is one file that can be put back",
                "put etcd's unit and its files back, then run this again",
            )
        require_watched(ctx, args.path)
        config, strays, _problems = read_watched(ctx.host, ctx.platform)
        place = parking_place(ctx, args.path)
        if config is not None or strays or any(p.path != place for p in parked_here(ctx)):
            raise PreconditionFailed(
                f"{ctx.host.hostname()} has a definition of etcd",
                "the one from the backup is for a host that has none",
                "fab survey, then: fab restore FILE",
            )
        if file_hash(ctx.host, args.source) != args.sha256:
            raise PreconditionFailed(
                f"{args.source} is not the file that the plan was made with",
                next="make a new plan: fab restore",
            )
        read_config(ctx.host, ctx.platform, args.source)

    def is_done(self, ctx: Context, args: PlaceArgs, undo: Optional[Data]) -> bool:
        place = parking_place(ctx, args.path)
        if undo is None:
            return False
        return args.sha256 in (file_hash(ctx.host, place), file_hash(ctx.host, args.path))

    def act(self, ctx: Context, args: PlaceArgs, undo: Data) -> Data:
        place = parking_place(ctx, args.path)
        ctx.host.makedirs(PARKED_DIR)
        note_parked(ctx, Parked(place, args.path, args.sha256, ctx.plan))
        ctx.host.makedirs(os.path.dirname(args.path), 0o755)
        ctx.host.write_atomic(place, ctx.host.read_bytes(args.source))
        return {"parked": place}

    def prove(self, ctx: Context, args: PlaceArgs, undo: Data) -> None:
        if not self.is_done(ctx, args, undo):
            raise StepFailed(f"the definition from {args.source} is not there")

    def undo(self, ctx: Context, args: PlaceArgs, undo: Data) -> None:
        place = parking_place(ctx, args.path)
        if ctx.host.exists(place):  # set aside under a name that nobody takes for a parked one
            folder, name = os.path.split(place)
            ctx.host.rename_new(place, f"{folder}/.{name}.undone-{ctx.host.now():.3f}")
