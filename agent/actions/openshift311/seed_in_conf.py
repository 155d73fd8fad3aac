"""The fallback where no etcd runs outside the kubelet: ETCD_FORCE_NEW_CLUSTER in etcd.conf.

The variable and its removal are one step. The bytes that etcd.conf had before are kept, and put
back; the manifest is never edited.
"""

from __future__ import annotations

from typing import Optional

from agent.actions.base import Context, Data, NoArgs, wait_for
from agent.actions.definitions import bring_back, current_config, parked_for
from agent.actions.edits import EditDefinition
from agent.actions.in_manifest_args import (
    InManifestArgs,
    note_alone,
    require_original_kept,
    was_alone,
)
from agent.actions.kind import Flags
from agent.actions.kinds import kind_of
from agent.actions.scratch import alone
from agent.actions.services import require_stopped, stop
from agent.errors import PreconditionFailed, RescueError, StepFailed
from agent.etcd.transport import real_files
from agent.host import STATE_DIR
from agent.survey.online import local_endpoint
from agent.survey.processes import etcd_processes

_VARIABLE = b"ETCD_FORCE_NEW_CLUSTER="


class _SetVariable(EditDefinition):
    """Writes the variable into etcd.conf, the former bytes being kept."""

    name = "set_force_new_cluster"
    args_type = NoArgs

    def flags(self, args: Data) -> Flags:
        return {"force-new-cluster": "true"}


_SET = _SetVariable()
_NO_ARGS: Data = {}


def check(ctx: Context, args: InManifestArgs) -> None:
    """Raise PreconditionFailed unless all is as it must be before the variable is set."""
    parked = parked_for(ctx, args.path)
    if parked is None:
        raise PreconditionFailed(
            f"{args.path} is not parked by this plan",
            "etcd.conf is changed only while nothing can start etcd with it",
            "make a new plan: fab plan",
        )
    if current_config(ctx).force_new_cluster:  # this step's own, left by an interruption
        if not _is_ours(ctx):
            raise PreconditionFailed(
                "etcd.conf has ETCD_FORCE_NEW_CLUSTER in it, and not from this plan",
                "each start with it throws the other members out",
                "rescue-agent clear-force-new-cluster",
            )
        return
    if not was_alone(ctx):
        require_stopped(ctx)
        _require_same(ctx, args, parked.path)
    require_original_kept(ctx)


def _is_ours(ctx: Context) -> bool:
    prefix = f"{ctx.plan}-{ctx.step}-"
    return any(n.startswith(prefix) for n in ctx.host.listdir(f"{STATE_DIR}/former"))


def _require_same(ctx: Context, args: InManifestArgs, place: str) -> None:
    if kind_of(ctx).parked_digest(ctx, place, args.path) != args.sha256:
        raise PreconditionFailed(
            f"{args.path} and what it sources are not what was surveyed",
            next="make a new plan: fab plan",
        )


def prepare(ctx: Context, args: InManifestArgs) -> Data:
    """Where the manifest is parked, and what etcd.conf is now."""
    parked = parked_for(ctx, args.path)
    return {"parked": parked.path if parked else "", **_SET.prepare(ctx, _NO_ARGS)}


def is_done(ctx: Context, args: InManifestArgs, undo: Optional[Data]) -> bool:
    """Say whether etcd was alone once, and all is as before."""
    return (
        undo is not None
        and was_alone(ctx)
        and kind_of(ctx).digest(ctx, args.path) == args.sha256
        and not has_variable(ctx)
    )


def act(ctx: Context, args: InManifestArgs, undo: Data) -> Data:
    """Set the variable, start etcd, see it alone, stop it, take the variable out, start it again.

    Whatever fails in between, the variable is out of etcd.conf before the failure is told.
    """
    facts: dict[str, object] = {}
    if not was_alone(ctx):
        try:
            _SET.act(ctx, _NO_ARGS, undo)
            bring_back(ctx, undo["parked"], args.path)
            _wait_alone(ctx, args, facts)
            note_alone(ctx)
        except RescueError:
            _take_out(ctx, args, undo)
            raise
    _take_out(ctx, args, undo)
    bring_back(ctx, undo["parked"], args.path)
    return dict(facts)


def _wait_alone(ctx: Context, args: InManifestArgs, facts: dict[str, object]) -> None:
    config = current_config(ctx)
    files = real_files(ctx.host, config.client_tls)

    def probe() -> tuple[bool, str]:
        return alone(local_endpoint(config), files, facts)

    wait_for(ctx.say, "etcd to be healthy and alone", probe, args.deadline)


def _take_out(ctx: Context, args: InManifestArgs, undo: Data) -> None:
    """Stop the etcd that has the variable, and put etcd.conf back; nothing where that is done."""
    if not (current_config(ctx).force_new_cluster or has_variable(ctx)):
        return
    kind = kind_of(ctx)
    kind.hold(ctx, args.path, undo["parked"])
    stop(ctx, args.deadline)
    _SET.undo(ctx, _NO_ARGS, undo)


def prove(ctx: Context, args: InManifestArgs, undo: Data) -> None:
    """Raise StepFailed unless etcd runs without the variable, and etcd.conf is as it was."""

    def clean() -> tuple[bool, str]:
        running = [p for p in etcd_processes(ctx.host) if not p.scratch]
        if not running:
            return False, "etcd has not started yet"
        return not has_variable(ctx), f"process {running[0].pid} runs"

    wait_for(ctx.say, "a start without ETCD_FORCE_NEW_CLUSTER", clean, args.deadline)
    if current_config(ctx).force_new_cluster or not is_done(ctx, args, undo):
        raise StepFailed(
            f"{args.path} and etcd.conf are not back as they were",
            "each start with ETCD_FORCE_NEW_CLUSTER throws the other members out",
            "rescue-agent clear-force-new-cluster",
        )


def has_variable(ctx: Context) -> bool:
    """Say whether a running etcd has the variable in its environment, or the flag in its argv."""
    for process in etcd_processes(ctx.host):
        if any("force-new-cluster" in argument for argument in process.argv):
            return True
        try:
            environment = ctx.host.read_bytes(f"/proc/{process.pid}/environ")
        except (OSError, RescueError):
            continue  # it ended
        rows = environment.split(b"\0")
        if any(r.startswith(_VARIABLE) and not r.lower().endswith(b"=false") for r in rows):
            return True
    return False
