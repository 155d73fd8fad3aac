"""Runs etcdctl on a host: the node's own, at its own endpoint, with its own certificates.

etcdctl lies in etcd's image more often than on the host. It is copied out of the running container
or the image once, beside etcd itself, so that it needs neither crictl nor a running etcd, and its
exit code and output are its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Optional

from agent.actions.base import Context
from agent.actions.binary import copy_in, image_root
from agent.actions.definitions import current_config
from agent.errors import PreconditionFailed, RescueError
from agent.host import STATE_DIR, Host
from agent.model.facts import EtcdConfig
from agent.platforms import detect
from agent.survey.online import local_endpoint
from agent.survey.processes import etcd_processes

_PLACES = ("usr/local/bin/etcdctl", "usr/bin/etcdctl", "bin/etcdctl", "etcdctl")
_VERSION = re.compile(r"etcdctl version: (\d+)\.(\d+)(\S*)")
_STDIN = 0


def run_etcdctl(
    host: Host, words: Sequence[str], out: Callable[[str, bytes], None]
) -> dict[str, Any]:
    """Run it with these words, never through a shell; {"code", "version"}.

    Endpoint and certificates are those of this host's member, unless `words` give others. It ends
    with the connection of whoever asked.
    """
    ctx = Context(host, detect(host), "etcdctl", "etcdctl", lambda _text: None)
    config = current_config(ctx)
    path, version = find_etcdctl(ctx, config)
    env = environment(version)
    code = host.stream([path, *defaults(config, words), *words], out, env, until=_STDIN)
    return {"code": code, "version": ".".join(map(str, version))}


def defaults(config: EtcdConfig, words: Sequence[str]) -> list[str]:
    """Flags for this host's member that the words do not give themselves."""
    tls = config.client_tls
    known = {
        "endpoints": local_endpoint(config), "cacert": tls.ca, "cert": tls.cert, "key": tls.key,
    }  # fmt: skip
    given = {word[2:].partition("=")[0] for word in words if word.startswith("--")}
    return [f"--{name}={value}" for name, value in known.items() if value and name not in given]


def environment(version: tuple[int, int]) -> dict[str, str]:
    """Before 3.4 etcdctl speaks etcd's API 2 unless told; 3.6 complains of the variable."""
    return {"ETCDCTL_API": "3"} if version < (3, 4) else {}


def find_etcdctl(ctx: Context, config: EtcdConfig) -> tuple[str, tuple[int, int]]:
    """(path, version) of the node's own etcdctl. Raises PreconditionFailed with what was tried."""
    tried: list[str] = []
    key = sha256((config.image or "path").encode()).hexdigest()[:16]
    kept = f"{STATE_DIR}/bin/{key}/etcdctl"
    beside = f"{config.program.rpartition('/')[0]}/etcdctl" if config.program else ""
    for path in (beside, kept):
        found = _version(ctx, path, tried)
        if found:
            return path, found
    for copy in (_from_container, _from_image):
        try:
            copy(ctx, config, kept)
        except (RescueError, OSError) as error:  # a crash-looping etcd may end meanwhile
            tried.append(error.seen if isinstance(error, RescueError) else str(error))
            continue
        found = _version(ctx, kept, tried)
        if found:
            return kept, found
    path = ctx.host.which("etcdctl")
    found = _version(ctx, path, tried)
    if found:
        return path, found
    raise PreconditionFailed(
        f"no etcdctl runs on {ctx.host.hostname()}: {'; '.join(tried) or 'none found'}",
        f"looked into a running etcd, its image {config.image or '(none named)'}, and the PATH",
        "fab etcdctl OTHER-HOST -- …",
    )


def _version(ctx: Context, path: str, tried: list[str]) -> Optional[tuple[int, int]]:
    """Its (major, minor) version, or None where it does not run."""
    if not path or not ctx.host.exists(path):
        return None
    try:
        said = ctx.host.run([path, "version"], timeout=10, env={"ETCDCTL_API": "3"}).stdout
    except (RescueError, OSError) as error:
        tried.append(f"{path}: {error}".splitlines()[0])
        return None
    match = _VERSION.search(said)
    if match is None:
        tried.append(f"{path}: says no version")
        return None
    return int(match.group(1)), int(match.group(2))


def _from_container(ctx: Context, config: EtcdConfig, target: str) -> None:
    for process in etcd_processes(ctx.host):
        if not process.scratch:
            _copy_from(ctx, f"/proc/{process.pid}/root", target)
            return


def _from_image(ctx: Context, config: EtcdConfig, target: str) -> None:
    with image_root(ctx, config) as root:
        if root:
            _copy_from(ctx, root, target)


def _copy_from(ctx: Context, root: str, target: str) -> None:
    for place in _PLACES:
        if ctx.host.exists(f"{root}/{place}"):
            copy_in(ctx, f"{root}/{place}", target)
            return
