"""rescue-agent at a console: survey, journal, and every action as a verb of its own."""

from __future__ import annotations

import argparse
import dataclasses
import getpass
import io
import os
import sys
from typing import Any, Optional

from agent import __version__
from agent.errors import RescueError, UsageError, plain
from agent.host import Host
from agent.host.processes import forbid_core_dumps
from agent.model.catalog import CATALOG
from agent.snapshot.console import add_verbs as add_snapshot_verbs

_HIDDEN = {"peers_silent", "check_authority", "install_authority"}
"""Actions whose arguments only a plan can give."""


_BOOLS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_MAX_NUMBER = 1_000_000


def main(argv: Optional[list[str]] = None) -> int:
    """Run one verb; returns the exit code (agent/errors.py says what each means)."""
    os.umask(0o077)
    forbid_core_dumps()
    for stream in (sys.stdout, sys.stderr):  # a file name may be no text in this locale
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        args = _parser().parse_args(argv)
        return int(args.run(args, Host(args.root)) or 0)
    except RescueError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except OSError as error:
        said = f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")
        print(plain(said), file=sys.stderr)
        if isinstance(error, PermissionError) and os.geteuid() != 0:
            print("next: run this as root (sudo)", file=sys.stderr)
        return RescueError.exit_code
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
        ("resume", _resume, "finish the step that the plan was at on this host"),
        ("rollback", _rollback, "take back what the plan did on this host"),
        (
            "set-aside-journal",
            _set_aside,
            "rename a damaged journal, so that new plans can be made",
        ),
    ):
        verb = verbs.add_parser(name, help=text)
        verb.set_defaults(run=run)
        if name in ("journal", "resume", "rollback", "set-aside-journal"):
            verb.add_argument("plan", nargs="?" if name == "journal" else None, default="")
    add_snapshot_verbs(verbs, _say)
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
    from agent.entry.session import main_session

    return main_session(host)


def _survey(args: argparse.Namespace, host: Host) -> None:
    from agent.model.codec import json_text
    from agent.survey.take import take_survey

    print(json_text(take_survey(host)))


def _journal(args: argparse.Namespace, host: Host) -> None:
    from agent.entry.verbs import journal

    found = journal(host, {"plan": args.plan} if args.plan else {}, _say)
    print(_json(found))


def _say(text: str) -> None:
    print(plain(f"  {text}"), file=sys.stderr, flush=True)


def _json(value: Any) -> str:
    from agent.model.codec import json_text  # loads dacite, which most verbs do without

    return json_text(value)


def _resume(args: argparse.Namespace, host: Host) -> None:
    from agent.entry.verbs import resume_here

    _tell(resume_here(host, args.plan, _holder(), _say))


def _rollback(args: argparse.Namespace, host: Host) -> None:
    from agent.entry.verbs import rollback_here

    _tell(rollback_here(host, args.plan, _holder(), _say))


def _set_aside(args: argparse.Namespace, host: Host) -> None:
    from agent.entry.set_aside import set_aside, what_next

    aside = set_aside(host, args.plan)
    print(f"kept as {aside}; what the plan did stays as it is")
    print(f"next: {what_next(host, aside)}")


def _tell(outcomes: list[dict[str, Any]]) -> None:
    for outcome in outcomes:
        print(f"{outcome['step']}: {outcome['outcome']}")
    if not outcomes:
        print("nothing was left to do here")


def _holder() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without /etc/passwd
        user = f"uid {os.getuid()}"
    return f"{user} at the console, pid {os.getpid()}"


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
        if "tuple" in fields[name]:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise UsageError(f"{name} is given twice")
        else:
            values[name] = _value(name, value, fields[name])
    return values


def _value(name: str, value: str, kind: str) -> Any:
    if kind == "bool":
        if value not in _BOOLS:
            raise UsageError(f"{name}={value!r} is neither true nor false")
        return _BOOLS[value]
    if kind not in ("float", "int"):
        return value
    try:
        number = int(value) if kind == "int" else float(value)
    except ValueError:
        raise UsageError(f"{name}={value!r} is not a number") from None
    if not 0 <= number < _MAX_NUMBER:
        raise UsageError(f"{name}={value!r} is not between 0 and {_MAX_NUMBER}")
    return number


def _single_action(args: argparse.Namespace, host: Host) -> None:
    from agent.actions.registry import action_named
    from agent.entry.verbs import run_single

    values = parse_values(action_named(args.action).args_type, args.args)
    outcome = run_single(host, args.action, values, _holder(), _say, args.dry_run)
    print(_json(outcome))


if __name__ == "__main__":
    sys.exit(main())
