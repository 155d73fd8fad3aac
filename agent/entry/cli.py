"""rescue-agent at a console: a rescue by this host's part of it, and every action as a verb."""

from __future__ import annotations

import argparse
import dataclasses
import io
import os
import sys
from contextlib import nullcontext
from typing import Any, Optional

from agent import __version__
from agent.entry.console import add_verbs as add_console_verbs
from agent.entry.console import holder
from agent.entry.hold import PatientLines, hold, join, require_root
from agent.entry.master_requests import add_verbs as add_master_verbs
from agent.errors import RescueError, UsageError, plain
from agent.host import Host, memory
from agent.host.processes import forbid_core_dumps
from agent.model.catalog import CATALOG
from agent.snapshot.console import add_verbs as add_snapshot_verbs

_HIDDEN = {
    "peers_silent", "check_authority", "install_authority", "check_ca_files", "install_ca_files",
    "place_master_file",
}  # fmt: skip
"""Actions whose arguments only a plan can give."""


_BOOLS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_MAX_NUMBER = 1_000_000


def main(argv: Optional[list[str]] = None) -> int:
    """Run one verb; returns the exit code (agent/errors.py says what each means)."""
    os.umask(0o077)
    forbid_core_dumps()
    memory.small_stacks()
    for stream in (sys.stdout, sys.stderr):  # a file name may be no text in this locale
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        words = sys.argv[1:] if argv is None else argv
        args = _parser(words[-1:] == ["session"]).parse_args(words)
        require_root(args.root)
        with join() if args.held else nullcontext():
            return int(args.run(args, Host(args.root)) or 0)
    except RescueError as error:
        _print_error(error)
        return error.exit_code
    except (MemoryError, RuntimeError) as error:
        if not memory.is_exhausted(error):
            raise
        exhausted = memory.exhausted()
        _print_error(exhausted)
        return exhausted.exit_code
    except OSError as error:
        said = f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")
        print(plain(said), file=sys.stderr)
        if isinstance(error, PermissionError) and os.geteuid() != 0:
            print("next: run this as root (sudo)", file=sys.stderr)
        return RescueError.exit_code
    except KeyboardInterrupt:
        print("interrupted; the journal says what was done: rescue-agent journal", file=sys.stderr)
        return 130


def _print_error(error: RescueError) -> None:
    """Print what was seen, why that forbids it, and what to type next here; folded for a person."""
    from agent.entry.screen import console_words, labelled

    for label, text in (("", error.seen), ("why:  ", error.why), ("next: ", error.next)):
        if text:
            print(labelled(label, console_words(text), sys.stderr.isatty()), file=sys.stderr)


def _parser(is_session: bool = False) -> argparse.ArgumentParser:
    """Of all verbs; of `session` alone where a coordinator waits: the others take their time."""
    parser = argparse.ArgumentParser(prog="rescue-agent", description=__doc__)
    parser.add_argument("--version", action="version", version=f"rescue-agent {__version__}")
    parser.add_argument(
        "--root", default=os.environ.get("HOST", "/"),
        help="where this host's file system is (/host in a debug pod; default: $HOST, else /)",
    )  # fmt: skip
    parser.add_argument("--held", action="store_true", help=argparse.SUPPRESS)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verb = verbs.add_parser("session", help="answer a coordinator over stdin and stdout")
    verb.set_defaults(run=_session)
    if is_session:
        return parser
    verb = verbs.add_parser("unattended")  # of use to a unit of systemd alone, so without help
    verb.set_defaults(run=_unattended)
    verb.add_argument("plan")
    verb = verbs.add_parser(
        "hold", help="keep a debug pod for as long as a coordinator works in it"
    )
    verb.set_defaults(run=lambda args, host: hold())
    add_console_verbs(verbs)
    words = "rename a damaged journal, so that new plans can be made"
    verb = verbs.add_parser("set-aside-journal", help=words)
    verb.set_defaults(run=_set_aside)
    verb.add_argument("plan")
    add_snapshot_verbs(verbs, _say)
    add_master_verbs(verbs, _say)
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


def _unattended(args: argparse.Namespace, host: Host) -> None:
    from agent.entry.unattended import carry_on

    carry_on(host, args.plan, lambda text: print(plain(text), flush=True))


def _session(args: argparse.Namespace, host: Host) -> int:
    from agent.entry.session import main_session

    return main_session(host, PatientLines(sys.stdin.fileno()) if args.held else None)


def _say(text: str) -> None:
    print(plain(f"  {text}"), file=sys.stderr, flush=True)


def _json(value: Any) -> str:
    from agent.model.codec import json_text  # loads dacite, which most verbs do without

    return json_text(value)


def _set_aside(args: argparse.Namespace, host: Host) -> None:
    from agent.entry.set_aside import set_aside, what_next

    aside = set_aside(host, args.plan)
    print(f"kept as {aside}; what the plan did stays as it is")
    print(f"next: {what_next(host, aside)}")


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
    outcome = run_single(host, args.action, values, holder(), _say, args.dry_run)
    print(_json(outcome))


if __name__ == "__main__":
    sys.exit(main())
