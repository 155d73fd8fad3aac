"""Take a backup set in OpenShift's own layout, as a step: the way back to how it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from agent.actions.base import Action, Context, Data
from agent.actions.definitions import current_config
from agent.errors import RescueError
from agent.snapshot import openshift4_set


@dataclass(frozen=True)
class BackupArgs:
    """folder: a directory of the host; the set lies in a directory of it that is called `stamp`."""

    folder: str
    stamp: str


class TakeBackupSet(Action[BackupArgs]):
    """A set is whole and verified, or it does not have its name."""

    name = "take_backup_set"
    args_type = BackupArgs

    def is_done(self, ctx: Context, args: BackupArgs, undo: Optional[Data]) -> bool:
        if undo is None:
            return False
        try:
            openshift4_set.read(ctx.host, f"{args.folder}/{args.stamp}")
        except (RescueError, FileNotFoundError):
            return False
        return True

    def act(self, ctx: Context, args: BackupArgs, undo: Data) -> Data:
        target = f"{args.folder}/{args.stamp}"
        if ctx.host.exists(target):  # of a run that was killed between its name and its record
            ctx.host.rename_new(target, f"{target}-unproved-{ctx.host.now():.3f}")
        config = current_config(ctx)
        found = openshift4_set.take(ctx.host, config, args.folder, args.stamp, ctx.say)
        return {
            "directory": found.directory,
            "revision": found.facts.revision,
            "resources": list(found.revisions),
        }
