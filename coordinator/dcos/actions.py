"""What the steps of a DC/OS plan do: each looks before it acts, and knows when it is done."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.errors import PreconditionFailed, StepFailed, Timeout, UsageError
from agent.model.plan import Step
from coordinator.console import Progress
from coordinator.dcos import answers
from coordinator.dcos.cli import Dcos
from coordinator.dcos.diagnose import diagnose
from coordinator.dcos.look import look
from coordinator.dcos.model import PodState, Remedy, Verdict, View
from coordinator.dcos.refusals import require
from coordinator.dcos.snapshot import take
from coordinator.dcos.state import State

POLL = 1.0
"""Seconds between two looks; one look is some ten calls of `dcos`."""

_GRACE = 120
"""Seconds that the CLI gets beyond the deadline that it was told."""


@dataclass(frozen=True)
class Context:
    """What an action works with. credentials: AWS key ID and secret; in no plan and no journal."""

    dcos: Dcos
    state: State
    progress: Progress
    lost: tuple[str, ...] = ()
    credentials: tuple[str, str] = ("", "")

    def look(self) -> tuple[View, Verdict]:
        """A fresh look and the verdict on it."""
        view = look(self.dcos)
        return view, diagnose(view, self.lost)


class Action:
    """One kind of step. repeats: one that was interrupted is simply done again."""

    repeats = False

    def before(self, ctx: Context, step: Step) -> dict[str, Any]:
        """Check the precondition; what the intent is to record. Raises Refused."""
        return {}

    def is_there(self, ctx: Context, step: Step, before: Mapping[str, Any]) -> bool:
        """Whether the effect of an interrupted step is there, by a look at the cluster."""
        return False

    def act(self, ctx: Context, step: Step) -> dict[str, Any]:
        """Do it. Raises RescueError where its effect was not reached."""
        raise NotImplementedError


class Snapshot(Action):
    """Save, fetch, verify; a second time where it was interrupted."""

    repeats = True

    def act(self, ctx: Context, step: Step) -> dict[str, Any]:
        """See Action.act."""
        view, _verdict = ctx.look()
        run = view.run_of(step.args["pod"])
        if run is None or step.args["pod"] not in view.answers:
            raise PreconditionFailed(
                f"{step.args['pod']} does not answer any more",
                "its key space cannot be saved now",
                "fab dcos-diagnose",
            )
        taken = take(ctx.dcos, run, Path(step.args["folder"]).absolute(), ctx.progress.say)
        facts = taken.snapshot
        seen = f"revision {facts.revision}, {facts.keys} keys, {taken.path}"
        return {"path": taken.path, "sha256": facts.sha256, "revision": facts.revision,
                "keys": facts.keys, "seen": seen}  # fmt: skip


class Backup(Action):
    """dcos kubernetes backup; made again where it was interrupted."""

    repeats = True

    def act(self, ctx: Context, step: Step) -> dict[str, Any]:
        """See Action.act. It is made through the API, and fails by itself without a quorum."""
        _with_bucket(ctx, step, "backup", 1200)
        return {}


class Watch(Action):
    """Wait until all members serve, and the pod that was to change has another task."""

    repeats = True

    def act(self, ctx: Context, step: Step) -> dict[str, Any]:
        """See Action.act."""
        deadline = time.monotonic() + step.args["timeout"]
        members, changed = step.args["members"], step.args["changed"]
        told = ""
        while True:
            view, verdict = self._look(ctx)
            told = verdict.why if verdict else "the service does not answer yet"
            if view and verdict and _all_serve(view, verdict, members):
                return {"seen": f"{members} of {members} members serve"}
            if time.monotonic() > deadline:
                anew = f", {changed} anew" if changed else ""
                raise Timeout(
                    f"after {step.args['timeout']} s: {told}",
                    f"{members} members should serve{anew}",
                    "fab dcos-diagnose",
                )
            ctx.progress.progress(step, told)
            time.sleep(POLL)

    def _look(self, ctx: Context) -> tuple[View | None, Verdict | None]:
        try:
            # Nothing is lost any more while it comes back: pods are judged by what they do.
            view = look(ctx.dcos)
            return view, diagnose(view)
        except UsageError as error:
            if "service" in error.seen:
                return None, None  # just installed: its scheduler is starting
            raise


def _all_serve(view: View, verdict: Verdict, members: int) -> bool:
    serving = [pod for pod in verdict.pods if pod.state is PodState.SERVING]
    is_deployed = view.deploy.status == "COMPLETE" and view.recovery.status in ("COMPLETE", "")
    return len(serving) == len(verdict.pods) == members == (view.voters or members) and is_deployed


class Replace(Action):
    """pod replace of exactly the failed pod."""

    def before(self, ctx: Context, step: Step) -> dict[str, Any]:
        """See Action.before."""
        view, verdict = ctx.look()
        require(view, verdict, Remedy.REPLACE, step.args["pod"])
        run = view.run_of(step.args["pod"])
        return {"task": run.id if run else ""}

    def is_there(self, ctx: Context, step: Step, before: Mapping[str, Any]) -> bool:
        """See Action.is_there."""
        view, _verdict = ctx.look()
        run = view.run_of(step.args["pod"])
        at_work = dict(view.recovery.etcd).get(f"{step.args['pod']}:[peer]", "COMPLETE")
        return (run is not None and run.id != before.get("task")) or at_work != "COMPLETE"

    def act(self, ctx: Context, step: Step) -> dict[str, Any]:
        """See Action.act."""
        answer = ctx.dcos.kubernetes_json("pod", "replace", step.args["pod"])
        return {"tasks": list(answers.replaced(answer, step.args["pod"]))}


class ScaleUp(Action):
    """dcos kubernetes update with high_availability=true, and nothing else."""

    def before(self, ctx: Context, step: Step) -> dict[str, Any]:
        """See Action.before."""
        view, verdict = ctx.look()
        require(view, verdict, Remedy.SCALE_UP)
        return {}

    def is_there(self, ctx: Context, step: Step, before: Mapping[str, Any]) -> bool:
        """See Action.is_there."""
        view, _verdict = ctx.look()
        return len(view.expected) == 3

    def act(self, ctx: Context, step: Step) -> dict[str, Any]:
        """See Action.act."""
        wanted = {"kubernetes": {"high_availability": True}}
        seconds = step.args["timeout"]
        with _json_file(ctx, wanted) as path:
            ctx.dcos.kubernetes("update", f"--options={path}", "--yes", f"--timeout={seconds}s",
                                timeout=seconds + _GRACE)  # fmt: skip
        return {}


class Uninstall(Action):
    """dcos package uninstall, and wait until the service is gone."""

    def before(self, ctx: Context, step: Step) -> dict[str, Any]:
        """See Action.before."""
        _view, verdict = ctx.look()
        if verdict.quorum and verdict.scenario != 1:
            raise PreconditionFailed("the quorum holds", "uninstalling destroys what is stored",
                                     "fab dcos-diagnose")  # fmt: skip
        return {}

    def is_there(self, ctx: Context, step: Step, before: Mapping[str, Any]) -> bool:
        """See Action.is_there."""
        return _installed(ctx.dcos) is None

    def act(self, ctx: Context, step: Step) -> dict[str, Any]:
        """See Action.act."""
        ctx.dcos.run("package", "uninstall", f"--app-id={ctx.dcos.service}", "kubernetes",
                     timeout=step.args["timeout"])  # fmt: skip
        deadline = time.monotonic() + step.args["timeout"]
        while _installed(ctx.dcos) is not None:
            if time.monotonic() > deadline:
                raise Timeout(f"{ctx.dcos.service} is still there after {step.args['timeout']} s")
            time.sleep(POLL)
        return {}


class Install(Action):
    """dcos package install, with the version and the options of before."""

    def before(self, ctx: Context, step: Step) -> dict[str, Any]:
        """See Action.before."""
        if _installed(ctx.dcos) is not None:
            raise PreconditionFailed(f"{ctx.dcos.service} is there", "it is installed once only")
        return {}

    def is_there(self, ctx: Context, step: Step, before: Mapping[str, Any]) -> bool:
        """See Action.is_there."""
        return _installed(ctx.dcos) is not None

    def act(self, ctx: Context, step: Step) -> dict[str, Any]:
        """See Action.act."""
        version = step.args["version"]
        with _json_file(ctx, step.args["options"]) as path:
            words = [f"--package-version={version}"] if version else []
            ctx.dcos.run("package", "install", "kubernetes", *words, f"--options={path}", "--yes",
                         timeout=step.args["timeout"])  # fmt: skip
        return {}


class Restore(Action):
    """dcos kubernetes restore; run again where it was interrupted."""

    repeats = True

    def before(self, ctx: Context, step: Step) -> dict[str, Any]:
        """See Action.before."""
        view, verdict = ctx.look()
        if not step.args["fresh"]:
            require(view, verdict, Remedy.RESTORE)
        elif not verdict.quorum:
            raise PreconditionFailed(
                f"the new cluster does not serve: {verdict.why}",
                "a backup is restored through its API",
                "fab dcos-diagnose",
            )
        return {}

    def act(self, ctx: Context, step: Step) -> dict[str, Any]:
        """See Action.act."""
        name = step.args["backup_name"]
        words = [f"--backup-name={name}"] if name else []
        _with_bucket(ctx, step, "restore", step.args["timeout"], "--yes", *words)
        return {}


ACTIONS: dict[str, Action] = {
    "dcos_snapshot": Snapshot(), "dcos_backup": Backup(), "dcos_watch": Watch(),
    "dcos_replace": Replace(), "dcos_scale_up": ScaleUp(), "dcos_uninstall": Uninstall(),
    "dcos_install": Install(), "dcos_restore": Restore(),
}  # fmt: skip


# ---- what they share -----------------------------------------------------------------------------


def _installed(dcos: Dcos) -> str | None:
    return answers.version_of(dcos.json("package", "list", "--json"), dcos.service)


def _with_bucket(ctx: Context, step: Step, verb: str, seconds: int, *words: str) -> None:
    """Run backup or restore; the credentials go through a file, never an argument, unless asked."""
    key_id, secret = ctx.credentials
    if not (key_id and secret):
        raise UsageError(
            "no AWS credentials", f"`dcos kubernetes {verb}` needs them for its bucket",
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment",
        )  # fmt: skip
    lines = (f"--aws-access-key-id={key_id}", f"--aws-secret-access-key={secret}")
    common = [f"--aws-region={step.args['region']}", f"--aws-bucket={step.args['bucket']}", *words,
              f"--timeout={seconds}s"]  # fmt: skip
    dcos = replace(ctx.dcos, secrets=(secret,))
    with ctx.state.secret_file(lines) as path:
        # kingpin, the library of this CLI, reads arguments of a file, one on each line.
        own = list(lines) if step.args["as_arguments"] else [f"@{path}"]
        said = dcos.kubernetes(verb, *common, *own, timeout=seconds + _GRACE)
    if b"success" not in said.lower():
        raise StepFailed(
            f"dcos kubernetes {verb} ended without saying that it succeeded",
            dcos.shown(said[-300:].decode(errors="replace")),
            "fab dcos-diagnose",
        )


def _json_file(ctx: Context, value: Any) -> Any:
    """A file of ours with this JSON, gone after the block."""
    return ctx.state.secret_file((json.dumps(value),))
