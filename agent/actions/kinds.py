"""Which kind of definition a host has."""

from __future__ import annotations

from agent.actions.base import Context
from agent.actions.kind import Kind
from agent.actions.manifest_kind import ManifestKind
from agent.actions.sourced_kind import SourcedKind
from agent.actions.unit_kind import UnitKind

_KINDS: dict[str, Kind] = {
    "manifest": ManifestKind(),
    "sourced": SourcedKind(),
    "unit": UnitKind(),
}
"""By the platform's definition_kind."""


def kind_of(ctx: Context) -> Kind:
    """Give what knows how this host's definition is handled."""
    return _KINDS[ctx.platform.definition_kind]
