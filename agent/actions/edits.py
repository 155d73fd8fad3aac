"""Change flags of etcd's definition, in place or parked; what it said is kept and put back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Optional

from agent.actions.base import Action, Context, Data, NoArgs, wait_for
from agent.actions.definitions import current_config, note_parked, parked_for
from agent.actions.kind import Flags, Texts, file_hash
from agent.actions.kinds import kind_of
from agent.actions.members import others_serving
from agent.diagnosis.quorum import quorum
from agent.errors import PreconditionFailed, StepFailed
from agent.host import STATE_DIR
from agent.survey.processes import etcd_processes
from agent.survey.unit import read_text
from agent.survey.watched import find_parked

_FORMER = f"{STATE_DIR}/former"


class EditDefinition(Action[Data]):
    """Change flags of etcd's definition, in place or parked; what it said is kept and put back.

    It is kept in files of its own and not in the journal: a definition's environment may hold
    secrets, and journals are shown and carried about. undo data: {"place": where the definition is,
    "files": [{"path", "sha256", "former", "times"}, …]} of every file that is changed.
    """

    def flags(self, args: Data) -> Flags:
        """Give the flags to change, and their values."""
        raise NotImplementedError

    def _place(self, ctx: Context) -> str:
        config = current_config(ctx)
        if kind_of(ctx).is_there(ctx, config.definition):
            return config.definition
        parked = parked_for(ctx, config.definition)
        if parked is None:  # current_config found it there a moment ago
            raise PreconditionFailed(f"{config.definition} vanished while it was being read")
        return parked.path

    def _changed(self, ctx: Context, args: Data, place: str, texts: Texts) -> Texts:
        return kind_of(ctx).changed(ctx, place, texts, self.flags(args))

    def check(self, ctx: Context, args: Data) -> None:
        self._changed(ctx, args, self._place(ctx), {})

    def is_done(self, ctx: Context, args: Data, undo: Optional[Data]) -> bool:
        return not self._changed(ctx, args, self._place(ctx), {})

    def prepare(self, ctx: Context, args: Data) -> Data:
        place = self._place(ctx)
        paths = self._changed(ctx, args, place, {})
        return {"place": place, "files": [remember_file(ctx, path) for path in paths]}

    def act(self, ctx: Context, args: Data, undo: Data) -> Data:
        seen = {file["path"]: read_text(ctx.host, file["path"]) for file in undo["files"]}
        before = {f["path"]: former_text(ctx, f, seen[f["path"]]) for f in undo["files"]}
        after = self._changed(ctx, args, undo["place"], before)
        for path, text in seen.items():
            if text not in (before[path], after.get(path, before[path])):
                raise changed_meanwhile(path)
        self._write(ctx, undo["place"], after, {})
        digests = {path: sha256(as_bytes(text)).hexdigest() for path, text in after.items()}
        return {"sha256": digests}

    def prove(self, ctx: Context, args: Data, undo: Data) -> None:
        if not self.is_done(ctx, args, undo):
            raise StepFailed(f"{undo['place']} does not say what was written")

    def undo(self, ctx: Context, args: Data, undo: Data) -> None:
        for file in undo["files"]:
            ctx.host.clear_cut_write(file["path"])
        former = {
            file["path"]: read_text(ctx.host, file["former"])
            for file in undo["files"]
            if ctx.host.exists(file["former"]) and ctx.host.exists(file["path"])
        }  # where it came to a change
        changed = {p: text for p, text in former.items() if read_text(ctx.host, p) != text}
        times = {file["path"]: times_of(file) for file in undo["files"]}
        self._write(ctx, undo["place"], changed, times)

    def _write(
        self, ctx: Context, place: str, texts: Texts, times: Mapping[str, tuple[int, int]]
    ) -> None:
        """Write files; a parked definition's note first, or it could not be put back later."""
        for parked in find_parked(ctx.host):
            if parked.path == place and texts:
                digest = kind_of(ctx).parked_digest(ctx, place, parked.original, texts)
                note_parked(ctx, replace(parked, sha256=digest))
        for path, text in texts.items():
            like = ctx.host.stat(path)
            ctx.host.write_atomic(path, as_bytes(text), like=like, times=times.get(path))
        if texts:
            kind_of(ctx).written(ctx)


def remember_file(ctx: Context, path: str) -> Data:
    """Undo data of a file: its hash and times, and where its bytes will be kept."""
    info = ctx.host.stat(path)
    return {
        "path": path,
        "sha256": file_hash(ctx.host, path),
        "former": f"{_FORMER}/{ctx.plan}-{ctx.step}-{os.path.basename(path)}",
        "times": [info.st_atime_ns, info.st_mtime_ns],
    }


def times_of(file: Data) -> tuple[int, int]:
    """The times (atime, mtime, in ns) that a remembered file had."""
    return int(file["times"][0]), int(file["times"][1])


def former_text(ctx: Context, file: Data, seen: str) -> str:
    """Give the text that a file had, kept before the first change of it."""
    if not ctx.host.exists(file["former"]):
        if sha256(as_bytes(seen)).hexdigest() != file["sha256"]:
            raise changed_meanwhile(file["path"])
        ctx.host.makedirs(_FORMER)
        ctx.host.write_atomic(file["former"], as_bytes(seen))
    return read_text(ctx.host, file["former"])


def as_bytes(text: str) -> bytes:
    """The bytes that `read_text` made this text of."""
    return text.encode("utf-8", "surrogateescape")


def changed_meanwhile(path: str) -> StepFailed:
    """Why a file is not touched that somebody else has changed since this step began."""
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


class SetInitialCluster(EditDefinition):
    """Bring --initial-cluster and --initial-cluster-state up to date, where the quorum allows it.

    A changed manifest restarts the pod. Where the other voters are no quorum that would cost it for
    the time of the restart, so the edit is left, and said so. A unit is not restarted: etcd reads
    these values in an empty data directory only.
    """

    name = "set_initial_cluster"
    args_type = InitialClusterArgs

    def flags(self, args: InitialClusterArgs) -> Flags:  # type: ignore[override]
        return {"initial-cluster": args.members, "initial-cluster-state": args.state}

    def act(self, ctx: Context, args: Data, undo: Data) -> Data:
        is_in_place = undo["place"] == current_config(ctx).definition
        restarts = is_in_place and kind_of(ctx).restarts_when_changed
        if restarts:
            others, voters = others_serving(ctx)
            if others < quorum(voters):
                seen = f"{others} of {voters} voters would serve without this one"
                return {"left": f"{seen}; a restart would cost the quorum"}
        done = super().act(ctx, args, undo)
        if restarts:
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
        if kind_of(ctx).is_there(ctx, current_config(ctx).definition):
            raise PreconditionFailed(
                "etcd's definition is in place",
                "etcd would be started with --force-new-cluster, with nothing fenced and nothing "
                "copied",
                "rescue-agent park-definition",
            )

    def flags(self, args: Data) -> Flags:
        return {"force-new-cluster": "true"}


class ClearForceNewCluster(EditDefinition):
    """Take --force-new-cluster off the definition, wherever it is."""

    name = "clear_force_new_cluster"
    args_type = NoArgs

    def flags(self, args: Data) -> Flags:
        return {"force-new-cluster": None}

    def check(self, ctx: Context, args: Data) -> None:
        super().check(ctx, args)
        place = self._place(ctx)
        after = self._changed(ctx, args, place, {})
        if kind_of(ctx).config(ctx, place, after).force_new_cluster:
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
