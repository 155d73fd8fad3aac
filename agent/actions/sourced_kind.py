"""A static pod that sources a file of variables: parked like a manifest, changed in that file."""

from __future__ import annotations

from typing import Any, Optional

from agent.actions.base import Context
from agent.actions.kind import Flags, Texts
from agent.actions.manifest_kind import ManifestKind
from agent.actions.splice_unit import change_flags
from agent.errors import RescueError
from agent.model.facts import EtcdConfig
from agent.survey.manifest import etcd_config
from agent.survey.sourced import (
    digest_of,
    read_pod,
    read_script,
    sourced_config,
    sourced_view,
)
from agent.survey.unit import UnitView


class SourcedKind(ManifestKind):
    """The kubelet runs the manifest; etcd's settings lie beside it, and etcd reads them once.

    The digest covers both: a plan that was made for one etcd.conf is not carried out on another.
    """

    restarts_when_changed = False

    def digest(self, ctx: Context, path: str) -> str:
        return _digest(ctx, path)

    def parked_digest(
        self, ctx: Context, place: str, path: str, texts: Optional[Texts] = None
    ) -> str:
        return _digest(ctx, place, texts)

    def config(self, ctx: Context, place: str, texts: Optional[Texts] = None) -> EtcdConfig:
        pod, spec = read_pod(ctx.host, place, ctx.platform.container, texts)
        return sourced_config(ctx.host, pod, spec, texts)

    def changed(self, ctx: Context, place: str, texts: Texts, flags: Flags) -> Texts:
        pod, spec = read_pod(ctx.host, place, ctx.platform.container, texts)
        if read_script(spec) is None:
            etcd_config(pod.document.text, place, ctx.platform.container)  # raises for a script
            return super().changed(ctx, place, texts, flags)

        def view(more: Texts) -> UnitView:
            return sourced_view(ctx.host, pod, spec, {**texts, **more})

        return change_flags(view, flags)

    def remember(self, ctx: Context) -> dict[str, Any]:
        return {}


def _digest(ctx: Context, place: str, texts: Optional[Texts] = None) -> str:
    """sha256 of manifest and sourced files; empty where it is not there or cannot be read."""
    if not ctx.host.exists(place):
        return ""
    try:
        pod, spec = read_pod(ctx.host, place, ctx.platform.container, texts)
        if read_script(spec) is None:
            return etcd_config(pod.document.text, place, ctx.platform.container).sha256
        return digest_of(sourced_view(ctx.host, pod, spec, texts))
    except (RescueError, OSError):
        return ""
