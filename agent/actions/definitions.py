"""Park and unpark what makes etcd run: a manifest, or a unit."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from typing import Optional

from agent.actions.base import Action, Context, Data
from agent.actions.kind import file_hash as file_hash
from agent.actions.kinds import kind_of
from agent.errors import Damaged, PreconditionFailed, StepFailed
from agent.model.facts import EtcdConfig, Parked
from agent.survey.watched import PARKED_DIR, find_parked, read_config, read_watched


def parked_here(ctx: Context) -> list[Parked]:
    """All parked definitions, the one that this plan parked last: it is the one meant."""
    return sorted(find_parked(ctx.host), key=lambda p: p.plan == ctx.plan)


def parked_for(ctx: Context, original: str) -> Optional[Parked]:
    """Give the parked definition that came from `original`, this plan's rather, or None."""
    found = [p for p in parked_here(ctx) if p.original == original]
    return found[-1] if found else None


def current_config(ctx: Context) -> EtcdConfig:
    """Give etcd's configuration from its definition, in place or parked.

    Raises PreconditionFailed where there is neither, or more than one.
    """
    config, strays, problems = read_watched(ctx.host, ctx.platform)
    if config is not None and not strays:
        return config
    if strays:
        raise PreconditionFailed(
            f"{strays[0].path}: {strays[0].problem}",
            "two definitions would run two etcds; which one is meant is unclear",
            take_away(ctx, strays[0].path),
        )
    for parked in reversed(parked_here(ctx)):
        config = read_config(ctx.host, ctx.platform, parked.path)
        return replace(config, definition=parked.original or parked.path)
    raise PreconditionFailed(
        "; ".join([f"no etcd definition in {kind_of(ctx).where(ctx)}, none parked", *problems]),
        "nothing here says how etcd is meant to run",
        "put the definition back, from a backup of it or made anew, then run this again",
    )


def take_away(ctx: Context, path: str) -> str:
    """Give what a person does about a second definition."""
    if ctx.platform.definition_kind == "unit":
        return f"systemctl disable --now {os.path.basename(path)}, then run this again"
    return f"move it out of {ctx.platform.manifest_dir}, then run this again"


def require_watched(ctx: Context, path: str) -> None:
    """Raise PreconditionFailed unless `path` is a definition of etcd that may be parked."""
    kind_of(ctx).require_own(ctx, path)


@dataclass(frozen=True)
class DefinitionArgs:
    """path: the definition's place in the watched directory; empty: etcd's own, wherever it is.

    sha256: of what it must contain; empty: of what is found.
    """

    path: str = ""
    sha256: str = ""


def parking_place(ctx: Context, path: str) -> str:
    """Give the name under which this step parks `path`."""
    return f"{PARKED_DIR}/{ctx.plan}-{ctx.step}-{os.path.basename(path)}"


def park(ctx: Context, path: str, digest: str, place: str) -> None:
    """Park a definition; nothing to do where it is parked already."""
    ctx.host.makedirs(PARKED_DIR)
    note_parked(ctx, Parked(place, path, digest, ctx.plan))
    kind_of(ctx).hold(ctx, path, place)


def note_parked(ctx: Context, parked: Parked) -> None:
    """Write beside a parked definition where it belongs and what it must contain.

    What an earlier note of it remembers stays: by now the host may look different.
    """
    kept = _note(ctx, parked.path) or kind_of(ctx).remember(ctx)
    note = {**kept, "original": parked.original, "sha256": parked.sha256, "plan": parked.plan}
    ctx.host.write_atomic(f"{parked.path}.json", json.dumps(note).encode())


def _note(ctx: Context, place: str) -> Data:
    try:
        told = json.loads(ctx.host.read_bytes(f"{place}.json", 65536))
    except (OSError, Damaged, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def bring_back(ctx: Context, place: str, path: str, start: bool = True) -> None:
    """Put a parked definition back where it belongs; nothing to do where it is there."""
    kind_of(ctx).release(ctx, place, path, start)


class ParkDefinition(Action[DefinitionArgs]):
    """Move the definition out of the watched directory, remembering where it was."""

    name = "park_definition"
    args_type = DefinitionArgs

    def check(self, ctx: Context, args: DefinitionArgs) -> None:
        path = args.path or current_config(ctx).definition
        require_watched(ctx, path)
        seen = kind_of(ctx).digest(ctx, path)
        if not seen or seen != (args.sha256 or seen):
            raise PreconditionFailed(
                f"{path} is {'gone' if not seen else 'not the file that was surveyed'}",
                "somebody or something changed it since; this plan was made for another file",
                "make a new plan: fab plan",
            )
        config, strays, _problems = read_watched(ctx.host, ctx.platform)
        # Not there and yet with a digest: half parked, by a run that ended before systemd was told.
        if kind_of(ctx).is_there(ctx, path) and path not in {
            config.definition if config else "",
            *(stray.path for stray in strays),
        }:
            raise PreconditionFailed(
                f"{path} does not run etcd",
                "only etcd's own definition is ever touched",
                "fab survey",
            )

    def is_done(self, ctx: Context, args: DefinitionArgs, undo: Optional[Data]) -> bool:
        kind = kind_of(ctx)
        return (
            undo is not None
            and not kind.is_there(ctx, undo["path"])
            and kind.parked_digest(ctx, undo["parked"], undo["path"]) == undo["sha256"]
        )

    def prepare(self, ctx: Context, args: DefinitionArgs) -> Data:
        path = args.path or current_config(ctx).definition
        kind = kind_of(ctx)
        return {
            "path": path,
            "sha256": kind.digest(ctx, path),
            "parked": parking_place(ctx, path),
            "started": kind.is_started(ctx),
        }

    def act(self, ctx: Context, args: DefinitionArgs, undo: Data) -> Data:
        park(ctx, undo["path"], undo["sha256"], undo["parked"])
        return {"parked": undo["parked"]}

    def prove(self, ctx: Context, args: DefinitionArgs, undo: Data) -> None:
        if not self.is_done(ctx, args, undo):
            raise StepFailed(f"{undo['path']} was not parked", "it still makes etcd run")

    def undo(self, ctx: Context, args: DefinitionArgs, undo: Data) -> None:
        bring_back(ctx, undo["parked"], undo["path"], start=undo.get("started", True))


class UnparkDefinition(Action[DefinitionArgs]):
    """Move the parked definition back, unchanged."""

    name = "unpark_definition"
    args_type = DefinitionArgs

    def check(self, ctx: Context, args: DefinitionArgs) -> None:
        parked = self._parked(ctx, args)
        require_watched(ctx, parked.original)
        if kind_of(ctx).is_there(ctx, parked.original):
            raise PreconditionFailed(
                f"{parked.original} is there already", "two definitions would run two etcds"
            )
        if read_config(ctx.host, ctx.platform, parked.path).force_new_cluster:
            raise PreconditionFailed(
                f"{parked.path} contains --force-new-cluster",
                "each start with it would throw the other members out again",
                "rescue-agent clear-force-new-cluster",
            )

    def _parked(self, ctx: Context, args: DefinitionArgs) -> Parked:
        found = [p for p in parked_here(ctx) if p.original == (args.path or p.original)]
        if not found:
            raise PreconditionFailed(
                f"no parked definition{' of ' + args.path if args.path else ''} here",
                "there is nothing to put back",
                f"look into {PARKED_DIR}",
            )
        parked = found[-1]
        seen = kind_of(ctx).parked_digest(ctx, parked.path, parked.original)
        if seen != (args.sha256 or parked.sha256):
            raise PreconditionFailed(
                f"{parked.path} is not the definition that was parked",
                "what would be put back is not what was taken away",
                f"look into {PARKED_DIR}, and at {parked.original}",
            )
        return parked

    def is_done(self, ctx: Context, args: DefinitionArgs, undo: Optional[Data]) -> bool:
        path = undo["path"] if undo else args.path
        digest = undo["sha256"] if undo else args.sha256
        kind = kind_of(ctx)
        is_back = bool(path and digest) and kind.digest(ctx, path) == digest
        return is_back and kind.is_started(ctx)

    def prepare(self, ctx: Context, args: DefinitionArgs) -> Data:
        parked = self._parked(ctx, args)
        return {"path": parked.original, "sha256": parked.sha256, "parked": parked.path}

    def act(self, ctx: Context, args: DefinitionArgs, undo: Data) -> Data:
        bring_back(ctx, undo["parked"], undo["path"])
        return {"path": undo["path"]}

    def prove(self, ctx: Context, args: DefinitionArgs, undo: Data) -> None:
        if not self.is_done(ctx, args, undo):
            raise StepFailed(f"{undo['path']} is not back as it was")

    def undo(self, ctx: Context, args: DefinitionArgs, undo: Data) -> None:
        kind_of(ctx).hold(ctx, undo["path"], undo["parked"])
