"""What both fallbacks take: the flag in the manifest, and the variable in a sourced file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InManifestArgs:
    """path, sha256: the definition that is parked and comes back; deadline: seconds per start."""

    path: str
    sha256: str
    deadline: float = 180.0
