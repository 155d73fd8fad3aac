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

from agent.diagnosis.clocks import SHOWN, apart
from agent.errors import UsageError, plain
from agent.model.codec import json_text, to_plain
from agent.model.facts import Observation, Survey
from agent.model.plan import Plan, Stage
from agent.model.verdict import Diagnosis, MemberState, MemberVerdict

_PIPE_WIDTH = 80
"""Columns of a table in a pipe: what a terminal, a mail and a ticket all show."""

FORMATS = ("table", "json", "yaml")
_GOOD = {MemberState.HEALTHY}
_WAITING = {MemberState.LAGGING, MemberState.NO_QUORUM, MemberState.FENCED}


def emit(value: Any, output: str, as_table: Any) -> None:
    """Print a value on stdout. as_table: a function that prints it for a person.

    Raises UsageError for a format that is none of FORMATS.
    """
    if output == "json":
        print(json_text(value))
    elif output == "yaml":
        print(_yaml_text(value), end="")
    elif output == "table":
        as_table(value)
    else:
        raise UsageError(f"no output format {output!r}", f"known: {', '.join(FORMATS)}")


def _yaml_text(value: Any) -> str:
    """YAML in readable Unicode, unless some of it is not for a terminal: then that is escaped."""
    text: str = yaml.safe_dump(to_plain(value), sort_keys=False, allow_unicode=True)
    if plain(text) == text:
        return text
    escaped: str = yaml.safe_dump(to_plain(value), sort_keys=False, allow_unicode=False)
    return escaped


def _console() -> Console:
    """Console on stdout; a pipe gets no colour, and no line is wrapped or cut."""
    is_terminal = sys.stdout.isatty()
    width = None if is_terminal else _PIPE_WIDTH
    return Console(width=width, highlight=False, markup=False, soft_wrap=not is_terminal)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _show(console: Console, table: Table, notes: Sequence[tuple[str, str]]) -> None:
    """A table that fits 80 columns; what needs a sentence comes below it, a line for each host."""
    console.print(table, soft_wrap=False)
    for host, text in notes:
        if text:
            console.print(Text.assemble((host, "bold"), f": {plain(text)}"))


def _cell(text: str, style: str = "") -> Text:
    return Text(plain(text), style=style)


def survey_table(observations: Sequence[Observation]) -> None:
    """One line per host: what runs, what its data says; and below, why not."""
    table = _table("HOST", "PLATFORM", "ETCD", "MEMBER", "TERM/INDEX", "REVISION")
    notes = []
    for seen in observations:
        survey = seen.survey
        if survey is None:
            ports = [f"{s.seen_from or 'here'} sees {list(s.open_ports) or 'no port'} open"
                     for s in seen.sightings]  # fmt: skip
            table.add_row(_cell(seen.host), "-", _cell("unreachable", "red"), "-", "-", "-")
            notes.append((plain(seen.host), "; ".join([*seen.error.splitlines()[:1], *ports])))
            continue
        member, position, revision = _position(survey)
        table.add_row(_cell(seen.host), _cell(survey.platform or "-"), _running(survey),
                      _cell(member), _cell(position), _cell(revision))  # fmt: skip
        notes.append((plain(seen.host), "; ".join(filter(None, (_clock(seen), _remarks(survey))))))
    _show(_console(), table, notes)


def settings_table(rows: Sequence[dict[str, Any]]) -> None:
    """One line per setting, with the place it comes from; problems of a host below."""
    table = _table("HOST", "SETTING", "VALUE", "FROM")
    notes = []
    for row in rows:
        for one in row["settings"]:
            table.add_row(_cell(row["host"]), _cell(one["flag"]), _cell(one["value"]),
                          _cell(one["from"]))  # fmt: skip
        notes += [(plain(row["host"]), problem) for problem in row["problems"]]
    _show(_console(), table, notes)


def _clock(seen: Observation) -> str:
    """By how much its clock is off from this machine's, where that is sure; else nothing."""
    seconds = apart(seen, Observation("", "", clock=(0.0, 0.0)))
    if abs(seconds) <= SHOWN:
        return ""
    return f"its clock is {abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} this one's"


def _running(survey: Survey) -> Text:
    online = survey.online
    if online and online.linearizable:
        return _cell(f"serves {online.version}", "green")
    if online and online.answers:
        return _cell(f"no quorum {online.version}", "yellow")
    return _cell("starting", "yellow") if survey.processes else _cell("does not run", "red")


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
    state = (diagnosis.state.value, f"bold {colour}")
    console.print(Text.assemble("Cluster ", state, f": {plain(diagnosis.why)}"))
    console.print(
        f"{diagnosis.serving} of {diagnosis.voters} voters serve, {diagnosis.quorum} are needed"
        + (f"; leader {plain(diagnosis.leader)}" if diagnosis.leader else "")
    )
    table = _table("HOST", "STATE", "MEMBER", "TERM/INDEX", "REVISION")
    for member in diagnosis.members:
        table.add_row(_cell(member.host or "-"), _state(member), _cell(member.id or "-"),
                      _at(member), str(member.revision or "-"))  # fmt: skip
    _show(console, table, [(plain(m.host or m.id), _why(m)) for m in diagnosis.members])
    for text in diagnosis.warnings:
        console.print(_cell(f"warning: {text}", "yellow"))
    for text in diagnosis.losses:
        console.print(_cell(f"could be lost: {text}", "yellow"))
    _show_recipes(console, diagnosis)


def _show_recipes(console: Console, diagnosis: Diagnosis) -> None:
    if diagnosis.recipe:
        fits = plain(f"Fits: {diagnosis.recipe} {diagnosis.target}".rstrip())
        console.print(Text.assemble((fits, "bold"), f" - {plain(diagnosis.recipe_why)}"))
    for name, reason in diagnosis.consent:
        console.print(plain(f"needs your word for {name}: {reason}"))
    for refusal in diagnosis.refusals:
        text = f": {plain(refusal.seen)}\n  why:  {plain(refusal.why)}"
        text += f"\n  next: {plain(refusal.next)}" if refusal.next else ""
        console.print(Text.assemble((f"Not {refusal.recipe}", "bold"), text))


def _state(member: MemberVerdict) -> Text:
    colour = "green" if member.state in _GOOD else "yellow" if member.state in _WAITING else "red"
    return _cell(member.state.value, colour)


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
    title = (f"Plan {plan.short_id}: {plain(plan.recipe)}", "bold")
    console.print(Text.assemble(title, f" - {plain(plan.summary)}"))
    for number, stage in enumerate(plan.stages, 1):
        _show_stage(console, number, stage)
    for text in plan.losses:
        console.print(_cell(f"could be lost: {text}", "yellow"))
    voters = ", ".join(plan.promise.voters) or "as before"
    newer = f", revision {plan.promise.revision} or newer" if plan.promise.revision else ""
    console.print(f"\nPromise: voters {plain(voters)}{newer}")


def _show_stage(console: Console, number: int, stage: Stage) -> None:
    is_parallel = stage.parallel and len({s.host for s in stage.steps}) > 1
    notes = ["hosts in parallel"] if is_parallel else []
    if stage.waits_for:
        notes.append(f"put off until {', '.join(stage.waits_for)} can be reached")
    note = f"  ({'; '.join(notes)})" if notes else ""
    console.print(Text.assemble((f"\n{number}. {plain(stage.title)}", "bold"), plain(note)))
    for step in stage.steps:
        line = plain(f"   {step.id} {step.host}: {step.action.replace('_', ' ')}")
        turn = ("  <- point of no return", "bold red") if step.final else ""
        console.print(Text.assemble(line, turn))
        console.print(_cell(f"        {step.reason}", "dim"))


def journals_table(rows: Sequence[dict[str, Any]]) -> None:
    """One line per plan and host; and below, what is wrong with a journal."""
    table = _table("HOST", "PLAN", "RECIPE", "STATE", "DONE", "BEGUN", "UPDATED")
    for row in rows:
        when = datetime.datetime.fromtimestamp(row["updated"]).isoformat(" ", "seconds")
        cells = (row["host"], row["plan"][:12], row["recipe"] or "-", row["state"],
                 str(len(row["done"])), ",".join(row["begun"]) or "-",
                 when if row["updated"] else "-")  # fmt: skip
        table.add_row(*map(_cell, cells))
    _show(_console(), table, [(plain(row["host"]), row["problem"]) for row in rows])


def records_table(rows: Sequence[dict[str, Any]]) -> None:
    """The records of one plan on all hosts, by time: a line each, with what was said at its end."""
    console = _console()
    width = max((len(row["host"]) for row in rows), default=0)
    for row in rows:
        when = datetime.datetime.fromtimestamp(row["time"]).isoformat(" ", "milliseconds")
        said = json.dumps(row["data"], ensure_ascii=False) if row["kind"] != "intent" else ""
        start = f"{when}  {row['host']:<{width}}  {row['seq']:>3}  {row['step'] or '-':<3} "
        console.print(_cell(f"{start} {row['kind']:<11} {said[:200]}".rstrip()))


def outcome_table(outcome: dict[str, Any]) -> None:
    """What was reached, and where the seconds went."""
    console = _console()
    console.print(_cell(outcome["summary"], "bold"))
    for name, seconds in outcome.get("outage_parts", {}).items():
        console.print(_cell(f"  {seconds:6.2f} s  {name}"))
    for text in outcome.get("warnings", ()):
        console.print(_cell(f"warning: {text}", "yellow"))
