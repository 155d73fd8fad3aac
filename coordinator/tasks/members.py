"""Tasks about members by hand: etcdctl, and kubeadm's way to join a control-plane host."""

from __future__ import annotations

import base64
import codecs
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from invoke.exceptions import Exit

from agent.errors import PreconditionFailed, Refused, Unreachable, UsageError, plain
from agent.model.codec import parse_json
from agent.model.verdict import MemberState
from coordinator.console import is_interactive
from coordinator.tasks.common import Looked, Options, looking

_DAY = 86400.0
HINTS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("member", "remove"), "fab remove-member NAME computes the quorum before and after"),
    (("member", "add"), "fab rescue-node HOST adds a learner, lets it catch up, and promotes it"),
    (("member", "promote"), "fab rescue-node HOST promotes a learner once it is in step"),
    (("snapshot", "restore"), "fab restore FILE verifies, rehearses, and can take it back"),
    (("snapshot", "save"), "the file stays on that host; fab snapshot brings it here, verified"),
    (("snapshot", "status"), "it does not compare the hash; fab verify-snapshot FILE does"),
    (("alarm", "disarm"), "fab clear-alarm makes space first, and never disarms CORRUPT"),
    (("defrag",), "fab clear-alarm does it one member at a time, the leader last"),
    (("del",), "a snapshot first: fab snapshot"),
    (("auth",), "Kubernetes knows no passwords of etcd: the API server would be locked out"),
)
"""Words that etcdctl may be given → what does the same more safely. Nothing is forbidden."""


def etcdctl(options: Options, host: str, words: Sequence[str]) -> None:
    """Run etcdctl with these words on a host; its output, and its exit code, are its own."""
    if not words:
        raise UsageError("no words for etcdctl", next="fab etcdctl [HOST] -- member list -w table")
    for text in hints(words):
        print(f"hint: {text}", file=sys.stderr)
    with looking(options, host, blind=True) as looked:
        where = _where(looked, host)
        asked = {"args": list(words)}
        done = looked.fleet.channel(where).call("etcdctl", asked, _DAY, Output().show)
    sys.stdout.flush()
    if done["code"]:
        raise Exit(code=done["code"] if done["code"] > 0 else 128 - done["code"])


def hints(words: Sequence[str]) -> list[str]:
    """What to say about these words before they are carried out."""
    bare = [word for word in words if not word.startswith("-")]
    return [
        text
        for pattern, text in HINTS
        if any(tuple(bare[i : i + len(pattern)]) == pattern for i in range(len(bare)))
    ]


class Output:
    """What etcdctl says on the host, said here: byte for byte, but to a terminal only as text.

    Keys and values are anybody's, and could hold what drives a terminal.
    """

    def __init__(self) -> None:
        make = codecs.getincrementaldecoder("utf-8")
        self._decoders = {name: make(errors="replace") for name in ("out", "err")}

    def show(self, text: str) -> None:
        """Say one piece. Raises Unreachable where it is none."""
        try:
            said = parse_json(text, "")
            pieces = {name: base64.b64decode(data, validate=True) for name, data in said.items()}
        except (UsageError, ValueError, TypeError, AttributeError):
            raise Unreachable("what should be etcdctl's output is not an agent's word") from None
        for name, data in pieces.items():
            stream = sys.stdout if name == "out" else sys.stderr
            stream.flush()
            if stream.isatty():
                decoded = self._decoders["out" if name == "out" else "err"].decode(data)
                data = "\t".join(map(plain, decoded.split("\t"))).encode()
            stream.buffer.write(data)
            stream.buffer.flush()


def _where(looked: Looked, host: str) -> str:
    """The host to run it on: the one named, else one that serves, else any with a definition."""
    if host:
        return looked.cluster.verdict(host).host
    serving = looked.cluster.serving()
    known = [o.host for o in looked.observations if o.survey and looked.cluster.config(o.host)]
    if not (serving or known):
        raise Unreachable(
            "no host with an etcd of its own could be reached", next="fab etcdctl HOST -- …"
        )
    return (serving or known)[0]


# ---- kubeadm's way -------------------------------------------------------------------------------


def join_command(options: Options, host: str, through: str, run: bool) -> None:
    """Make the command that joins HOST as a whole control-plane host; print it, or run it there."""
    with looking(options, host, blind=run) as looked:
        sources = _sources(looked, host, through)
        progress = looked.progress
        _refuse_members(looked, host)
        if run:
            _confirm(options, host, sources[0])
        source, made = _made(looked, sources)
        words = [str(word) for word in made["command"]]
        if not run:
            progress.say(f"for {host or 'the new host'}, as root; whoever has it can join: 2 hours")
            print(plain(shlex.join(words)))
            return
        looked.fleet.channel(host).call("run_join", {"command": words}, 1200, progress.say)
        progress.say(f"{host} has joined; look at it: fab -H {source} diagnose")


def _made(looked: Looked, sources: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """(host, its answer) of the first that has what kubeadm needs; raises why, where none has."""
    for source in sources[:-1]:
        with suppress(PreconditionFailed):
            return source, looked.fleet.call(source, "join_command", {}, 300, looked.progress.say)
    last = sources[-1]
    return last, looked.fleet.call(last, "join_command", {}, 300, looked.progress.say)


def _sources(looked: Looked, host: str, through: str) -> list[str]:
    """Hosts whose members serve, so that their API servers can."""
    if through:
        return [looked.cluster.verdict(through).host]
    serving = [name for name in looked.cluster.serving() if name != host]
    if not serving:
        raise Refused(
            f"no host beside {host or 'the new one'} has an etcd that serves",
            "kubeadm joins through the API server, and that through etcd",
            "fab rescue-quorum; to mend one node's etcd without any API server: fab rescue-node",
        )
    return serving


def _refuse_members(looked: Looked, host: str) -> None:
    """A member that is to come back as a new host must have left before."""
    member = looked.diagnosis.member(host) if host else None
    if member is None or not member.id:
        return
    next = f"fab rescue-node {host}   (its etcd alone)"
    if member.state is not MemberState.HEALTHY:
        next += f", or fab remove-member {host}, then this again"
    raise Refused(
        f"{host} is member {member.id} of the cluster: {member.why}",
        "kubeadm would add a second member with its peer URL",
        next,
    )


def _confirm(options: Options, host: str, source: str) -> None:
    if not host:
        raise UsageError("--run needs the host to run it on", next="fab join-command HOST --run")
    if options.yes:
        return
    if not is_interactive():
        raise UsageError("this changes hosts, and there is no terminal to ask at", next="add --yes")
    question = f"Join {host} to the control plane through {source}? Type yes: "
    print(question, end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != "yes":
        raise Refused("not confirmed", "nothing was changed")
