"""What a coordinator can ask of an agent about members: etcdctl, and kubeadm's way to join."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from agent.errors import UsageError
from agent.host import Host

Say = Callable[[str], None]
Args = dict[str, Any]


def _words(args: Args, name: str) -> list[str]:
    value = args.get(name, [])
    if not isinstance(value, list) or not all(isinstance(w, str) and "\0" not in w for w in value):
        raise UsageError(f"argument {name!r} is not a list of texts")
    return value


def etcdctl(host: Host, args: Args, say: Say) -> Any:
    """Run etcdctl: {"args": words} → {"code", "version"}.

    What it says comes meanwhile, as progress: {"out" or "err": base64}.
    """
    from agent.entry.etcdctl import run_etcdctl

    def out(name: str, data: bytes) -> None:
        say(json.dumps({name: base64.b64encode(data).decode()}))

    return run_etcdctl(host, _words(args, "args"), out)


def join_command(host: Host, args: Args, say: Say) -> Any:
    """Upload the control plane's certificates and make a token: {} → {"command": words}.

    Token and certificate key are in the answer and nowhere else.
    """
    from agent.entry.joining import make_join_command

    return {"command": make_join_command(host, say)}


def run_join(host: Host, args: Args, say: Say) -> Any:
    """Join this host to the control plane: {"command": words} → null."""
    from agent.entry.joining import join

    join(host, _words(args, "command"), say)


MEMBER_REQUESTS: dict[str, Callable[[Host, Args, Say], Any]] = {
    f.__name__: f for f in (etcdctl, join_command, run_join)
}
"""Name → verb."""
