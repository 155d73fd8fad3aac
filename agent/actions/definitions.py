"""Park and unpark the file that makes etcd run."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Optional

from agent.actions.base import Action, Context, Data
from agent.errors import PreconditionFailed, StepFailed
from agent.host import Host
from agent.model.facts import EtcdConfig, Parked
from agent.survey.watched import PARKED_DIR, find_parked, read_config, read_watched


def file_hash(host: Host, path: str) -> str:
    """sha256 of a small file, as hex; empty where there is none."""
    return sha256(host.read_bytes(path)).hexdigest() if host.exists(path) else ""


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
            "the kubelet runs every file of the watched directory; which one is meant is unclear",
            f"move it out of {ctx.platform.manifest_dir}, then run this again",
        )
    for parked in reversed(parked_here(ctx)):
        config = read_config(ctx.host, ctx.platform, parked.path)
        return replace(config, definition=parked.original or parked.path)
    raise PreconditionFailed(
        "; ".join([f"no etcd definition in {ctx.platform.manifest_dir}, none parked", *problems]),
        "nothing here says how etcd is meant to run",
        "put the definition back, or make it with kubeadm, then run this again",
    )


def require_watched(ctx: Context, path: str) -> None:
    """Raise PreconditionFailed unless `path` lies right in the platform's watched directory."""
    if os.path.dirname(path) != ctx.platform.manifest_dir or os.path.basename(path)[:1] == ".":
        raise PreconditionFailed(
            f"{path} is not a definition in {ctx.platform.manifest_dir}",
            "only etcd's own definition is ever touched",
        )
    if ctx.host.is_link(path):
        raise PreconditionFailed(
            f"{path} is a symbolic link to {ctx.host.realpath(path)}",
            "a link that is moved may lead nowhere",
            f"cp --remove-destination {ctx.host.realpath(path)} {path}, then run this again",
        )


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
    """Move a definition to its parking place; nothing to do where it is there already."""
    ctx.host.makedirs(PARKED_DIR)
    note_parked(ctx, Parked(place, path, digest, ctx.plan))
    if ctx.host.exists(path):
        ctx.host.move_new(path, place)


def note_parked(ctx: Context, parked: Parked) -> None:
    """Write beside a parked definition where it belongs and what it must contain."""
    note = {"original": parked.original, "sha256": parked.sha256, "plan": parked.plan}
    ctx.host.write_atomic(f"{parked.path}.json", json.dumps(note).encode())


def bring_back(ctx: Context, place: str, path: str) -> None:
    """Move a parked definition back where it came from; nothing to do where it is there.

    A move to another file system that could not remove the original (it had turned read-only)
    leaves an equal copy: that is set aside under a name that nobody takes for a parked definition.
    """
    if not ctx.host.exists(place):
        return
    if file_hash(ctx.host, place) == file_hash(ctx.host, path):
        folder, name = os.path.split(place)
        ctx.host.rename_new(place, f"{folder}/.{name}.copy")
    else:
        ctx.host.move_new(place, path)


class ParkDefinition(Action[DefinitionArgs]):
    """Move the definition out of the watched directory, remembering where it was."""

    name = "park_definition"
    args_type = DefinitionArgs

    def check(self, ctx: Context, args: DefinitionArgs) -> None:
        path = args.path or current_config(ctx).definition
        require_watched(ctx, path)
        seen = file_hash(ctx.host, path)
        if not seen or seen != (args.sha256 or seen):
            raise PreconditionFailed(
                f"{path} is {'gone' if not seen else 'not the file that was surveyed'}",
                "somebody or something changed it since; this plan was made for another file",
                "make a new plan: fab plan",
            )

    def is_done(self, ctx: Context, args: DefinitionArgs, undo: Optional[Data]) -> bool:
        return (
            undo is not None
            and not ctx.host.exists(undo["path"])
            and file_hash(ctx.host, undo["parked"]) == undo["sha256"]
        )

    def prepare(self, ctx: Context, args: DefinitionArgs) -> Data:
        path = args.path or current_config(ctx).definition
        digest = file_hash(ctx.host, path)
        return {"path": path, "sha256": digest, "parked": parking_place(ctx, path)}

    def act(self, ctx: Context, args: DefinitionArgs, undo: Data) -> Data:
        park(ctx, undo["path"], undo["sha256"], undo["parked"])
        return {"parked": undo["parked"]}

    def prove(self, ctx: Context, args: DefinitionArgs, undo: Data) -> None:
        if not self.is_done(ctx, args, undo):
            raise StepFailed(f"{undo['path']} was not parked", "it is still in its directory")

    def undo(self, ctx: Context, args: DefinitionArgs, undo: Data) -> None:
        bring_back(ctx, undo["parked"], undo["path"])


class UnparkDefinition(Action[DefinitionArgs]):
    """Move the parked definition back, unchanged."""

    name = "unpark_definition"
    args_type = DefinitionArgs

    def check(self, ctx: Context, args: DefinitionArgs) -> None:
        parked = self._parked(ctx, args)
        require_watched(ctx, parked.original)
        if ctx.host.exists(parked.original):
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
        if file_hash(ctx.host, parked.path) != (args.sha256 or parked.sha256):
            raise PreconditionFailed(
                f"{parked.path} is not the file that was parked",
                "what would be put back is not what was taken away",
                f"look into {PARKED_DIR}",
            )
        return parked

    def is_done(self, ctx: Context, args: DefinitionArgs, undo: Optional[Data]) -> bool:
        if undo is None:
            return bool(args.path and args.sha256) and file_hash(ctx.host, args.path) == args.sha256
        return bool(file_hash(ctx.host, undo["path"]) == undo["sha256"])

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
        bring_back(ctx, undo["path"], undo["parked"])
