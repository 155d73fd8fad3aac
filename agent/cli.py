"""rescue-agent at a console: survey, journal, and every action as a verb of its own."""

from __future__ import annotations

import argparse
import dataclasses
import getpass
import json
import os
import sys
from typing import Any, Optional

from agent import __version__
from agent.errors import RescueError, UsageError
from agent.host import Host
from agent.model.catalog import CATALOG

_HIDDEN = {"peers_silent"}
"""Actions whose arguments only a plan can give."""


def main(argv: Optional[list[str]] = None) -> int:
    """Run one verb; returns the exit code (agent/errors.py says what each means)."""
    os.umask(0o077)
    try:
        args = _parser().parse_args(argv)
        return int(args.run(args, Host(args.root)) or 0)
    except RescueError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; the journal says what was done: rescue-agent journal", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rescue-agent", description=__doc__)
    parser.add_argument("--version", action="version", version=f"rescue-agent {__version__}")
    parser.add_argument(
        "--root", default=os.environ.get("HOST", "/"),
        help="where this host's file system is (/host in a debug pod; default: $HOST, else /)",
    )  # fmt: skip
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, run, text in (
        ("session", _session, "answer a coordinator over stdin and stdout"),
        ("survey", _survey, "say what is on this host, as JSON"),
        ("journal", _journal, "list the plans of this host, or show one"),
        ("rollback", _rollback, "take back what the plan did on this host"),
    ):
        verb = verbs.add_parser(name, help=text)
        verb.set_defaults(run=run)
        if name in ("journal", "rollback"):
            verb.add_argument("plan", nargs="?" if name == "journal" else None, default="")
    for spec in CATALOG.values():
        if spec.name not in _HIDDEN:
            _add_action(verbs, spec.name)
    return parser


def _add_action(verbs: Any, name: str) -> None:
    spec = CATALOG[name]
    words = f"{spec.title}. Precondition: {spec.precondition}. Undo: {spec.undo}."
    verb = verbs.add_parser(name.replace("_", "-"), help=spec.title, description=words)
    verb.set_defaults(run=_single_action, action=name)
    verb.add_argument("args", nargs="*", metavar="NAME=VALUE", help="arguments of the action")
    verb.add_argument("--dry-run", action="store_true", help="check only; change nothing")


def _session(args: argparse.Namespace, host: Host) -> int:
    from agent.session import main_session

    return main_session(host)


def _survey(args: argparse.Namespace, host: Host) -> None:
    from agent.model.codec import to_plain
    from agent.survey.take import take_survey

    print(json.dumps(to_plain(take_survey(host)), indent=2, ensure_ascii=False))


def _journal(args: argparse.Namespace, host: Host) -> None:
    from agent.verbs import journal

    found = journal(host, {"plan": args.plan} if args.plan else {}, _say)
    print(json.dumps(found, indent=2, ensure_ascii=False))


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def _rollback(args: argparse.Namespace, host: Host) -> None:
    from agent.verbs import rollback_here

    for outcome in rollback_here(host, args.plan, _holder(), _say):
        print(f"{outcome['step']}: {outcome['outcome']}")


def _holder() -> str:
    return f"{getpass.getuser()} at the console, pid {os.getpid()}"


def parse_values(args_type: type[Any], words: list[str]) -> dict[str, Any]:
    """NAME=VALUE words as the arguments of an action; a name given twice makes a list."""
    fields = {f.name: str(f.type) for f in dataclasses.fields(args_type)}
    values: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        name = name.replace("-", "_")
        if not equals or name not in fields:
            raise UsageError(
                f"{word!r} is no argument of this action",
                f"known: {', '.join(fields) or 'none'}, as NAME=VALUE",
            )
        kind = fields[name]
        if "tuple" in kind:
            values.setdefault(name, []).append(value)
        elif kind in ("float", "int"):
            values[name] = _number(name, value, kind)
        else:
            values[name] = value in ("true", "yes", "1") if kind == "bool" else value
    return values


def _number(name: str, value: str, kind: str) -> float:
    try:
        return int(value) if kind == "int" else float(value)
    except ValueError:
        raise UsageError(f"{name}={value!r} is not a number") from None


def _single_action(args: argparse.Namespace, host: Host) -> None:
    from agent.actions.registry import action_named
    from agent.verbs import run_single

    values = parse_values(action_named(args.action).args_type, args.args)
    outcome = run_single(host, args.action, values, _holder(), _say, args.dry_run)
    print(json.dumps(outcome, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    sys.exit(main())
