"""What both fallbacks share: the flag in the manifest, and the variable in a sourced file."""

from __future__ import annotations

from dataclasses import dataclass

from agent.actions.base import Context
from agent.actions.data import DataArgs, data_places
from agent.errors import PreconditionFailed
from agent.host import STATE_DIR


@dataclass(frozen=True)
class InManifestArgs:
    """path, sha256: the definition that is parked and comes back; deadline: seconds per start."""

    path: str
    sha256: str
    deadline: float = 180.0


def require_original_kept(ctx: Context) -> None:
    """Raise PreconditionFailed unless the data in place is a copy, its original in quarantine."""
    where = data_places(ctx, DataArgs())
    kept = [n for n in ctx.host.listdir(where.quarantine) if n.endswith("-member")]
    if not kept or not ctx.host.is_dir(where.member):
        raise PreconditionFailed(
            f"{where.member} is no copy of which the original lies in {where.quarantine}",
            "--force-new-cluster rewrites the membership; never on the only data there is",
            "fab resume",
        )


def was_alone(ctx: Context) -> bool:
    """Whether etcd was seen to be alone by this plan: the flag is not to be given again."""
    return ctx.host.exists(_proof(ctx))


def note_alone(ctx: Context) -> None:
    """Note that etcd was seen to be alone."""
    ctx.host.makedirs(f"{STATE_DIR}/work")
    ctx.host.write_atomic(_proof(ctx), b"alone\n")


def _proof(ctx: Context) -> str:
    return f"{STATE_DIR}/work/{ctx.plan}-seeded"
