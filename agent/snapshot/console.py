"""rescue-agent's verbs for snapshots: snapshot, verify-snapshot, rehearse; and send, receive."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

from agent.errors import RescueError
from agent.host import Host
from agent.snapshot.scheduled_console import add_scheduled


def add_verbs(verbs: Any, say: Callable[[str], None]) -> None:
    """Add the verbs to the parser's sub-parsers."""
    verb = verbs.add_parser("snapshot", help="take a backup set and keep it on this host")
    verb.set_defaults(run=lambda args, host: _snapshot(host, say))
    for name, run, text in (
        ("verify-snapshot", _verify, "prove that a snapshot file or backup set is whole"),
        ("rehearse", _rehearse, "restore a snapshot into a scratch etcd, and say what is in it"),
    ):
        verb = verbs.add_parser(name, help=text)
        verb.set_defaults(run=lambda args, host, run=run: run(args, host, say))
        verb.add_argument("file", help="a snapshot file, or the directory of a backup set")
        verb.add_argument(
            "--no-hash-ok", action="store_true",
            help="take a file without a hash at its end: the copy of a database file",
        )  # fmt: skip
    add_scheduled(verbs, say)
    _add_bulk(verbs)


def _add_bulk(verbs: Any) -> None:
    """What a coordinator starts for large files; of no use by hand, so without help."""
    verb = verbs.add_parser("send")
    verb.set_defaults(run=_send)
    verb.add_argument("pieces")
    verb = verbs.add_parser("receive")
    verb.set_defaults(run=_receive)
    verb.add_argument("name")
    verb.add_argument("size", type=int)
    verb.add_argument("sha256")


def _snapshot(host: Host, say: Callable[[str], None]) -> None:
    from agent.model.codec import to_plain
    from agent.snapshot.staging import keep_set
    from agent.snapshot.take import take_set

    found = take_set(host, say)
    directory = keep_set(host, found.name)
    _print({"directory": directory, "set": to_plain(found)})


def _verify(args: argparse.Namespace, host: Host, say: Callable[[str], None]) -> None:
    from agent.snapshot.requests import verify_snapshot

    _print(verify_snapshot(host, {"path": args.file, "no_hash_ok": args.no_hash_ok}, say))


def _rehearse(args: argparse.Namespace, host: Host, say: Callable[[str], None]) -> None:
    from agent.snapshot.requests import rehearse_snapshot

    _print(rehearse_snapshot(host, {"path": args.file, "no_hash_ok": args.no_hash_ok}, say))


def _send(args: argparse.Namespace, host: Host) -> None:
    from agent.snapshot.bulk import send

    _told(lambda: send(host, args.pieces, sys.stdout.buffer))


def _receive(args: argparse.Namespace, host: Host) -> None:
    from agent.snapshot.bulk import receive

    streams = sys.stdin.buffer, sys.stdout.buffer
    _told(lambda: receive(host, args.name, args.size, args.sha256, *streams))


def _told(act: Callable[[], None]) -> None:
    """An error is for the coordinator, as a line of its own; it is no terminal's business."""
    try:
        act()
    except RescueError as error:
        print(json.dumps({"error": error.to_plain()}), flush=True)
        raise


def _print(value: Any) -> None:
    from agent.model.codec import json_text

    print(json_text(value))
