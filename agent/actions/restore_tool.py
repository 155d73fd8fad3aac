"""Gets the tool that makes a data directory of a snapshot: the node's own etcdutl or etcdctl.

etcdutl has `snapshot restore` since 3.5, etcdctl has it up to 3.5. Which one knows it, and whether
it can raise the revision, is asked of the tool itself: version numbers say less (distributions
patch, images leave binaries out).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Optional

from agent.actions.base import Context
from agent.actions.binary import copy_in, image_root
from agent.errors import PreconditionFailed, RescueError
from agent.host import STATE_DIR
from agent.model.facts import EtcdConfig
from agent.snapshot.bulk import INCOMING
from agent.survey.processes import etcd_processes

_NAMES = ("etcdutl", "etcdctl")
_FOLDERS = ("usr/local/bin", "usr/bin", "bin", ".")


@dataclass(frozen=True)
class RestoreTool:
    """path: on this host. bumps: it has --bump-revision and --mark-compacted."""

    path: str
    name: str
    version: str
    bumps: bool


def find_tool(ctx: Context, config: EtcdConfig, given: str = "", etcd: str = "") -> RestoreTool:
    """Give the restoring tool of this node, copied aside where it is in a container or image.

    given: the operator's own (--tool), a path on this host; it is that or none. etcd: the version
    of the node's etcd; a tool that is merely on the PATH must be of the same minor version. Raises
    PreconditionFailed with what was tried.
    """
    if given:
        return _require(ctx, given)
    tried: list[str] = []
    key = sha256((config.image or "path").encode()).hexdigest()[:16]
    kept = f"{STATE_DIR}/bin/{key}"
    for name in _NAMES:
        found = _probe(ctx, f"{kept}/{name}", name, tried)
        if found is not None:
            return found
    for source in (_running_root, image_root):
        found = _from_root(ctx, config, source, kept, tried)
        if found is not None:
            return found
    for name in _NAMES:
        found = _probe(ctx, ctx.host.which(name), name, tried)
        if found is not None and _minor(found.version) == _minor(etcd or found.version):
            return found
        if found is not None:
            tried.append(f"{found.path} is {found.version}, the node's etcd {etcd}")
    raise PreconditionFailed(
        f"no etcdutl or etcdctl that can restore: {'; '.join(tried) or 'none found'}",
        "looked into a running etcd's container, its image "
        f"{config.image or '(none named)'} and the PATH; only etcd's own tool makes its data",
        f"fetch the etcdutl of etcd {etcd or 'of this version'}, then: fab restore … --tool PATH",
    )


def _require(ctx: Context, given: str) -> RestoreTool:
    tried: list[str] = []
    path = _executable(ctx, given)
    name = "etcdctl" if "etcdctl" in path.rsplit("/", 1)[-1] else "etcdutl"
    found = _probe(ctx, path, name, tried)
    if found is None:
        raise PreconditionFailed(
            f"{path} cannot restore a snapshot: {'; '.join(tried) or 'there is no such file'}",
            "it has no `snapshot restore`, or does not run on this host",
            "give the path of an etcdutl that runs there: --tool PATH",
        )
    return found


def _executable(ctx: Context, path: str) -> str:
    """What was sent here for this is no program yet: a copy of it beside the other tools is."""
    if not path.startswith(f"{INCOMING}/") or not ctx.host.exists(path):
        return path
    folder, name = path.rsplit("/", 2)[1:]
    target = f"{STATE_DIR}/bin/{folder}/{name}"
    if not ctx.host.exists(target):
        copy_in(ctx, path, target)
    return target


def _probe(ctx: Context, path: str, name: str, tried: list[str]) -> Optional[RestoreTool]:
    """Ask a tool whether it restores, and how; None where it is missing or does not."""
    if not path or not ctx.host.exists(path):
        return None
    env = {"ETCDCTL_API": "3"} if name == "etcdctl" else None
    try:
        words = ctx.host.run([path, "snapshot", "restore", "--help"], timeout=20, env=env).stdout
        said = ctx.host.run([path, "version"], timeout=20, env=env).stdout
    except (RescueError, OSError) as error:
        tried.append(f"{path}: {error}".splitlines()[0])
        return None
    if "--initial-cluster-token" not in words or "--data-dir" not in words:
        tried.append(f"{path} has no `snapshot restore`")
        return None
    version = re.search(r"etcd(?:utl|ctl) version: (\S+)", said)
    bumps = "--bump-revision" in words and "--mark-compacted" in words
    return RestoreTool(path, name, version.group(1) if version else "", bumps)


Root = Callable[[Context, EtcdConfig], AbstractContextManager[str]]


def _from_root(
    ctx: Context, config: EtcdConfig, source: Root, kept: str, tried: list[str]
) -> Optional[RestoreTool]:
    """Copy the first tool out of a container's root file system that restores."""
    try:
        with source(ctx, config) as root:
            for name in _NAMES if root else ():
                places = [f"{root}/{folder}/{name}" for folder in _FOLDERS]
                place = next((p for p in places if ctx.host.exists(p)), "")
                if not place:
                    continue
                copy_in(ctx, place, f"{kept}/{name}")
                found = _probe(ctx, f"{kept}/{name}", name, tried)
                if found is not None:
                    return found
    except RescueError as error:
        tried.append(error.seen)
    except OSError as error:  # a crash-looping etcd may end while its tool is copied
        tried.append(f"{error.filename}: {error.strerror}")
    return None


@contextmanager
def _running_root(ctx: Context, config: EtcdConfig) -> Iterator[str]:
    """The root file system of a running etcd, as the kernel shows it; the host's own is none."""
    for process in etcd_processes(ctx.host):
        if not process.scratch and config.image:
            yield f"/proc/{process.pid}/root"
            return
    yield ""


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
