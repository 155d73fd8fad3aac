"""Put a file of a master's backup back, with owner, mode, attributes; the present one is kept."""

from __future__ import annotations

import base64
import posixpath
from dataclasses import dataclass, field
from typing import Optional

from agent.actions.base import Action, Context, Data
from agent.actions.kind import file_hash
from agent.actions.placing import NewFile, keep, place, put_back
from agent.actions.relabel import relabel
from agent.errors import PreconditionFailed, StepFailed
from agent.host.syscalls import read_xattrs, write_xattrs
from agent.platforms.openshift311 import BACKED_UP

_LABEL = "security.selinux"
"""An attribute that `relabel` has the last word about."""

_MAX = 64 * 1024 * 1024


@dataclass(frozen=True)
class PlaceFileArgs:
    """path: where it belongs; source: where it lies on this host; sha256: of its content.

    was: sha256 of what was there when the two were compared, empty for nothing. xattrs: name →
    base64.
    """

    path: str
    source: str
    sha256: str
    was: str = ""
    mode: int = 0o600
    uid: int = 0
    gid: int = 0
    xattrs: dict[str, str] = field(default_factory=dict)


class PlaceMasterFile(Action[PlaceFileArgs]):
    """Replace one file at once; nothing that reads it is restarted."""

    name = "place_master_file"
    args_type = PlaceFileArgs

    def check(self, ctx: Context, args: PlaceFileArgs) -> None:
        inside = any(args.path == r or args.path.startswith(f"{r}/") for r in BACKED_UP)
        if not inside or posixpath.normpath(args.path) != args.path or ctx.host.is_link(args.path):
            raise PreconditionFailed(
                f"{args.path} is no plain file of a master's backup",
                "only what such a backup has is put back",
            )
        if args.path == ctx.platform.manifest and not self._is_same(ctx, args):
            raise PreconditionFailed(
                f"{args.path} is etcd's definition, and the kubelet runs what lies there",
                "etcd is not started by the way",
                "fab rescue-node HOST, once the definition lies there",
            )
        if file_hash(ctx.host, args.source) != args.sha256:
            raise PreconditionFailed(
                f"{args.source} is not the file that was compared", next="run the same command"
            )
        if not self._is_same(ctx, args) and file_hash(ctx.host, args.path) != args.was:
            raise PreconditionFailed(
                f"{args.path} is not the file that was compared",
                "somebody changed it since, and that change is not thrown away",
                "fab restore-master-files again: it shows the difference of now",
            )

    def _is_same(self, ctx: Context, args: PlaceFileArgs) -> bool:
        return file_hash(ctx.host, args.path) == args.sha256

    def is_done(self, ctx: Context, args: PlaceFileArgs, undo: Optional[Data]) -> bool:
        """With its attributes too: they are set after the file is in its place."""
        if undo is None or not self._is_placed(ctx, args):
            return False
        have = read_xattrs(ctx.host.real(args.path))
        wanted = {n: value for n, value in _xattrs(args).items() if n != _LABEL}
        return all(have.get(name) == value for name, value in wanted.items())

    def _is_placed(self, ctx: Context, args: PlaceFileArgs) -> bool:
        if not self._is_same(ctx, args):
            return False
        info = ctx.host.stat(args.path)
        return (info.st_mode & 0o7777, info.st_uid, info.st_gid) == (args.mode, args.uid, args.gid)

    def prepare(self, ctx: Context, args: PlaceFileArgs) -> Data:
        return {"kept": keep(ctx, args.path)}

    def act(self, ctx: Context, args: PlaceFileArgs, undo: Data) -> Data:
        if not self._is_placed(ctx, args):  # once: a second write, cut, would leave its dot-file
            data, path = ctx.host.read_bytes(args.source, _MAX), undo["kept"][0]["path"]
            new = NewFile(data, args.mode, (args.uid, args.gid), is_exact=True)
            place(ctx, undo["kept"], {path: new})
        write_xattrs(ctx.host.real(args.path), _xattrs(args))
        relabel(ctx, args.path)
        return {"sha256": args.sha256}

    def prove(self, ctx: Context, args: PlaceFileArgs, undo: Data) -> None:
        if not self._is_placed(ctx, args):  # not every file system has attributes
            raise StepFailed(f"{args.path} is not as the backup has it")

    def undo(self, ctx: Context, args: PlaceFileArgs, undo: Data) -> None:
        put_back(ctx, undo["kept"])


def _xattrs(args: PlaceFileArgs) -> dict[str, bytes]:
    return {name: base64.b64decode(value) for name, value in args.xattrs.items()}
