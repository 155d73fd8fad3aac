"""Tasks for DC/OS Kubernetes: diagnose, snapshot, rescue; and their plans' resume and rollback."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from agent.errors import Refused, RescueError, UsageError
from agent.model.codec import parse_json
from agent.records.journal import Journal
from coordinator import report
from coordinator.console import Progress, confirm
from coordinator.dcos import report as lines
from coordinator.dcos import runner, state
from coordinator.dcos.actions import Context
from coordinator.dcos.catalog import CATALOG
from coordinator.dcos.cli import Dcos
from coordinator.dcos.diagnose import diagnose as judge
from coordinator.dcos.look import look
from coordinator.dcos.model import PodState, Remedy, Verdict, View
from coordinator.dcos.plan import Wish, make_plan, require_sound
from coordinator.dcos.refusals import require
from coordinator.dcos.snapshot import take
from coordinator.dcos.state import State
from coordinator.tasks.common import Options

SERVICE = "kubernetes"


@dataclass(frozen=True)
class Asked:
    """What an operator says of a rescue. remedy: empty for the one that fits."""

    service: str = SERVICE
    remedy: str = ""
    pod: str = ""
    bucket: str = ""
    region: str = ""
    backup_name: str = ""
    options: str = ""
    to: str = "backups"
    timeout: int = 1200
    again: bool = False
    no_snapshot: bool = False
    as_arguments: bool = False


def diagnose(options: Options, service: str) -> None:
    """Say which scenario holds and why, what is lost and what is not, and the command."""
    dcos, progress = Dcos.find(service or SERVICE), Progress()
    _require_format(options)
    _view, verdict = _look(dcos, options.lost, progress)
    report.emit(verdict, options.output, lines.verdict_lines)


def snapshot(options: Options, service: str, pod: str, to: str) -> None:
    """Bring a verified snapshot of the key space here."""
    dcos, progress = Dcos.find(service or SERVICE), Progress()
    _require_format(options)
    view, verdict = _look(dcos, (), progress)
    run = view.run_of(pod or _best(verdict))
    if run is None or run.name.removesuffix("-peer") not in view.answers:
        raise Refused(f"{pod}: its etcd does not answer", "there is nothing to read", "fab "
                      "dcos-diagnose")  # fmt: skip
    taken = take(dcos, run, Path(to or "backups").absolute(), progress.say)
    report.emit(taken, options.output, lines.taken_lines)


def _best(verdict: Verdict) -> str:
    """A member that serves, else the newest one that answers alone."""
    able = [p for p in verdict.pods if p.state in (PodState.SERVING, PodState.NO_QUORUM)]
    if not able:
        raise Refused(f"no etcd of {verdict.service} answers: {verdict.why}",
                      "a snapshot is read from one that runs", verdict.command)  # fmt: skip
    return max(able, key=lambda p: (p.state is PodState.SERVING, p.revision)).pod


def rescue(options: Options, asked: Asked) -> None:
    """Do what the scenario asks, with plan, confirmation and journal; refuse what is wrong."""
    _require_format(options)
    remedy = _remedy(asked.remedy)
    with _working(asked.service or SERVICE, options) as ctx:
        view, verdict = _look(ctx.dcos, options.lost, ctx.progress, ctx.state)
        remedy = remedy or verdict.remedy
        if remedy is Remedy.NONE:
            ctx.progress.say(f"nothing to do: {verdict.why}")
            return
        require(view, verdict, remedy, asked.pod)
        verdict = replace(verdict, target=asked.pod or verdict.target)
        wish = _wish(options, asked, ctx.dcos)
        plan = make_plan(view, verdict, remedy, wish, time.time())
        require_sound(plan, verdict)
        if options.dry_run:
            report.emit(plan, options.output, report.plan_table)
            return
        if options.output == "table" and not options.yes:
            report.plan_table(plan)
        if any(CATALOG[step.action].final for step in plan.steps()):
            confirm(plan, options.yes)
        _to_end(ctx, runner.begin(ctx, plan), options)


def _to_end(ctx: Context, journal: Journal, options: Options) -> None:
    plan = journal.plan
    try:
        seconds = runner.run(ctx, journal)
        outcome = runner.verify(ctx, plan)
    except RescueError as error:
        failures = ctx.state.failures(ctx.dcos.service, plan.hosts[ctx.dcos.service])
        if plan.recipe == "dcos-scale-up" and failures > 1:
            ctx.progress.say(
                f"the scale-up failed {failures} times in a row: the DC/OS cluster is suspect"
            )
        error.next = error.next or f"fab resume {plan.short_id}"
        raise
    journal.append("complete")
    outcome["seconds"] = {step: round(spent, 2) for step, spent in seconds.items()}
    report.emit(outcome, options.output, report.outcome_table)


# ---- resume, rollback, journal -------------------------------------------------------------------


def resume(options: Options, plan_id: str) -> None:
    """Go on with a plan: what is done stays done, what was interrupted is looked at first."""
    _require_format(options)
    journal = _open_journal(plan_id)
    plan = journal.plan
    if options.dry_run:
        report.emit(plan, options.output, report.plan_table)
        return
    (service,) = plan.hosts
    with _working(service, replace(options, lost=plan.declared_lost)) as ctx:
        here = ctx.dcos.run("config", "show", "core.dcos_url").decode(errors="replace").strip()
        if here != plan.hosts[service]:
            raise Refused(
                f"the CLI is attached to {here}",
                f"the plan is for {plan.hosts[service]}",
                "dcos cluster attach NAME",
            )
        ctx.progress.say(f"resuming plan {plan.short_id} ({plan.recipe})")
        _to_end(ctx, Journal.open(ctx.state.host, plan.id), options)


def rollback(options: Options, plan_id: str) -> None:
    """Close a plan of which nothing that cannot be undone was begun."""
    journal = _open_journal(plan_id)
    steps = [journal.plan.step(id) for id in journal.touched_steps()]
    final = [step for step in steps if step is not None and step.final]
    if final:
        raise Refused(
            f"step {final[0].id} ({final[0].action.replace('_', ' ')}) was begun",
            "DC/OS cannot take it back",
            f"fab resume {journal.plan.short_id}; or fab dcos-diagnose, and what it says",
        )
    confirm(journal.plan, options.yes)
    journal.append("rolled-back")
    Progress().say(f"plan {journal.plan.short_id} is closed; nothing of the cluster was changed")


def _open_journal(plan_id: str) -> Journal:
    opened = State.open()
    found = opened.of(plan_id) if plan_id else opened.open_ones()
    if len(found) != 1:
        told = ", ".join(journal.plan.short_id for journal in found) or "none"
        raise UsageError(f"{len(found)} plans on this machine: {told}", "which one is not clear",
                         "fab journal; then its ID")  # fmt: skip
    if found[0].state != "open":
        raise UsageError(f"plan {found[0].plan.short_id} is {found[0].state}", next="fab journal")
    return found[0]


# ---- what they begin with ------------------------------------------------------------------------


def _require_format(options: Options) -> None:
    if options.output not in report.FORMATS:
        raise UsageError(
            f"no output format {options.output!r}", f"known: {', '.join(report.FORMATS)}"
        )


@contextmanager
def _working(service: str, options: Options) -> Iterator[Context]:
    dcos, opened = Dcos.find(service), State.open()
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    key_id, secret = (os.environ.get(name, "") for name in keys)
    with opened.locked(service):
        yield Context(dcos, opened, Progress(), options.lost, (key_id, secret))


def _look(
    dcos: Dcos, lost: tuple[str, ...], progress: Progress, opened: State | None = None
) -> tuple[View, Verdict]:
    view = look(dcos)
    progress.say(f"looked at {dcos.service}: {len(view.pods)} etcd pods, {len(view.agents)} agents")
    failures = (opened or State(state.state_dir())).failures(dcos.service, view.cluster)
    unknown = [pod for pod in lost if pod not in view.expected]
    if unknown:
        raise UsageError(f"--lost {unknown[0]}: no such pod", f"known: {', '.join(view.expected)}")
    alive = [pod for pod in lost if pod in view.answers]
    if alive:
        raise Refused(f"{alive[0]} was declared lost, and answers", "its data is there", "leave "
                      f"--lost {alive[0]} away")  # fmt: skip
    return view, judge(view, lost, failures)


def _remedy(word: str) -> Remedy | None:
    if not word:
        return None
    try:
        return Remedy(word)
    except ValueError:
        known = ", ".join(remedy.value for remedy in Remedy if remedy is not Remedy.NONE)
        raise UsageError(f"no remedy {word!r}", f"known: {known}") from None


def _wish(options: Options, asked: Asked, dcos: Dcos) -> Wish:
    return Wish(
        asked.bucket, asked.region or os.environ.get("AWS_DEFAULT_REGION", ""), asked.backup_name,
        _package_options(asked.options, dcos), asked.timeout, asked.to or "backups", asked.again,
        asked.no_snapshot, asked.as_arguments, options.lost,
    )  # fmt: skip


def _package_options(path: str, dcos: Dcos) -> dict[str, object]:
    """The package's options, from a file, else as the service has them; empty: not known."""
    try:
        found = (
            parse_json(Path(path).read_bytes(), path) if path else dcos.kubernetes_json("describe")
        )
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except UsageError:
        if path:
            raise
        return {}
    if not isinstance(found, dict):
        raise UsageError(f"{path or 'describe'}: no JSON object", json.dumps(found)[:200])
    return found


def journal_rows(plan_id: str) -> list[dict[str, object]]:
    """Plans of this machine, or the records of one, as `fab journal` shows those of hosts."""
    if not plan_id:
        return state.rows()
    found = State(state.state_dir()).of(plan_id)
    return [{"host": "this machine", **record.__dict__} for one in found for record in one.records]
