"""The key debug_pods of cluster.yaml: how debug pods are made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.errors import UsageError
from coordinator.transports.pod_tools import PodWish, checked_wish

KEY = "debug_pods"
_KEYS = ("image", "tool", "namespace", "context", "kubeconfig")


def read_wish(data: Mapping[str, Any], path: Path) -> PodWish:
    """What cluster.yaml says under debug_pods; paths are relative to it. Raises UsageError."""
    said = data.get(KEY) or {}
    where = f"{path}: {KEY}"
    if not isinstance(said, dict):
        raise UsageError(f"{where}: expected keys and values, found {type(said).__name__}")
    unknown = [key for key in said if key not in _KEYS]
    if unknown:
        raise UsageError(f"{where}: unknown key {unknown[0]!r}", f"known: {', '.join(_KEYS)}")
    for key, value in said.items():
        if not isinstance(value, str):
            raise UsageError(f"{where}: {key} {value!r} is no text")
    wish = PodWish(**said)
    kubeconfig = str(path.parent / Path(wish.kubeconfig).expanduser()) if wish.kubeconfig else ""
    return checked_wish(PodWish(**{**said, "kubeconfig": kubeconfig}))
