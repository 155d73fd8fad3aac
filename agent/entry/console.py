"""rescue-agent's verbs for a rescue by consoles alone: survey to rollback, with a stick between.

On one host, without a network and without a coordinator. What each verb loads, it loads when it is
asked for: a survey needs no recipes.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from typing import Any

from agent.host import Host

_STICK = "a directory that goes from console to console, or a carried file (repeat for more)"


def holder() -> str:
    """Who holds the lock: the user at this console, and the process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without /etc/passwd
        user = f"uid {os.getuid()}"
    return f"{user} at the console, pid {os.getpid()}"


def add_verbs(verbs: Any) -> None:
    """Add the verbs to the parser's sub-parsers."""
    _survey_verbs(verbs)
    _plan_verb(verbs)
    _apply_verb(verbs)
    _go_on_verbs(verbs)


def _survey_verbs(verbs: Any) -> None:
    verb = _add(
        verbs, "survey", _survey, "say what is on this host", "Looks at this host; changes nothing."
    )
    _output(verb)
    verb = _add(
        verbs,
        "export",
        _export,
        "write what is known here to one file, to be carried",
        "Writes carried-HOST.json (0600): a survey of now and every journal, with hashes. "
        "The other consoles read it with --stick, an operator's machine with "
        "`fab import PLACE`.",
    )
    verb.add_argument("directory", help="where to, as a mounted stick")
    verb = _add(
        verbs,
        "diagnose",
        _diagnose,
        "say what state the cluster is in, and what fits",
        "Judges by this host and by the carried files of the others; changes nothing. A "
        "member that nothing was carried of is looked at over the network, if there is "
        "one.",
    )
    _stick(verb)
    _lost(verb)
    _output(verb)
    verb = _add(
        verbs,
        "journal",
        _journal,
        "list the plans of this host, or show one",
        "Without a plan: every plan that was begun here. With one: its records.",
    )
    verb.add_argument("plan", nargs="?", default="", help="its ID or the beginning of it")
    _output(verb)


def _plan_verb(verbs: Any) -> None:
    verb = _add(
        verbs,
        "plan",
        _plan,
        "make the plan that fits, for all hosts",
        "Makes a plan from this host's survey and the carried files of the others, and "
        "changes nothing. It is written to the stick, to be applied on each host in turn; "
        "to be signed, where that is demanded, at any place with the key.",
    )
    verb.add_argument(
        "target",
        nargs="?",
        default="",
        metavar="HOST",
        help="the host to rescue (default: the cluster)",
    )
    _stick(verb)
    verb.add_argument(
        "--save",
        default="",
        metavar="PLACE",
        help="a directory, or a new file, for the plan (default: the stick)",
    )
    _lost(verb)
    verb.add_argument(
        "--accept",
        action="append",
        default=[],
        metavar="HOST",
        help="a host whose newer or unknown data may be lost",
    )
    verb.add_argument(
        "--in-manifest",
        action="store_true",
        help="the manifest way, where no etcd can be run outside the kubelet",
    )
    _output(verb)


def _apply_verb(verbs: Any) -> None:
    verb = _add(
        verbs,
        "apply",
        _apply,
        "do this host's part of a plan",
        "Does the steps of this host that may be done now, writes its carried file to the "
        "stick, and says on which host to type what next. A step that stands on steps of "
        "other hosts is done only where their carried files prove these. Exit code 6: "
        "done here, another host is next; 3: nothing may be done here now.",
    )
    verb.add_argument(
        "plan",
        nargs="?",
        default="",
        help="its file, its ID or the beginning of it (default: the only one)",
    )
    _stick(verb)
    _host_name(verb)
    _without(verb)
    verb.add_argument("--yes", action="store_true", help="do not ask before the first step")
    verb.add_argument("--dry-run", action="store_true", help="show the steps; change nothing")


def _go_on_verbs(verbs: Any) -> None:
    verb = _add(
        verbs,
        "resume",
        _resume,
        "go on with a plan after an interruption",
        "Finishes the step that was interrupted on this host, then goes on as `apply` does.",
    )
    verb.add_argument("plan", nargs="?", default="", help="its ID or the beginning of it")
    _stick(verb)
    _host_name(verb)
    _without(verb)
    verb = _add(
        verbs,
        "rollback",
        _rollback,
        "take back what a plan did on this host",
        "Takes back, the last step first, what the plan did here, up to its point of no "
        "return. Where steps of other hosts stand on it, their carried files must prove "
        "that these were not begun, or taken back.",
    )
    verb.add_argument("plan", help="its ID or the beginning of it")
    _stick(verb)
    _host_name(verb)
    verb.add_argument(
        "--alone",
        action="store_true",
        help="you know that no other host has begun what stands on this",
    )


def _add(verbs: Any, name: str, run: Any, text: str, more: str) -> Any:
    verb = verbs.add_parser(name, help=text, description=more)
    verb.set_defaults(run=run)
    return verb


def _stick(verb: Any) -> None:
    verb.add_argument("--stick", action="append", default=[], metavar="PLACE", help=_STICK)


def _lost(verb: Any) -> None:
    verb.add_argument(
        "--lost",
        action="append",
        default=[],
        metavar="HOST",
        help="a host that is off and will not come back by itself",
    )


def _without(verb: Any) -> None:
    verb.add_argument(
        "--put-off",
        action="append",
        default=[],
        metavar="HOST",
        help="leave for later what waits for this host",
    )
    verb.add_argument(
        "--drop",
        action="append",
        default=[],
        metavar="HOST",
        help="give up for good what is on this host and what waits for it",
    )


def _host_name(verb: Any) -> None:
    verb.add_argument(
        "--host",
        default="",
        metavar="NAME",
        help="what the plan calls this host (default: found by its addresses)",
    )


def _output(verb: Any) -> None:
    verb.add_argument(
        "--output",
        choices=("text", "json"),
        default="",
        help="(default: text to a terminal, json to a pipe)",
    )


def _is_text(args: argparse.Namespace) -> bool:
    return bool(args.output == "text" or (not args.output and sys.stdout.isatty()))


def _json(value: Any) -> None:
    from agent.model.codec import json_text

    print(json_text(value))


# ---- looking -------------------------------------------------------------------------------------


def _survey(args: argparse.Namespace, host: Host) -> None:
    from agent.survey.take import take_survey

    survey = take_survey(host)
    if not _is_text(args):
        _json(survey)
        return
    from agent.entry.screen import show_survey

    show_survey(survey)


def _export(args: argparse.Namespace, host: Host) -> None:
    from agent.entry import screen, stick
    from agent.entry.visit import take
    from agent.errors import UsageError

    if not host.is_dir(args.directory):
        raise UsageError(
            f"{args.directory}: no such directory",
            "the file is written into it",
            "mount the stick, and name where",
        )
    path = stick.write_own(host, args.directory, take(host))
    screen.show(f"written: {path}")
    screen.show_next(
        "the same on the other hosts; then, on the last of them:\n"
        f"rescue-agent diagnose --stick {args.directory}"
    )


def _diagnose(args: argparse.Namespace, host: Host) -> None:
    from agent.entry import planning, screen, stick
    from agent.entry.visit import take

    carried = stick.read_stick(host, args.stick)
    seen = planning.observe(host, take(host), carried)
    diagnosis = planning.judged(seen, args.lost)
    for text in planning.say_age(host, carried):
        screen.note(text)
    if _is_text(args):
        screen.show_diagnosis(diagnosis, seen, carried.directory)
    else:
        _json(diagnosis)


def _journal(args: argparse.Namespace, host: Host) -> None:
    from agent.entry import screen
    from agent.entry.verbs import journal
    from agent.records.journal import read_journals

    if _is_text(args) and not args.plan:
        screen.show_journals(read_journals(host))
        return
    found = journal(host, {"plan": args.plan} if args.plan else {}, screen.note)
    if _is_text(args):
        screen.show_records(found)
    else:
        _json(found)


# ---- planning, and carrying out ------------------------------------------------------------------


def _plan(args: argparse.Namespace, host: Host) -> None:
    from agent.entry import planning, screen, stick
    from agent.entry.visit import take

    carried = stick.read_stick(host, args.stick)
    survey = take(host)
    seen = planning.observe(host, survey, carried)
    for text in planning.say_age(host, carried):
        screen.note(text)
    plan = planning.make_plan(
        seen,
        args.target,
        host.now(),
        args.lost,
        args.accept,
        screen.ask_consent,
        args.in_manifest,
    )
    if plan is None:
        screen.show(f"nothing to do: {planning.judged(seen, args.lost).why}")
        return
    place = args.save or carried.directory
    path = stick.save_plan(host, plan, place) if place else ""
    if carried.directory:
        stick.write_own(host, carried.directory, survey)  # the others judge the plan by it
    if _is_text(args):
        screen.show_plan(plan, seen[0].host)
    else:
        _json(plan)
    _tell_first(screen, plan, path, carried.directory)


def _tell_first(screen: Any, plan: Any, path: str, directory: str) -> None:
    """Say where the plan lies, and where it begins."""
    if not path:
        screen.note("the plan was written nowhere; to keep it: --stick or --save")
        return
    first = plan.steps()[0].host if plan.steps() else ""
    screen.note(f"written: {path}")
    what = f"{plan.short_id} --stick {directory}" if directory else path
    screen.note(f"next: on {first}: rescue-agent apply {what}")


def _asked(args: argparse.Namespace, **more: Any) -> Any:
    from agent.entry.visit import Asked

    return Asked(args.plan, tuple(args.stick), args.host, **more)


def _apply(args: argparse.Namespace, host: Host) -> None:
    from agent.entry.applying import apply

    asked = _asked(
        args, put_off=tuple(args.put_off), drop=tuple(args.drop), yes=args.yes, dry_run=args.dry_run
    )
    apply(host, asked)


def _is_by_hand(host: Host, plan_id: str) -> bool:
    """Whether the plan is that of a lone verb, which concerns this host and nobody else."""
    from agent.records.journal import Journal
    from agent.runner import SINGLE_STEP

    return bool(plan_id) and Journal.open(host, plan_id).plan.recipe == SINGLE_STEP


def _resume(args: argparse.Namespace, host: Host) -> None:
    from agent.entry import screen
    from agent.entry.applying import apply
    from agent.entry.verbs import resume_here

    if _is_by_hand(host, args.plan):
        _tell(resume_here(host, args.plan, holder(), screen.note))
        return
    apply(
        host,
        _asked(args, put_off=tuple(args.put_off), drop=tuple(args.drop), yes=True, is_resume=True),
    )


def _rollback(args: argparse.Namespace, host: Host) -> None:
    from agent.entry import screen
    from agent.entry.undoing import rollback
    from agent.entry.verbs import rollback_here

    if _is_by_hand(host, args.plan):
        _tell(rollback_here(host, args.plan, holder(), screen.note))
        return
    rollback(host, _asked(args, alone=args.alone))


def _tell(outcomes: list[dict[str, Any]]) -> None:
    for outcome in outcomes:
        print(f"{outcome['step']}: {outcome['outcome']}")
    if not outcomes:
        print("nothing was left to do here")
