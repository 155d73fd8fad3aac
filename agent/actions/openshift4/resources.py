"""Put revisions of static pod resources back that a backup set has and this host has not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from agent.actions.base import Action, Context, Data
from agent.archive import Entry
from agent.errors import PreconditionFailed, StepFailed
from agent.host import STATE_DIR
from agent.host.new_tree import NewTree
from agent.platforms.openshift4 import RESOURCES
from agent.snapshot.openshift4_set import hash_of, read_resources

Files = dict[str, tuple[Entry, bytes]]


@dataclass(frozen=True)
class ResourcesArgs:
    """archive: a path of this host; sha256: of it."""

    archive: str
    sha256: str


class RestoreStaticResources(Action[ResourcesArgs]):
    """A revision's directory never changes once it is written: what is here stays as it is.

    What is missing comes from the set: a control plane's static pods must find the certificates and
    the configuration of encryption at rest that their restored objects were written with.
    """

    name = "restore_static_resources"
    args_type = ResourcesArgs

    def check(self, ctx: Context, args: ResourcesArgs) -> None:
        if not ctx.host.exists(args.archive) or hash_of(ctx.host, args.archive) != args.sha256:
            raise PreconditionFailed(
                f"{args.archive} is not the archive that the plan was made with",
                "the resources and the snapshot of a restore are of one set",
                "make a new plan: fab restore",
            )

    def is_done(self, ctx: Context, args: ResourcesArgs, undo: Optional[Data]) -> bool:
        return undo is not None and all(
            ctx.host.is_dir(f"{RESOURCES}/{name}") for name in undo["missing"]
        )

    def prepare(self, ctx: Context, args: ResourcesArgs) -> Data:
        names = _revisions(read_resources(ctx.host, args.archive))
        missing = [name for name in names if not ctx.host.exists(f"{RESOURCES}/{name}")]
        return {"missing": missing, "there": sorted(set(names) - set(missing))}

    def act(self, ctx: Context, args: ResourcesArgs, undo: Data) -> Data:
        files = read_resources(ctx.host, args.archive)
        ctx.host.makedirs(RESOURCES, 0o755)
        for name in undo["missing"]:
            if not ctx.host.exists(f"{RESOURCES}/{name}"):
                self._place(ctx, name, files)
        return {"put back": undo["missing"], "there already": undo["there"]}

    def _place(self, ctx: Context, name: str, files: Files) -> None:
        part = f"{RESOURCES}/.{name}.{ctx.plan}"
        if ctx.host.exists(part):  # of a run that was killed
            ctx.host.rename_new(part, f"{part}.torn-{ctx.host.now():.3f}")
        with NewTree(ctx.host, part) as tree:
            for path, (entry, data) in files.items():
                parts = path.split("/", 2)
                if len(parts) < 3 or parts[1] != name:
                    continue
                if entry.kind == "directory":
                    tree.directory(parts[2], entry.mode | 0o700)
                else:
                    with tree.file(parts[2], entry.mode | 0o600) as file:
                        file.write(data)
        ctx.host.rename_new(part, f"{RESOURCES}/{name}")

    def prove(self, ctx: Context, args: ResourcesArgs, undo: Data) -> None:
        for path, (entry, data) in read_resources(ctx.host, args.archive).items():
            parts = path.split("/", 2)
            if len(parts) < 3 or parts[1] not in undo["missing"] or entry.kind != "file":
                continue
            if ctx.host.read_bytes(f"{RESOURCES}/{parts[1]}/{parts[2]}", len(data) + 1) != data:
                raise StepFailed(f"{RESOURCES}/{parts[1]}/{parts[2]} is not what the set has")

    def undo(self, ctx: Context, args: ResourcesArgs, undo: Data) -> None:
        for name in undo["missing"]:
            path = f"{RESOURCES}/{name}"
            if ctx.host.exists(path):
                folder = f"{STATE_DIR}/quarantine/{ctx.plan}/{ctx.step}-undone"
                ctx.host.makedirs(folder)
                ctx.host.move_new(path, f"{folder}/{name}")


def _revisions(files: Files) -> list[str]:
    return sorted({path.split("/")[1] for path in files if "/" in path})
