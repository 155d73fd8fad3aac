"""Gets the node's own etcd binary to run outside the kubelet; nothing is downloaded.

Sources, best first: the root file system of a running etcd, the local image store, the PATH. The
binary is copied under the state directory once, so that later steps need neither the runtime nor
a mount that a crash could leave behind.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256

from agent.actions.base import Context
from agent.errors import PreconditionFailed, RescueError
from agent.host import STATE_DIR
from agent.model.facts import EtcdConfig
from agent.survey.processes import etcd_processes

_BIN_DIR = f"{STATE_DIR}/bin"
_IN_IMAGE = ("usr/local/bin/etcd", "usr/bin/etcd", "bin/etcd", "etcd")


def obtain_binary(ctx: Context, config: EtcdConfig) -> tuple[str, str]:
    """Give (path, version) of an etcd that runs on this host and is the one the pod runs.

    Raises PreconditionFailed with what was tried where none runs.
    """
    tried: list[str] = []
    if config.program:  # of a unit: it is what the unit will start, whatever runs now
        version = _version(ctx, config.program, tried)
        if version:
            return config.program, version
    key = sha256((config.image or "path").encode()).hexdigest()[:16]
    target = f"{_BIN_DIR}/{key}/etcd"
    if ctx.host.exists(target):
        version = _version(ctx, target, tried)
        if version:
            return target, version
        ctx.host.rename_new(target, f"{target}.bad-{ctx.host.now():.3f}")
    for source, copy in ((_from_process, True), (_from_image, True), (_from_path, False)):
        try:
            with source(ctx, config) as found:
                if copy and found:
                    copy_in(ctx, found, target)
        except RescueError as error:
            tried.append(error.seen)
            continue
        except OSError as error:  # a crash-looping etcd may end while it is being copied
            tried.append(f"{error.filename or target}: {error.strerror}")
            continue
        path = target if copy else found
        version = _version(ctx, path, tried) if found else ""
        if version:
            note = {"image": config.image, "version": version, "from": found}
            ctx.host.makedirs(os.path.dirname(target))
            ctx.host.write_atomic(f"{_BIN_DIR}/{key}/etcd.json", json.dumps(note).encode())
            return path, version
    raise PreconditionFailed(
        f"no etcd binary can be run outside the kubelet: {'; '.join(tried) or 'none found'}",
        f"tried: a running etcd, the image {config.image or '(none named)'}, the PATH",
        "the slower way through the manifest needs none: --in-manifest",
    )


def copy_in(ctx: Context, found: str, target: str) -> None:
    """Copy an executable to a place of ours, whole or not at all."""
    ctx.host.makedirs(os.path.dirname(target))
    temp = f"{target}.new"
    with suppress(FileNotFoundError):
        os.unlink(ctx.host.real(temp))  # of an agent that was killed
    ctx.host.copy_file(found, temp)
    os.chmod(ctx.host.real(temp), 0o700)
    os.rename(ctx.host.real(temp), ctx.host.real(target))
    ctx.host.sync_dir(os.path.dirname(target))


def _version(ctx: Context, path: str, tried: list[str]) -> str:
    try:
        said = ctx.host.run([path, "--version"], timeout=10).stdout
    except (RescueError, OSError) as error:
        tried.append(f"{path}: {error}".splitlines()[0])
        return ""
    match = re.search(r"etcd Version: (\S+)", said)
    if match is None:
        tried.append(f"{path}: says no version")
    return match.group(1) if match else ""


@contextmanager
def _from_process(ctx: Context, config: EtcdConfig) -> Iterator[str]:
    """Find the binary of a running etcd, through the kernel's view of its root file system."""
    for process in etcd_processes(ctx.host):
        if not process.scratch:
            yield f"/proc/{process.pid}/exe"
            return
    yield ""


@contextmanager
def _from_image(ctx: Context, config: EtcdConfig) -> Iterator[str]:
    """Find the binary in the pod's image, out of the local store."""
    with image_root(ctx, config) as mount:
        found = [f"{mount}/{name}" for name in _IN_IMAGE if ctx.host.exists(f"{mount}/{name}")]
        yield found[0] if found and mount else ""


@contextmanager
def image_root(ctx: Context, config: EtcdConfig) -> Iterator[str]:
    """Mount the pod's image out of the local store, for as long as the block takes.

    Gives an empty path where the definition names no image. Raises CommandFailed.
    """
    if not config.image:
        yield ""
        return
    if ctx.platform.image_tool == "podman":
        with _podman_mount(ctx, config.image) as path:
            yield path
        return
    mount = f"{STATE_DIR}/work/image-{ctx.plan}"
    ctx.host.makedirs(mount)
    ctr = ["ctr", "-n", "k8s.io", "images"]
    # A run that was killed may have left the mount: its snapshot has the mount's path as its key.
    ctx.host.run([*ctr, "unmount", "--rm", mount], timeout=20, ok=(0, 1))
    ctx.host.run([*ctr, "mount", config.image, mount], timeout=30)
    try:
        yield mount
    finally:
        ctx.host.run([*ctr, "unmount", "--rm", mount], timeout=20, ok=(0, 1))


@contextmanager
def _podman_mount(ctx: Context, image: str) -> Iterator[str]:
    """Mount an image of podman's store, which CRI-O's is; nothing is ever pulled.

    podman counts mounts, so that one left by a run that was killed is no harm.
    """
    argv = ["podman", "image"]
    mounted = ctx.host.run([*argv, "mount", image], timeout=30).stdout.strip()
    try:
        yield mounted
    finally:
        ctx.host.run([*argv, "unmount", image], timeout=20, ok=(0, 1, 125))


@contextmanager
def _from_path(ctx: Context, config: EtcdConfig) -> Iterator[str]:
    yield ctx.host.which("etcd")
