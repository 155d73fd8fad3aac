"""The fallback without a scratch etcd: --force-new-cluster in the manifest, and off again."""

from __future__ import annotations

from typing import Optional

from agent.actions import splice
from agent.actions.base import Action, Context, Data, wait_for
from agent.actions.definitions import bring_back, current_config, file_hash, parked_for
from agent.actions.in_manifest_args import (
    InManifestArgs as InManifestArgs,
)
from agent.actions.in_manifest_args import note_alone, require_original_kept, was_alone
from agent.actions.kinds import kind_of
from agent.actions.openshift311 import seed_in_conf
from agent.actions.scratch import alone
from agent.actions.services import require_stopped, stop
from agent.errors import PreconditionFailed, StepFailed
from agent.etcd.transport import real_files
from agent.host import STATE_DIR
from agent.survey.online import local_endpoint
from agent.survey.processes import etcd_processes


class SeedInManifest(Action[InManifestArgs]):
    """Own the flag from its first byte to the proof of its absence.

    A flagged copy of the definition is put in place until etcd is healthy and alone; then the copy
    leaves and the original, which was never edited, comes back. An interrupted step begins with
    taking the flagged copy away.
    """

    name = "seed_in_manifest"
    args_type = InManifestArgs

    def check(self, ctx: Context, args: InManifestArgs) -> None:
        if _is_sourced(ctx):
            seed_in_conf.check(ctx, args)
            return
        if not kind_of(ctx).restarts_when_changed:
            raise PreconditionFailed(
                f"{ctx.platform.unit} runs etcd here, not the kubelet",
                "its etcd is on this host and can be run by itself: the flag need enter no file",
                "the same command without --in-manifest",
            )
        parked = parked_for(ctx, args.path)
        if parked is None or not self._is_flagged_copy(ctx, args.path, parked.path):
            require_stopped(ctx)
        if parked is None or file_hash(ctx.host, parked.path) != args.sha256:
            raise PreconditionFailed(
                f"the parked definition of {args.path} is not the one that was surveyed",
                next="make a new plan: fab plan",
            )
        splice.add_flag(ctx.host.read_text(parked.path), "force-new-cluster", "true")
        require_original_kept(ctx)

    def _is_flagged_copy(self, ctx: Context, path: str, parked: str) -> bool:
        """Say whether the definition in place is this step's own, left by an interruption."""
        if not ctx.host.exists(path):
            return False
        text = ctx.host.read_text(parked)
        return ctx.host.read_text(path) == splice.add_flag(text, "force-new-cluster", "true")

    def prepare(self, ctx: Context, args: InManifestArgs) -> Data:
        if _is_sourced(ctx):
            return seed_in_conf.prepare(ctx, args)
        parked = parked_for(ctx, args.path)
        return {"parked": parked.path if parked else ""}

    def is_done(self, ctx: Context, args: InManifestArgs, undo: Optional[Data]) -> bool:
        if _is_sourced(ctx):
            return seed_in_conf.is_done(ctx, args, undo)
        return (
            undo is not None
            and file_hash(ctx.host, args.path) == args.sha256
            and not _flag_in_argv(ctx)
            and was_alone(ctx)
        )

    def act(self, ctx: Context, args: InManifestArgs, undo: Data) -> Data:
        if _is_sourced(ctx):
            return seed_in_conf.act(ctx, args, undo)
        facts: dict[str, object] = {}
        if not was_alone(ctx):
            self._run_with_flag(ctx, args, undo, facts)
            note_alone(ctx)
        if ctx.host.exists(args.path) and file_hash(ctx.host, args.path) != args.sha256:
            self._take_flagged_away(ctx, args)
            stop(ctx, args.deadline)
        bring_back(ctx, undo["parked"], args.path)
        return dict(facts)

    def _run_with_flag(
        self, ctx: Context, args: InManifestArgs, undo: Data, facts: dict[str, object]
    ) -> None:
        text = ctx.host.read_text(undo["parked"])
        config = current_config(ctx)
        flagged = splice.add_flag(text, "force-new-cluster", "true")
        ctx.host.write_atomic(args.path, flagged.encode(), like=ctx.host.stat(undo["parked"]))
        endpoint, files = local_endpoint(config), real_files(ctx.host, config.client_tls)

        def probe() -> tuple[bool, str]:
            return alone(endpoint, files, facts)

        try:
            wait_for(ctx.say, "etcd to be healthy and alone", probe, args.deadline)
        except StepFailed:
            self._take_flagged_away(ctx, args)
            raise

    def _take_flagged_away(self, ctx: Context, args: InManifestArgs) -> None:
        away = f"{STATE_DIR}/work/{ctx.plan}-flagged-{ctx.host.now():.3f}"
        ctx.host.makedirs(f"{STATE_DIR}/work")
        ctx.host.move_new(args.path, away)

    def prove(self, ctx: Context, args: InManifestArgs, undo: Data) -> None:
        if _is_sourced(ctx):
            seed_in_conf.prove(ctx, args, undo)
            return

        def clean() -> tuple[bool, str]:
            running = [p for p in etcd_processes(ctx.host) if not p.scratch]
            if not running:
                return False, "etcd has not started yet"
            return not _flag_in_argv(ctx), f"process {running[0].pid} runs"

        wait_for(ctx.say, "a start without --force-new-cluster", clean, args.deadline)
        if current_config(ctx).force_new_cluster or not self.is_done(ctx, args, undo):
            raise StepFailed(
                f"{args.path} is not back without --force-new-cluster",
                "each start with the flag throws the other members out",
                "rescue-agent clear-force-new-cluster",
            )


def _is_sourced(ctx: Context) -> bool:
    """Whether etcd's settings lie beside its manifest: the flag is then a variable in that file."""
    return ctx.platform.definition_kind == "sourced"


def _flag_in_argv(ctx: Context) -> bool:
    return any(
        "force-new-cluster" in argument
        for process in etcd_processes(ctx.host)
        for argument in process.argv
    )
