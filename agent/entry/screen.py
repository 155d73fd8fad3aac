"""What a person at a serial console reads: 80 columns, plain ASCII, no colour, nothing to scroll.

Results go to stdout, what happens meanwhile to stderr.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
import time
from collections.abc import Sequence
from typing import Any, Optional

from agent.errors import Refused, UsageError, plain
from agent.model.facts import JournalFacts, Observation, Survey
from agent.model.plan import Plan, Stage, Step
from agent.model.verdict import Diagnosis, MemberVerdict, Refusal

WIDTH = 79
"""A terminal of 80 columns that has the last one filled begins a line that nobody asked for."""

OPERATORS = "operator's machine"
"""What stands in a text whose commands are to be typed there, and not here."""
_SIMPLE = str.maketrans({"…": "...", "→": "->", "–": "-", "—": "-", "’": "'", "“": '"', "”": '"'})
_CONSOLE_WORDS = (
    (re.compile(r"\bfab rescue-quorum\b"), "rescue-agent plan"),
    (re.compile(r"\bfab remove-member ([\w.-]+)"), r"rescue-agent plan \1 --lost \1"),
    (re.compile(r"\bfab rescue-node\b"), "rescue-agent plan"),
    (re.compile(r"\bfab plan --save FILE\b"), "rescue-agent plan --save DIRECTORY"),
    (
        re.compile(
            r"\bfab (diagnose|plan|apply|resume|rollback|journal|survey|snapshot|verify-snapshot|"
            r"rehearse)\b"
        ),
        r"rescue-agent \1",
    ),
)


def ascii_text(text: str) -> str:
    """Text as every serial terminal shows it: what is not ASCII is written as its number."""
    return plain(text).translate(_SIMPLE).encode("ascii", "backslashreplace").decode()


def console_words(text: str) -> str:
    """The same, with the words of this console for those of an operator's machine."""
    if OPERATORS in text:
        return text
    for pattern, words in _CONSOLE_WORDS:
        text = pattern.sub(words, text)
    return text


def wrapped(text: str, first: str = "", then: Optional[str] = None) -> str:
    """Text folded to the width; first, then: what its first line and the others begin with."""
    lines = textwrap.wrap(
        ascii_text(text), WIDTH, break_on_hyphens=False, break_long_words=False,
        initial_indent=first, subsequent_indent=then if then is not None else " " * len(first),
    )  # fmt: skip
    return "\n".join(lines) or first.rstrip()


def labelled(label: str, text: str, folded: bool = True) -> str:
    """Lines of text, a label before the first; what is to be typed has a line of its own."""
    lines = plain(text).splitlines()
    labels = [label, *(" " * len(label) for _ in lines[1:])]
    return "\n".join(
        wrapped(line, first) if folded else f"{first}{line}" for first, line in zip(labels, lines)
    )


def show_next(text: str) -> None:
    """Print what to do next."""
    print(labelled("next: ", console_words(text)))


def show(text: str = "", first: str = "", then: Optional[str] = None) -> None:
    """Print a line of a result."""
    print(wrapped(text, first, then) if text or first else "")


def note(text: str) -> None:
    """Say what happens meanwhile."""
    print(wrapped(text, "  "), file=sys.stderr, flush=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns; a cell that is too long is folded below itself, in the last column."""
    lines = [list(columns), *([ascii_text(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns) - 1)]
    for line in lines:
        head = "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths))
        print(wrapped(line[-1] or "-", f"{head}  ", " " * (len(head) + 2)).rstrip())


# ---- results -------------------------------------------------------------------------------------


def show_survey(survey: Survey) -> None:
    """Print what a person asks first; the whole of it is `--output json`."""
    online, offline = survey.online, survey.offline
    show(f"{survey.hostname}: {survey.platform or 'no known control plane'}")
    rows = [("etcd", _state(survey)), ("addresses", ", ".join(survey.addresses))]
    if offline:
        rows.append(("data", f"{offline.data_dir}" + ("" if offline.has_data else ": no member")))
        if offline.wal:
            wal = offline.wal
            rows.append(("member", f"{wal.member_id} of cluster {wal.cluster_id}"))
            rows.append(("log", f"term {wal.last_term}, index {wal.last_index}"))
        if offline.db:
            rows.append(("on disk", f"revision {offline.db.revision}"))
    if online and online.answers:
        rows.append(("served", f"revision {online.revision}"))
    rows += [("cause", f"{c.summary} ({c.remedy})") for c in survey.causes[:3]]
    rows += [("fenced", survey.fence.reason)] if survey.fence else []
    rows += [("lock", f"plan {survey.lock.plan[:12]} of {survey.lock.holder}")
             for _ in (1,) if survey.lock and survey.lock.plan]  # fmt: skip
    rows += [("problem", text) for text in survey.problems]
    for name, text in rows:
        show(console_words(text), f"  {name:<10}")


def _state(survey: Survey) -> str:
    online = survey.online
    if online and online.linearizable:
        return f"serves, version {online.version}"
    if online and online.answers:
        return f"runs without a quorum, version {online.version}"
    return "is starting, or does not answer" if survey.processes else "does not run"


def show_diagnosis(
    diagnosis: Diagnosis, observations: Sequence[Observation], directory: str = ""
) -> None:
    """Print the state of the cluster and of each member, and what fits. directory: the stick."""
    show(f"Cluster {diagnosis.state.value}: {diagnosis.why}")
    show(f"{diagnosis.serving} of {diagnosis.voters} voters serve, {diagnosis.quorum} are needed")
    show()
    table(("HOST", "STATE", "TERM/INDEX", "REVISION", "KNOWN FROM"), [
        (m.host or m.id, m.state.value, _at(m), str(m.revision or "-"), _source(m, observations))
        for m in diagnosis.members
    ])  # fmt: skip
    show()
    for member in diagnosis.members:
        show(console_words(_why(member)), f"{ascii_text(member.host or member.id)}: ", "  ")
    for text in diagnosis.warnings:
        show(console_words(text), "warning: ", "  ")
    for text in diagnosis.losses:
        show(console_words(text), "could be lost: ", "  ")
    if diagnosis.recipe:
        show(f"{diagnosis.recipe} {diagnosis.target}: {diagnosis.recipe_why}", "Fits: ", "  ")
    for name, reason in diagnosis.consent:
        show(f"{name}: {console_words(reason)}", "needs your word for ", "  ")
    for refusal in diagnosis.refusals:
        _show_refusal(refusal)
    if diagnosis.recipe:
        show_next(f"rescue-agent plan --stick {directory or 'DIRECTORY'}")


def _at(member: MemberVerdict) -> str:
    return f"{member.position[0]}/{member.position[1]}" if member.position[1] else "-"


def _source(member: MemberVerdict, observations: Sequence[Observation]) -> str:
    seen = next((o for o in observations if o.host == member.host), None)
    if seen is None:
        return "the member list"
    if seen.survey is None:
        return "a look from here"
    return "this host" if seen is observations[0] else "a carried file"


def _why(member: MemberVerdict) -> str:
    words = [member.why]
    if member.cause and member.cause.summary not in member.why:
        words.append(f"{member.cause.summary} ({member.cause.remedy})")
    return "; ".join([*words, *member.notes, *([member.next] if member.next else [])])


def _show_refusal(refusal: Refusal) -> None:
    show(refusal.seen, f"Not {refusal.recipe}: ", "  ")
    show(refusal.why, "  why:  ")
    if refusal.next:
        show(console_words(refusal.next), "  next: ")


def show_plan(plan: Plan, name: str = "") -> None:
    """Print a plan, stage by stage; steps of the host of that name are marked."""
    show(f"Plan {plan.short_id}: {plan.recipe} - {plan.summary}", then="  ")
    for number, stage in enumerate(plan.stages, 1):
        show()
        show(f"{stage.title}{_waiting(stage)}", f"{number}. ")
        for step in stage.steps:
            _show_step(step, name)
    show()
    for text in plan.losses:
        show(console_words(text), "could be lost: ", "  ")
    voters = ", ".join(plan.promise.voters) or "as before"
    newer = f", revision {plan.promise.revision} or newer" if plan.promise.revision else ""
    show(f"Promise: voters {voters}{newer}", then="  ")


def _waiting(stage: Stage) -> str:
    is_parallel = stage.parallel and len({s.host for s in stage.steps}) > 1
    notes = ["hosts in any order"] if is_parallel else []
    notes += [f"can be put off: {', '.join(stage.waits_for)}"] if stage.waits_for else []
    return f"  ({'; '.join(notes)})" if notes else ""


def _show_step(step: Step, name: str) -> None:
    mark = "*" if step.host == name else " "
    turn = "  <- POINT OF NO RETURN" if step.final else ""
    show(f"{step.host}: {step.action.replace('_', ' ')}{turn}", f" {mark} {step.id} ")
    show(step.reason, "        ")


def show_steps(steps: Sequence[Step]) -> None:
    """Print the steps that are to be done here now, with their reasons."""
    for step in steps:
        _show_step(step, "")


def show_journals(journals: Sequence[JournalFacts]) -> None:
    """Print a line for each plan of this host."""
    if not journals:
        show("no plan was ever begun on this host")
        return
    rows = []
    for facts in journals:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(facts.updated))
        begun = f", begun {' '.join(facts.begun)}" if facts.begun else ""
        said = facts.problem or f"{len(facts.done)} steps done{begun}, {when}"
        rows.append((facts.plan[:12], facts.state, facts.recipe or "-", said))
    table(("PLAN", "STATE", "RECIPE", "WHAT"), rows)


def show_records(records: Sequence[dict[str, Any]]) -> None:
    """Print the records of one plan, a line each, with what was said at a step's end."""
    for record in records:
        when = time.strftime("%m-%d %H:%M:%S", time.localtime(record["time"]))
        said = json.dumps(record["data"]) if record["kind"] not in ("intent", "plan") else ""
        show(said[:200], f"{when} {record['step'] or '-':<3} {record['kind']:<9} ")


# ---- what happens meanwhile ----------------------------------------------------------------------


def told(step: Step, outcome: str, seconds: float, result: dict[str, Any]) -> None:
    """Say how a step ended."""
    mark = {"done": "ok", "already": "ok", "failed": "FAILED"}.get(outcome, outcome)
    words = result.get("left") or result.get("seen", "") if outcome != "failed" else ""
    extra = " (was there already)" if outcome == "already" else ""
    line = f"{step.action.replace('_', ' ')}{extra} ({seconds:.1f} s)"
    note(f"{step.id} {mark:<6} {line}{f'  {words}' if words else ''}")


def _is_interactive() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _ask(question: str) -> str:
    print(ascii_text(question), end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()


def confirm(question: str, yes: bool) -> None:
    """Ask whether to go on. Raises Refused for a no, UsageError where nobody can be asked."""
    if yes:
        return
    if not _is_interactive():
        raise UsageError(
            "this changes the host, and there is no terminal to ask at",
            "a plan is carried out only when somebody said yes to it",
            "add --yes, or look first with --dry-run",
        )
    if _ask(f"{question} Type yes: ") != "yes":
        raise Refused("not confirmed", "nothing was changed")


def ask_consent(needed: Sequence[tuple[str, str]], absent: Sequence[str]) -> None:
    """Ask for every name that must be typed. absent: hosts that nothing was carried of.

    Raises Refused naming the option to give where nobody can be asked, or the name is not typed.
    """
    names = [name for name, _reason in needed]
    options = " ".join(f"--{'lost' if n in absent else 'accept'} {_quoted(n)}" for n in names)
    refusal = Refused(
        f"your word is needed for {', '.join(names)}",
        "; ".join(f"{name}: {reason}" for name, reason in needed),
        f"if what is said to be gone is off and stays off: rescue-agent plan {options}",
    )
    if not _is_interactive():
        raise refusal
    for name, reason in needed:
        print(wrapped(f"{name}: {reason}"), file=sys.stderr)
        if _ask(f"Type the name {name} to go on without it: ") != name:
            raise refusal


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[\w.:-]+", name) else "'" + name.replace("'", "'\\''") + "'"
