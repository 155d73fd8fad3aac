"""What the installer keeps on one master only: lent to another before that one leaves.

ca.serial.txt and the CA directories hold keys: they come with the request, out of the coordinator's
memory, never in the plan, the journal or an argument list.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Optional

from agent.actions.base import Action, Context, Data, NoArgs
from agent.actions.placing import NewFile, keep, place, put_back
from agent.errors import Damaged, PreconditionFailed, StepFailed
from agent.platforms.openshift311 import CA_HOST_DIRS, CA_HOST_FILES

_MAX_BYTES = 16 * 1024 * 1024
_MAX_FILES = 2000


def ca_files(ctx: Context) -> dict[str, NewFile]:
    """Path → content and mode of every file there is. Raises PreconditionFailed for too many."""
    found: dict[str, NewFile] = {}
    size = 0
    for path in _paths(ctx):
        info = ctx.host.stat(path)
        if not stat.S_ISREG(info.st_mode):
            continue
        data = ctx.host.read_bytes(path, _MAX_BYTES)
        size += len(data)
        if size > _MAX_BYTES or len(found) >= _MAX_FILES:
            raise PreconditionFailed(
                f"{path}: the CA files are more than {_MAX_FILES}, or than {_MAX_BYTES >> 20} MiB",
                "they go from host to host in one message",
                "copy /etc/etcd/ca and /etc/etcd/generated_certs to another master by hand",
            )
        found[path] = NewFile(data, stat.S_IMODE(info.st_mode))
    return found


def _paths(ctx: Context) -> Iterator[str]:
    yield from (path for path in CA_HOST_FILES if ctx.host.exists(path))
    pending = [path for path in CA_HOST_DIRS if ctx.host.is_dir(path)]
    while pending:
        folder = pending.pop()
        for name in ctx.host.listdir(folder):
            path = f"{folder}/{name}"
            if ctx.host.is_link(path) or not ctx.host.exists(path):
                continue  # a link leads to what is read by its own name, or off this list
            if ctx.host.is_dir(path):
                pending.append(path)
            else:
                yield path


def lend_ca_files(ctx: Context) -> dict[str, Any]:
    """{"files": JSON of [{"path", "mode", "data": base64}, …]}, for another master."""
    rows = [
        {"path": path, "mode": new.mode, "data": base64.b64encode(new.data).decode()}
        for path, new in ca_files(ctx).items()
    ]
    return {"files": json.dumps(rows)}


class CheckCaFiles(Action[NoArgs]):
    """Look at what will be lent."""

    name = "check_ca_files"
    args_type = NoArgs

    def is_done(self, ctx: Context, args: NoArgs, undo: Optional[Data]) -> bool:
        return False

    def act(self, ctx: Context, args: NoArgs, undo: Data) -> Data:
        found = ca_files(ctx)
        return {"files": len(found), "bytes": sum(len(new.data) for new in found.values())}


@dataclass(frozen=True)
class CaFilesArgs:
    """source: the master whose files they are."""

    source: str


class InstallCaFiles(Action[CaFilesArgs]):
    """Put every file in place that is missing; one that is there and differs is never replaced."""

    name = "install_ca_files"
    args_type = CaFilesArgs

    def _brought(self, ctx: Context, args: CaFilesArgs) -> dict[str, NewFile]:
        try:
            rows = json.loads(ctx.secrets.get("files", ""))
            found = {
                str(r["path"]): NewFile(base64.b64decode(r["data"], validate=True), int(r["mode"]))
                for r in rows
            }
        except (ValueError, KeyError, TypeError, binascii.Error):
            raise PreconditionFailed(
                f"the CA files of {args.source} did not come with this request",
                "they are handed from host to host by the coordinator, and kept nowhere in between",
                "fab resume   (brings them again)",
            ) from None
        for path in found:
            _require_ca_path(path, args.source)
        return found

    def check(self, ctx: Context, args: CaFilesArgs) -> None:
        for path, new in self._brought(ctx, args).items():
            if ctx.host.exists(path) and ctx.host.read_bytes(path, _MAX_BYTES) != new.data:
                raise PreconditionFailed(
                    f"{path} is here already, and is another one than {args.source}'s",
                    "which of the two the installer should go on with is for you to say",
                    f"move one of them away, or move {path} of {args.source} to the right place",
                )

    def is_done(self, ctx: Context, args: CaFilesArgs, undo: Optional[Data]) -> bool:
        return undo is not None and all(
            ctx.host.exists(p) and ctx.host.read_bytes(p, _MAX_BYTES) == new.data
            for p, new in self._brought(ctx, args).items()
        )

    def prepare(self, ctx: Context, args: CaFilesArgs) -> Data:
        missing = [p for p in self._brought(ctx, args) if not ctx.host.exists(p)]
        return {"kept": keep(ctx, *missing), "made": _missing_folders(ctx, missing)}

    def act(self, ctx: Context, args: CaFilesArgs, undo: Data) -> Data:
        brought = self._brought(ctx, args)
        paths = {entry["path"] for entry in undo["kept"]}
        for path in paths:
            ctx.host.makedirs(os.path.dirname(path), 0o700)
        place(ctx, undo["kept"], {p: new for p, new in brought.items() if p in paths})
        return {"placed": len(paths), "from": args.source}

    def prove(self, ctx: Context, args: CaFilesArgs, undo: Data) -> None:
        if not self.is_done(ctx, args, undo):
            raise StepFailed(f"the CA files of {args.source} are not all in place")

    def undo(self, ctx: Context, args: CaFilesArgs, undo: Data) -> None:
        put_back(ctx, undo["kept"])
        for folder in reversed(undo["made"]):
            if ctx.host.is_dir(folder):
                ctx.host.run(["rmdir", "--ignore-fail-on-non-empty", folder], timeout=10)


def _missing_folders(ctx: Context, paths: Iterable[str]) -> list[str]:
    """Directories that have to be made for these files, each before what is in it."""
    found: set[str] = set()
    for path in paths:
        folder = os.path.dirname(path)
        while not ctx.host.exists(folder):
            found.add(folder)
            folder = os.path.dirname(folder)
    return sorted(found)


def _require_ca_path(path: str, source: str) -> None:
    """Raise Damaged for what is none of the files that this is about: a host is not believed."""
    inside = any(path.startswith(f"{folder}/") for folder in CA_HOST_DIRS)
    if not (path in CA_HOST_FILES or inside) or ".." in path.split("/"):
        raise Damaged(f"{source} lends {path!r}, which is no CA file", "it is not put in place")
