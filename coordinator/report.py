"""Results on stdout, as a table, JSON or YAML: surveys, diagnosis, plan, journals, outcome."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Sequence
from typing import Any

import yaml
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.errors import UsageError
from agent.model.codec import to_plain
from agent.model.facts import Observation, Survey
from agent.model.plan import Plan
from agent.model.verdict import Diagnosis, MemberState, MemberVerdict

FORMATS = ("table", "json", "yaml")
_GOOD = {MemberState.HEALTHY}
_WAITING = {MemberState.LAGGING, MemberState.NO_QUORUM, MemberState.FENCED}


def emit(value: Any, output: str, as_table: Any) -> None:
    """Print a value on stdout. as_table: a function that prints it for a person.

    Raises UsageError for a format that is none of FORMATS.
    """
    if output == "json":
        print(json.dumps(to_plain(value), indent=2, ensure_ascii=False))
    elif output == "yaml":
        print(yaml.safe_dump(to_plain(value), sort_keys=False, allow_unicode=True), end="")
    elif output == "table":
        as_table(value)
    else:
        raise UsageError(f"no output format {output!r}", f"known: {', '.join(FORMATS)}")


def _console() -> Console:
    """Console on stdout; a pipe gets no colour and no wrapping."""
    width = None if sys.stdout.isatty() else 160
    return Console(width=width, highlight=False, soft_wrap=not sys.stdout.isatty())


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def survey_table(observations: Sequence[Observation]) -> None:
    """One line per host: what runs, what its data says, why not."""
    table = _table("HOST", "PLATFORM", "ETCD", "MEMBER", "TERM/INDEX", "REVISION", "SEEN")
    for seen in observations:
        survey = seen.survey
        if survey is None:
            ports = [f"{s.seen_from or 'here'} sees {list(s.open_ports) or 'no port'} open"
                     for s in seen.sightings]  # fmt: skip
            table.add_row(seen.host, "-", "[red]unreachable[/]", "-", "-", "-",
                          "; ".join([seen.error, *ports]))  # fmt: skip
            continue
        table.add_row(seen.host, survey.platform, _running(survey), *_position(survey),
                      _remarks(survey))  # fmt: skip
    _console().print(table)


def _running(survey: Survey) -> str:
    online = survey.online
    if online and online.linearizable:
        return f"[green]serves[/] {online.version}"
    if online and online.answers:
        return f"[yellow]no quorum[/] {online.version}"
    return "[red]does not run[/]" if not survey.processes else "[yellow]starting[/]"


def _position(survey: Survey) -> tuple[str, str, str]:
    online, offline = survey.online, survey.offline
    wal, db = (offline.wal, offline.db) if offline else (None, None)
    member = (online.member_id if online else "") or (wal.member_id if wal else "-")
    term_index = f"{wal.last_term}/{wal.last_index}" if wal else "-"
    revision = (
        str(online.revision) if online and online.answers else str(db.revision) if db else "-"
    )
    if online and online.answers and db and abs(online.revision - db.revision) > 1:
        revision += f" (on disk {db.revision})"
    return member, term_index, revision


def _remarks(survey: Survey) -> str:
    words = [f"{c.summary}" for c in survey.causes[:1]]
    words += [f"fenced: {survey.fence.reason}"] if survey.fence else []
    damage = survey.offline.damage[:1] if survey.offline else ()
    words += [f"{d.file} at {d.offset}: {d.reason}" for d in damage]
    words += [f"{s.path}: {s.problem}" for s in survey.strays[:1]]
    words += list(survey.problems[:1])
    return "; ".join(words) or f"{survey.duration_ms} ms"


def diagnosis_table(diagnosis: Diagnosis) -> None:
    """State of the cluster, of each member, what fits, and why the rest does not."""
    console = _console()
    colour = {"healthy": "green", "degraded": "yellow"}.get(diagnosis.state.value, "red")
    console.print(f"Cluster [bold {colour}]{diagnosis.state.value}[/]: {diagnosis.why}")
    console.print(
        f"{diagnosis.serving} of {diagnosis.voters} voters serve, {diagnosis.quorum} are needed"
        + (f"; leader {diagnosis.leader}" if diagnosis.leader else "")
    )
    table = _table("HOST", "STATE", "MEMBER", "TERM/INDEX", "REVISION", "WHY")
    for member in diagnosis.members:
        table.add_row(member.host, _state(member), member.id or "-", _at(member),
                      str(member.revision or "-"), _why(member))  # fmt: skip
    console.print(table)
    for text in diagnosis.warnings:
        console.print(Text(f"warning: {text}", style="yellow"))
    for text in diagnosis.losses:
        console.print(Text(f"could be lost: {text}", style="yellow"))
    if diagnosis.recipe:
        target = f" {diagnosis.target}" if diagnosis.target else ""
        console.print(f"[bold]Fits: {diagnosis.recipe}{target}[/] - {diagnosis.recipe_why}")
    for name, reason in diagnosis.consent:
        console.print(f"needs your word for {name}: {reason}")
    for refusal in diagnosis.refusals:
        console.print(f"[bold]Not {refusal.recipe}[/]: {refusal.seen}\n  why:  {refusal.why}"
                      + (f"\n  next: {refusal.next}" if refusal.next else ""))  # fmt: skip


def _state(member: MemberVerdict) -> str:
    colour = "green" if member.state in _GOOD else "yellow" if member.state in _WAITING else "red"
    return f"[{colour}]{member.state.value}[/]"


def _at(member: MemberVerdict) -> str:
    return f"{member.position[0]}/{member.position[1]}" if member.position[1] else "-"


def _why(member: MemberVerdict) -> str:
    words = [member.why]
    if member.cause and member.cause.summary not in member.why:
        words.append(f"{member.cause.summary} ({member.cause.remedy})")
    return "; ".join([*words, *member.notes])


def plan_table(plan: Plan) -> None:
    """The plan as the runbook an expert would have written, with reasons."""
    console = _console()
    console.print(f"[bold]Plan {plan.short_id}: {plan.recipe}[/] - {plan.summary}")
    for number, stage in enumerate(plan.stages, 1):
        notes = (
            ["hosts in parallel"]
            if stage.parallel and len({s.host for s in stage.steps}) > 1
            else []
        )
        notes += (
            [f"put off until {', '.join(stage.waits_for)} can be reached"]
            if stage.waits_for
            else []
        )
        console.print(
            f"\n[bold]{number}. {stage.title}[/]" + (f"  ({'; '.join(notes)})" if notes else "")
        )
        for step in stage.steps:
            turn = "  [bold red]<- point of no return[/]" if step.final else ""
            console.print(f"   {step.id} {step.host}: {step.action.replace('_', ' ')}{turn}")
            console.print(f"        [dim]{step.reason}[/]")
    for text in plan.losses:
        console.print(Text(f"could be lost: {text}", style="yellow"))
    voters = ", ".join(plan.promise.voters) or "as before"
    newer = f", revision {plan.promise.revision} or newer" if plan.promise.revision else ""
    console.print(f"\nPromise: voters {voters}{newer}")


def journals_table(rows: Sequence[dict[str, Any]]) -> None:
    """One line per plan and host."""
    table = _table("HOST", "PLAN", "RECIPE", "STATE", "DONE", "BEGUN", "UPDATED", "PROBLEM")
    for row in rows:
        when = datetime.datetime.fromtimestamp(row["updated"]).isoformat(" ", "seconds")
        table.add_row(row["host"], row["plan"][:12], row["recipe"], row["state"],
                      str(len(row["done"])), ",".join(row["begun"]) or "-",
                      when if row["updated"] else "-", row["problem"])  # fmt: skip
    _console().print(table)


def records_table(rows: Sequence[dict[str, Any]]) -> None:
    """The records of one plan on all hosts, by time."""
    table = _table("TIME", "HOST", "SEQ", "STEP", "KIND", "SAID")
    for row in rows:
        when = datetime.datetime.fromtimestamp(row["time"]).isoformat(" ", "milliseconds")
        said = json.dumps(row["data"], ensure_ascii=False) if row["kind"] != "intent" else ""
        table.add_row(when, row["host"], str(row["seq"]), row["step"], row["kind"], said[:200])
    _console().print(table)


def outcome_table(outcome: dict[str, Any]) -> None:
    """What was reached, and where the seconds went."""
    console = _console()
    console.print(f"[bold]{outcome['summary']}[/]")
    for name, seconds in outcome.get("outage_parts", {}).items():
        console.print(f"  {seconds:6.2f} s  {name}")
    for text in outcome.get("warnings", ()):
        console.print(Text(f"warning: {text}", style="yellow"))
