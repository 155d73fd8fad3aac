"""Where a rehearsal gets its etcd and its restoring tool: the node's own, else the PATH's."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from agent.actions.base import Context
from agent.actions.binary import obtain_binary
from agent.actions.restore_tool import RestoreTool, find_tool
from agent.errors import PreconditionFailed, Refused, RescueError
from agent.host import Host
from agent.model.facts import EtcdConfig
from agent.platforms import detect
from agent.platforms.base import Platform
from agent.platforms.kubeadm import Kubeadm
from agent.snapshot.verify import Say
from agent.survey.watched import find_parked, read_config, read_watched


@dataclass(frozen=True)
class Tools:
    """etcd: its path and version here. platform: of this host; kubeadm's where it has none.

    is_node: this is a control-plane host.
    """

    etcd: str
    etcd_version: str
    restore: RestoreTool
    platform: Platform
    is_node: bool


def find_tools(host: Host, say: Say) -> Tools:
    """The node's own binaries, copied out of its image if need be; else those on the PATH.

    Raises PreconditionFailed with what was tried.
    """
    try:
        platform = detect(host)
    except Refused:
        return _on_path(host)
    config = _config(host, platform)
    ctx = Context(host, platform, "rehearse", "rehearse", say)
    etcd, version = obtain_binary(ctx, config)
    return Tools(etcd, version, find_tool(ctx, config, etcd=version), platform, True)


def _config(host: Host, platform: Platform) -> EtcdConfig:
    """Etcd's definition in place or parked; without one only what is on the PATH can be used."""
    config, _strays, _problems = read_watched(host, platform)
    if config is not None:
        return config
    for parked in reversed(find_parked(host)):
        if parked.original:
            return read_config(host, platform, parked.path)
    return EtcdConfig(definition="", sha256="", name="", data_dir="")


def _on_path(host: Host) -> Tools:
    """For a machine that is no control-plane host, such as the operator's."""
    etcd = _which(host, "etcd")
    version = _version(host, etcd) if etcd else ""
    if not version:
        raise PreconditionFailed(
            "no etcd on this machine" if not etcd else f"{etcd} does not run here",
            "a rehearsal starts an etcd; this is no control-plane host, so the PATH must have one",
            "fab rehearse FILE --on HOST, with a host that has etcd; or install etcd here",
        )
    tool = None
    for name in ("etcdutl", "etcdctl"):
        path = _which(host, name)
        ctx = Context(host, Kubeadm(), "rehearse", "rehearse", lambda text: None)
        config = EtcdConfig(definition="", sha256="", name="", data_dir="")
        try:
            tool = find_tool(ctx, config, given=path) if path else None
        except RescueError:
            continue
        if tool is not None:
            return Tools(etcd, version, tool, Kubeadm(), False)
    raise PreconditionFailed(
        "no etcdutl or etcdctl on this machine that can restore",
        "a rehearsal restores the snapshot with etcd's own tool",
        "fab rehearse FILE --on HOST, with a host that has them; or install etcdutl here",
    )


def _which(host: Host, name: str) -> str:
    """A command on this process's own PATH, which may be longer than the host's usual one."""
    for directory in os.environ.get("PATH", "").split(":"):
        path = os.path.join(directory, name)
        if directory.startswith("/") and os.path.isfile(host.real(path)):
            return path
    return host.which(name)


def _version(host: Host, path: str) -> str:
    try:
        said = host.run([path, "--version"], timeout=10).stdout
    except (RescueError, OSError):
        return ""
    match = re.search(r"etcd Version: (\S+)", said)
    return match.group(1) if match else ""
