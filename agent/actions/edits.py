"""Change flags of etcd's definition, in place or parked; what it said is kept and put back."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Optional

from agent.actions import splice
from agent.actions.base import Action, Context, Data, NoArgs, wait_for
from agent.actions.definitions import current_config, file_hash, note_parked, parked_for
from agent.actions.members import others_serving
from agent.diagnosis.quorum import quorum
from agent.errors import PreconditionFailed, StepFailed
from agent.host import STATE_DIR
from agent.survey.manifest import etcd_config
from agent.survey.processes import etcd_processes
from agent.survey.watched import find_parked

_FORMER = f"{STATE_DIR}/former"


class EditDefinition(Action[Data]):
    """Change flags of etcd's definition, in place or parked; what it said is kept and put back.

    It is kept in a file of its own and not in the journal: a definition's environment may hold
    secrets, and journals are shown and carried about.
    """

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
            "sha256": file_hash(ctx.host, place),
            "former": f"{_FORMER}/{ctx.plan}-{ctx.step}-{os.path.basename(place)}",
            "times": [info.st_atime_ns, info.st_mtime_ns],
        }

    def act(self, ctx: Context, args: Data, undo: Data) -> Data:
        seen = ctx.host.read_text(undo["path"])
        before = self._former(ctx, undo, seen)
        after = self.edit(before, args)
        if seen not in (before, after):
            raise _changed_meanwhile(undo["path"])
        self._write(ctx, undo["path"], after)
        return {"path": undo["path"], "sha256": sha256(after.encode()).hexdigest()}

    def _former(self, ctx: Context, undo: Data, seen: str) -> str:
        """Give the text that the definition had, kept before the first change of it."""
        if not ctx.host.exists(undo["former"]):
            if sha256(seen.encode()).hexdigest() != undo["sha256"]:
                raise _changed_meanwhile(undo["path"])
            ctx.host.makedirs(_FORMER)
            ctx.host.write_atomic(undo["former"], seen.encode())
        return ctx.host.read_text(undo["former"])

    def prove(self, ctx: Context, args: Data, undo: Data) -> None:
        if not self.is_done(ctx, args, undo):
            raise StepFailed(f"{undo['path']} does not say what was written")

    def undo(self, ctx: Context, args: Data, undo: Data) -> None:
        if not ctx.host.exists(undo["former"]):
            return  # it never came to a change
        before = ctx.host.read_text(undo["former"])
        if ctx.host.exists(undo["path"]) and ctx.host.read_text(undo["path"]) != before:
            self._write(ctx, undo["path"], before)
            times = (int(undo["times"][0]), int(undo["times"][1]))
            os.utime(ctx.host.real(undo["path"]), ns=times)

    def _write(self, ctx: Context, path: str, text: str) -> None:
        """Write the definition; a parked one's note first, or it could not be put back later."""
        for parked in find_parked(ctx.host):
            if parked.path == path:
                digest = sha256(text.encode()).hexdigest()
                note_parked(ctx, replace(parked, sha256=digest))
        ctx.host.write_atomic(path, text.encode(), like=ctx.host.stat(path))


def _changed_meanwhile(path: str) -> StepFailed:
    return StepFailed(
        f"{path} is neither as it was nor as this step writes it",
        "somebody changed it meanwhile, and that change is not thrown away",
        "make a new plan: fab plan",
    )


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
    """Bring --initial-cluster and --initial-cluster-state up to date, where the quorum allows it.

    A changed manifest restarts the pod. Where the other voters are no quorum that would cost it for
    the time of the restart, so the edit is left, and said so.
    """

    name = "set_initial_cluster"
    args_type = InitialClusterArgs

    def edit(self, text: str, args: InitialClusterArgs) -> str:  # type: ignore[override]
        text = _set_or_add(text, "initial-cluster", args.members)
        return _set_or_add(text, "initial-cluster-state", args.state)

    def act(self, ctx: Context, args: Data, undo: Data) -> Data:
        if undo["path"] == current_config(ctx).definition:
            others, voters = others_serving(ctx)
            if others < quorum(voters):
                seen = f"{others} of {voters} voters would serve without this one"
                return {"left": f"{seen}; a restart would cost the quorum"}
        done = super().act(ctx, args, undo)
        if undo["path"] == current_config(ctx).definition:
            wait_for(ctx.say, "etcd to restart", lambda: _restarted(ctx), 240, 0.2)
        return done

    def prove(self, ctx: Context, args: Data, undo: Data) -> None:
        """Nothing to prove where the edit was left for the quorum's sake."""


class SetForceNewCluster(EditDefinition):
    """Add --force-new-cluster to a PARKED definition; the recipe's own step takes it off again."""

    name = "set_force_new_cluster"
    args_type = NoArgs

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

    def edit(self, text: str, args: Data) -> str:
        if splice.get_flag(text, "force-new-cluster") is None:
            return text
        return splice.remove_flag(text, "force-new-cluster")

    def check(self, ctx: Context, args: Data) -> None:
        super().check(ctx, args)
        place = self._place(ctx)
        after = self.edit(ctx.host.read_text(place), args)
        if etcd_config(after, place, ctx.platform.container).force_new_cluster:
            raise PreconditionFailed(
                f"{place} sets force-new-cluster in etcd's environment (ETCD_FORCE_NEW_CLUSTER)",
                "only the flag is taken off by this; the variable would still be in force",
                f"take ETCD_FORCE_NEW_CLUSTER out of the env of {place}",
            )


def _restarted(ctx: Context) -> tuple[bool, str]:
    """Say whether the running etcd was started with the definition's --initial-cluster."""
    wanted = current_config(ctx).flags.get("initial-cluster", "")
    running = [p for p in etcd_processes(ctx.host) if not p.scratch]
    if not running:
        return False, "the old one has ended, the new one has not started"
    fresh = any(wanted in argument for argument in running[0].argv)
    return fresh, f"process {running[0].pid} runs with the {'new' if fresh else 'old'} flags"
