"""How a function becomes a task of the fabfile: common options, hosts, exit codes."""

from __future__ import annotations

import getpass
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import fields
from inspect import Parameter, Signature
from typing import Any

from fabric import task
from invoke.exceptions import Exit

from agent.errors import RescueError, UsageError
from agent.host.processes import forbid_core_dumps
from coordinator.positional import allow_left_away
from coordinator.rest import claim_rest
from coordinator.tasks.common import Options

allow_left_away()
claim_rest()

LOOKING = (
    "cluster", "hosts_from", "via", "image", "output",
    "ask_ssh_password", "ask_jump_password", "ask_sudo_password",
)  # fmt: skip
CHANGING = (*LOOKING, "dry_run", "yes")
ON_THE_API = ("kubeconfig", "api_patience")
"""Of tasks whose steps, on OpenShift 4, ask the Kubernetes API."""

_REPEATED = Parameter.empty
# Every option that more than one task takes: its default (none: may be repeated) and its help.
_COMMON: dict[str, tuple[Any, str]] = {
    "cluster": ("", "cluster.yaml that names the hosts (default: the one here, if there is one)"),
    "hosts_from": ("", "kubeconfig[:PATH] or ansible:PATH[:GROUP], which names the hosts"),
    "via": ("", "how to get onto hosts: ssh, or oc-debug (debug pods, by oc or kubectl)"),
    "image": ("", "the image of debug pods (default: as cluster.yaml says, else make image's)"),
    "ask_ssh_password": (False, "ask for the password of the login on the hosts"),
    "ask_jump_password": (False, "ask for the password of the login on the jump hosts"),
    "output": ("table", "table, json or yaml"),
    "ask_sudo_password": (False, "ask for the sudo password of the hosts"),
    "dry_run": (False, "show the plan and change nothing"),
    "kubeconfig": ("", "OpenShift 4: your kubeconfig, where the API takes none of the hosts' own"),
    "api_patience": ("60", "OpenShift 4: seconds for which a request to the API is tried again"),
    "yes": (False, "do not ask before carrying out the plan"),
    "in_manifest": (False, "use the manifest way, where no etcd can be run outside the kubelet"),
    "unattended": (False, "hosts that lose this machine, or boot, go on with their own steps"),
    "lost": (_REPEATED, "a host that is off and will not come back by itself (repeat for each)"),
    "accept": (_REPEATED, "a host whose newer or unknown data may be lost (repeat for each)"),
}
_PASSWORDS = {
    "ssh_password": "password of the login on the hosts",
    "jump_password": "password of the login on the jump hosts",
    "sudo_password": "sudo password of the hosts",
}
_handled: set[str] = set()


def command(
    *common: str, repeated: tuple[str, ...] = (), **words: str
) -> Callable[[Callable[..., None]], Any]:
    """Make a task of a function `(options, own parameters…)`.

    common: the shared options it takes. words: own parameter → its help. An own parameter without
    default is positional; one with default None is positional too and may be left away (it is ""
    then); `repeated` ones may be given more than once and are tuples.
    """

    def decorate(function: Callable[..., None]) -> Any:
        own = list(inspect.signature(function).parameters.values())[1:]
        free = [p.name for p in own if p.default in (Parameter.empty, None)]
        positional = [name for name in free if name not in repeated]

        def body(c: Any, **given: Any) -> None:
            _run(function, given, [p.name for p in own])

        body.__name__, body.__doc__ = function.__name__, function.__doc__
        body.__signature__ = _signature(own, common)  # type: ignore[attr-defined]
        return task(
            help={**words, **{name: _COMMON[name][1] for name in common}},
            auto_shortflags=False,
            positional=positional,
            optional=[p.name for p in own if p.default is None],
            iterable=[*repeated, *(name for name in common if _COMMON[name][0] is _REPEATED)],
        )(body)

    return decorate


def _signature(own: list[Parameter], common: tuple[str, ...]) -> Signature:
    """What invoke reads the options from: c, then own parameters, then the shared ones."""
    kind = Parameter.POSITIONAL_OR_KEYWORD
    parameters = [Parameter("c", kind), *own]
    parameters += [Parameter(name, kind, default=_COMMON[name][0]) for name in common]
    required = [p for p in parameters if p.default is Parameter.empty]
    return Signature([*required, *(p for p in parameters if p.default is not Parameter.empty)])


def command_line_hosts(argv: list[str]) -> tuple[str, ...]:
    """Hosts of -H/--hosts: fab would run a task once for each, one after another; we do not."""
    for i, word in enumerate(argv):
        if word in ("-H", "--hosts") and i + 1 < len(argv):
            return tuple(argv[i + 1].split(","))
        if word.startswith("--hosts="):
            return tuple(word.partition("=")[2].split(","))
        if word.startswith("-H") and len(word) > 2:
            return tuple(word[2:].lstrip("=").split(","))
    return ()


def _run(function: Callable[..., None], given: dict[str, Any], own: list[str]) -> None:
    """Run one task once for all its hosts, and end with its exit code."""
    if function.__name__ in _handled:
        return  # fab calls a task once per -H host; the first call did them all
    _handled.add(function.__name__)
    try:
        function(_options(given), **{name: _plain(given[name]) for name in own})
    except UsageError as error:
        raise Exit(str(error), error.exit_code) from None
    except RescueError as error:
        if os.environ.get("ETCD_RESCUE_DEBUG"):
            raise
        raise Exit(f"{error.kind}: {error}", error.exit_code) from None


def _options(given: dict[str, Any]) -> Options:
    known = {field.name for field in fields(Options)}
    said = {name: _plain(value) for name, value in given.items() if name in known}
    for name in ("lost", "accept"):
        said[name] = tuple(part for word in said.get(name, ()) for part in word.split(","))
    for name, whose in _PASSWORDS.items():
        if given.get(f"ask_{name}"):
            forbid_core_dumps()  # it stays in our memory
            said[name] = getpass.getpass(f"{whose}: ")
    return Options(hosts=command_line_hosts(sys.argv[1:]), **said)


def _plain(value: Any) -> Any:
    """A repeated option as a tuple of words; one that was left away as an empty text."""
    if isinstance(value, list):
        return tuple(str(word) for word in value)
    return "" if value is None else value
