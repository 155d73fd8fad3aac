"""A definition that is a static pod's manifest, run by the kubelet."""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import sha256
from typing import Any, Optional

from agent.actions import splice
from agent.actions.base import Context
from agent.actions.kind import Flags, Kind, Texts, file_hash
from agent.errors import CommandFailed, Damaged, PreconditionFailed
from agent.model.facts import EtcdConfig
from agent.survey.containers import read_runtime, running_in, stop_container, stop_sandbox
from agent.survey.manifest import etcd_config
from agent.survey.processes import is_etcd_stopped

_KUBELET_TURN = 15.0
"""Seconds the kubelet gets to end the pod before it is stopped through the runtime."""

_GRACE_SECONDS = 10


class ManifestKind(Kind):
    """Parked by a move out of the watched directory; the kubelet does the rest."""

    restarts_when_changed = True

    def where(self, ctx: Context) -> str:
        return ctx.platform.manifest_dir

    def require_own(self, ctx: Context, path: str) -> None:
        if os.path.dirname(path) != ctx.platform.manifest_dir or os.path.basename(path)[:1] == ".":
            raise PreconditionFailed(
                f"{path} is not a definition in {ctx.platform.manifest_dir}",
                "only etcd's own definition is ever touched",
            )
        if ctx.host.is_link(path):
            raise PreconditionFailed(
                f"{path} is a symbolic link to {ctx.host.realpath(path)}",
                "a link that is moved may lead nowhere",
                f"cp --remove-destination {ctx.host.realpath(path)} {path}, then run this again",
            )

    def require_readable(self, ctx: Context, problems: tuple[str, ...]) -> None:
        """Nothing: the kubelet runs nothing that is no readable pod."""

    def digest(self, ctx: Context, path: str) -> str:
        return file_hash(ctx.host, path)

    def parked_digest(
        self, ctx: Context, place: str, path: str, texts: Optional[Texts] = None
    ) -> str:
        if texts and place in texts:
            return sha256(texts[place].encode("utf-8", "surrogateescape")).hexdigest()
        return file_hash(ctx.host, place)

    def is_there(self, ctx: Context, path: str) -> bool:
        return ctx.host.exists(path)

    def remember(self, ctx: Context) -> dict[str, Any]:
        return {}

    def hold(self, ctx: Context, path: str, place: str) -> None:
        if ctx.host.exists(path):
            ctx.host.move_new(path, place)

    def release(self, ctx: Context, place: str, path: str, start: bool = True) -> None:
        """Move it back; the kubelet starts it.

        A move to another file system that could not remove the original (it had turned read-only)
        leaves an equal copy: that is set aside under a name that nobody takes for a parked
        definition.
        """
        if not ctx.host.exists(place):
            return
        if file_hash(ctx.host, place) == file_hash(ctx.host, path):
            folder, name = os.path.split(place)
            ctx.host.rename_new(place, f"{folder}/.{name}.copy")
        else:
            ctx.host.move_new(place, path)

    def is_started(self, ctx: Context) -> bool:
        return True  # the kubelet runs what lies in its directory, sooner or later

    def begin_stop(self, ctx: Context) -> float:
        return _KUBELET_TURN if self._kubelet_runs(ctx) else 0.5

    def _kubelet_runs(self, ctx: Context) -> bool:
        try:
            done = ctx.host.run(
                ["systemctl", "is-active", ctx.platform.kubelet_unit], timeout=5, ok=(0, 1, 2, 3, 4)
            )
        except CommandFailed:
            return False
        return done.stdout.strip() == "active"

    def end_by_force(self, ctx: Context) -> None:
        ctx.say("the kubelet does not end the pod; ending it through the runtime")
        runtime = read_runtime(ctx.host, ctx.platform)
        for container in runtime.containers:
            if container.state == "running":
                stop_container(ctx.host, container.id, _GRACE_SECONDS)
        for sandbox in sorted({c.sandbox_id for c in runtime.containers} - {""}):
            stop_sandbox(ctx.host, sandbox)

    def end_leftovers(self, ctx: Context) -> None:
        """The kubelet is ending the pod; this only spares the rest of it its grace."""
        runtime = read_runtime(ctx.host, ctx.platform, ends=False)
        if not runtime.sandboxes_ready:
            return
        ctx.say("etcd has ended; ending what is left of its pod")
        with suppress(CommandFailed, Damaged):  # or the kubelet was first
            for sandbox in sorted({c.sandbox_id for c in runtime.containers} - {""}):
                for container in running_in(ctx.host, sandbox):
                    stop_container(ctx.host, container, 0)

    def still(self, ctx: Context) -> tuple[bool, str]:
        return is_etcd_stopped(ctx.host, None, read_runtime(ctx.host, ctx.platform, ends=False))

    def clear_backoff(self, ctx: Context) -> None:
        ctx.host.run(["systemctl", "restart", ctx.platform.kubelet_unit], timeout=60)

    def config(self, ctx: Context, place: str, texts: Optional[Texts] = None) -> EtcdConfig:
        text = (texts or {}).get(place)
        text = ctx.host.read_text(place) if text is None else text
        return etcd_config(text, place, ctx.platform.container)

    def changed(self, ctx: Context, place: str, texts: Texts, flags: Flags) -> Texts:
        before = texts.get(place)
        before = ctx.host.read_text(place) if before is None else before
        after = with_flags(before, flags)
        return {place: after} if after != before else {}

    def written(self, ctx: Context) -> None:
        """Nothing: the kubelet sees it."""


def with_flags(text: str, flags: Flags) -> str:
    """The manifest with these flags set, added or taken off; raises what splice raises."""
    for flag, value in flags.items():
        text = _with(text, flag, value)
    return text


def _with(text: str, flag: str, value: Optional[str]) -> str:
    is_given = splice.get_flag(text, flag) is not None
    if value is None:
        return splice.remove_flag(text, flag) if is_given else text
    return splice.set_flag(text, flag, value) if is_given else splice.add_flag(text, flag, value)
