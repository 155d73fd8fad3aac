"""Park and unpark the file that makes etcd run, and edit what it says."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from hashlib import sha256
from typing import Optional

from agent.actions import splice
from agent.actions.base import Action, Context, Data, NoArgs
from agent.errors import PreconditionFailed, StepFailed
from agent.host import STATE_DIR, Host
from agent.model.facts import EtcdConfig, Parked
from agent.survey.watched import find_parked, read_watched

PARKED_DIR = f"{STATE_DIR}/parked"


def file_hash(host: Host, path: str) -> str:
    """sha256 of a small file, as hex; empty where there is none."""
    return sha256(host.read_bytes(path)).hexdigest() if host.exists(path) else ""


def parked_for(ctx: Context, original: str) -> Optional[Parked]:
    """Give the newest parked definition that came from `original`, or None."""
    found = [p for p in find_parked(ctx.host) if p.original == original]
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
    for parked in reversed(find_parked(ctx.host)):
        text = ctx.host.read_text(parked.path)
        return ctx.platform.etcd_config(ctx.host, text, parked.original)
    raise PreconditionFailed(
        f"no etcd definition in {ctx.platform.manifest_dir}, and none parked: {'; '.join(problems)}",
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


@dataclass(frozen=True)
class DefinitionArgs:
    """path: the definition's place in the watched directory; sha256: of what it must contain."""

    path: str
    sha256: str


class ParkDefinition(Action[DefinitionArgs]):
    """Move the definition out of the watched directory, remembering where it was."""

    name = "park_definition"
    args_type = DefinitionArgs
    title = "park etcd's definition, so that nothing starts it"
    precondition = "the definition is in place and unchanged since the survey"
    undo_text = "put the definition back"

    def check(self, ctx: Context, args: DefinitionArgs) -> None:
        require_watched(ctx, args.path)
        seen = file_hash(ctx.host, args.path)
        if seen != args.sha256:
            raise PreconditionFailed(
                f"{args.path} is {'gone' if not seen else 'not the file that was surveyed'}",
                "somebody or something changed it since; this plan was made for another file",
                "make a new plan: fab plan",
            )

    def is_done(self, ctx: Context, args: DefinitionArgs, undo: Optional[Data]) -> bool:
        return (
            undo is not None
            and not ctx.host.exists(args.path)
            and file_hash(ctx.host, undo["parked"]) == args.sha256
        )

    def prepare(self, ctx: Context, args: DefinitionArgs) -> Data:
        parked = f"{PARKED_DIR}/{ctx.plan}-{ctx.step}-{os.path.basename(args.path)}"
        return {"parked": parked, "original": args.path}

    def act(self, ctx: Context, args: DefinitionArgs, undo: Data) -> Data:
        ctx.host.makedirs(PARKED_DIR)
        note = {"original": args.path, "sha256": args.sha256, "plan": ctx.plan}
        ctx.host.write_atomic(undo["parked"] + ".json", json.dumps(note).encode())
        if ctx.host.exists(args.path):
            ctx.host.move_new(args.path, undo["parked"])
        return {"parked": undo["parked"]}

    def prove(self, ctx: Context, args: DefinitionArgs, undo: Data) -> None:
        if not self.is_done(ctx, args, undo):
            raise StepFailed(f"{args.path} was not parked", "it is still in the watched directory")

    def undo(self, ctx: Context, args: DefinitionArgs, undo: Data) -> None:
        if ctx.host.exists(undo["parked"]) and not ctx.host.exists(args.path):
            ctx.host.move_new(undo["parked"], args.path)


class UnparkDefinition(Action[DefinitionArgs]):
    """Move the parked definition back, unchanged."""

    name = "unpark_definition"
    args_type = DefinitionArgs
    title = "put etcd's definition back, unchanged"
    precondition = "it is parked, byte for byte as it was, without --force-new-cluster"
    undo_text = "park the definition again"

    def check(self, ctx: Context, args: DefinitionArgs) -> None:
        require_watched(ctx, args.path)
        parked = self._parked(ctx, args)
        if ctx.host.exists(args.path):
            raise PreconditionFailed(
                f"{args.path} is there already", "two definitions would run two etcds"
            )
        config = ctx.platform.etcd_config(ctx.host, ctx.host.read_text(parked.path), args.path)
        if config.force_new_cluster:
            raise PreconditionFailed(
                f"{parked.path} contains --force-new-cluster",
                "each start with it would throw the other members out again",
                "rescue-agent clear-force-new-cluster",
            )

    def _parked(self, ctx: Context, args: DefinitionArgs) -> Parked:
        parked = parked_for(ctx, args.path)
        if parked is None or file_hash(ctx.host, parked.path) != args.sha256:
            raise PreconditionFailed(
                f"no parked definition of {args.path} with the hash {args.sha256[:12]}",
                "what would be put back is not what was taken away",
                f"look into {PARKED_DIR}",
            )
        return parked

    def is_done(self, ctx: Context, args: DefinitionArgs, undo: Optional[Data]) -> bool:
        return file_hash(ctx.host, args.path) == args.sha256

    def prepare(self, ctx: Context, args: DefinitionArgs) -> Data:
        return {"parked": self._parked(ctx, args).path}

    def act(self, ctx: Context, args: DefinitionArgs, undo: Data) -> Data:
        if not ctx.host.exists(args.path):
            ctx.host.move_new(undo["parked"], args.path)
        return {}

    def prove(self, ctx: Context, args: DefinitionArgs, undo: Data) -> None:
        if not self.is_done(ctx, args, undo):
            raise StepFailed(f"{args.path} is not back as it was")

    def undo(self, ctx: Context, args: DefinitionArgs, undo: Data) -> None:
        if ctx.host.exists(args.path) and not ctx.host.exists(undo["parked"]):
            ctx.host.move_new(args.path, undo["parked"])


class EditDefinition(Action[Data]):
    """Change flags of etcd's definition, in place or parked; what it said is kept and put back."""

    precondition = "there is exactly one etcd definition, and its flags are plain arguments"
    undo_text = "put back the definition's former bytes"

    def edit(self, text: str, args: Data) -> str:
        """Give the definition's new text."""
        raise NotImplementedError

    def _place(self, ctx: Context) -> str:
        config = current_config(ctx)
        if ctx.host.exists(config.definition):
            return config.definition
        parked = parked_for(ctx, config.definition)
        if parked is None:  # current_config found it there a moment ago
            raise PreconditionFailed(f"{config.definition} vanished while it was being read")
        return parked.path

    def check(self, ctx: Context, args: Data) -> None:
        self.edit(ctx.host.read_text(self._place(ctx)), args)

    def is_done(self, ctx: Context, args: Data, undo: Optional[Data]) -> bool:
        text = ctx.host.read_text(self._place(ctx))
        return self.edit(text, args) == text

    def prepare(self, ctx: Context, args: Data) -> Data:
        place = self._place(ctx)
        info = ctx.host.stat(place)
        return {
            "path": place,
            "before": ctx.host.read_text(place),
            "times": [info.st_atime_ns, info.st_mtime_ns],
        }

    def act(self, ctx: Context, args: Data, undo: Data) -> Data:
        after = self.edit(undo["before"], args)
        self._write(ctx, undo["path"], after)
        return {"path": undo["path"], "sha256": sha256(after.encode()).hexdigest()}

    def prove(self, ctx: Context, args: Data, undo: Data) -> None:
        if not self.is_done(ctx, args, undo):
            raise StepFailed(f"{undo['path']} does not say what was written")

    def undo(self, ctx: Context, args: Data, undo: Data) -> None:
        if ctx.host.exists(undo["path"]) and ctx.host.read_text(undo["path"]) != undo["before"]:
            self._write(ctx, undo["path"], undo["before"])
            times = (int(undo["times"][0]), int(undo["times"][1]))
            os.utime(ctx.host.real(undo["path"]), ns=times)

    def _write(self, ctx: Context, path: str, text: str) -> None:
        ctx.host.write_atomic(path, text.encode(), like=ctx.host.stat(path))


@dataclass(frozen=True)
class InitialClusterArgs:
    """members: name=peer URL pairs, comma-separated as the flag has it; state: new or existing."""

    members: str
    state: str = "existing"


def _set_or_add(text: str, flag: str, value: str) -> str:
    if splice.get_flag(text, flag) is None:
        return splice.add_flag(text, flag, value)
    return splice.set_flag(text, flag, value)


class SetInitialCluster(EditDefinition):
    """Bring --initial-cluster and --initial-cluster-state up to date."""

    name = "set_initial_cluster"
    args_type = InitialClusterArgs
    title = "bring --initial-cluster up to date"

    def edit(self, text: str, args: InitialClusterArgs) -> str:  # type: ignore[override]
        text = _set_or_add(text, "initial-cluster", args.members)
        return _set_or_add(text, "initial-cluster-state", args.state)


class SetForceNewCluster(EditDefinition):
    """Add --force-new-cluster to a PARKED definition; the recipe's own step takes it off again."""

    name = "set_force_new_cluster"
    args_type = NoArgs
    title = "add --force-new-cluster to the parked definition"

    def check(self, ctx: Context, args: Data) -> None:
        super().check(ctx, args)
        if ctx.host.exists(current_config(ctx).definition):
            raise PreconditionFailed(
                "etcd's definition is in place",
                "the kubelet would restart etcd with --force-new-cluster at once, with nothing "
                "fenced and nothing copied",
                "rescue-agent park-definition",
            )

    def edit(self, text: str, args: Data) -> str:
        return _set_or_add(text, "force-new-cluster", "true")


class ClearForceNewCluster(EditDefinition):
    """Take --force-new-cluster off the definition, wherever it is."""

    name = "clear_force_new_cluster"
    args_type = NoArgs
    title = "take --force-new-cluster off the definition"

    def edit(self, text: str, args: Data) -> str:
        if splice.get_flag(text, "force-new-cluster") is None:
            return text
        return splice.remove_flag(text, "force-new-cluster")
