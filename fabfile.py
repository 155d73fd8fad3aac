"""etcd-rescue: the operator's tasks. `fab --list` names them, `fab --help TASK` explains one."""

from __future__ import annotations

import getpass
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from fabric import task
from invoke.exceptions import Exit

from agent.errors import RescueError, UsageError
from coordinator import tasks
from coordinator.positional import allow_left_away
from coordinator.tasks import Options

allow_left_away()

_HELP = {
    "cluster": "cluster.yaml that names the hosts (default: the one here, if there is one)",
    "dry_run": "show the plan and change nothing",
    "yes": "do not ask before carrying out the plan",
    "output": "table, json or yaml",
    "lost": "a host that is off and will not come back by itself (repeat for each)",
    "accept": "a host whose newer or unknown data may be lost (repeat for each)",
    "ask_sudo_password": "ask for the sudo password of the hosts",
    "in_manifest": "use the manifest way, where no etcd can be run outside the kubelet",
    "host": "the node to rescue",
    "plan": "the plan's ID or its beginning",
    "drop": "a host to give up for good (repeat for each)",
    "name": "the member or host",
}
_handled: set[str] = set()


def _described(**options: Any) -> Callable[[Callable[..., None]], Any]:
    """`task`, with the help of just the parameters that the function has."""

    def decorate(function: Callable[..., None]) -> Any:
        names = set(inspect.signature(function).parameters)
        words = {name: text for name, text in _HELP.items() if name in names}
        return task(help=words, auto_shortflags=False, **options)(function)

    return decorate


def _command_line_hosts(argv: list[str]) -> tuple[str, ...]:
    """Hosts of -H/--hosts: fab would run a task once for each, one after another; we do not."""
    for i, word in enumerate(argv):
        if word in ("-H", "--hosts") and i + 1 < len(argv):
            return tuple(argv[i + 1].split(","))
        if word.startswith("--hosts="):
            return tuple(word.partition("=")[2].split(","))
        if word.startswith("-H") and len(word) > 2:
            return tuple(word[2:].lstrip("=").split(","))
    return ()


def _run(name: str, do: Callable[[Options], None], given: dict[str, Any]) -> None:
    """Run one task once for all its hosts, and end with its exit code.

    given: the task's parameters by name; those that Options knows are passed on.
    """
    if name in _handled:
        return  # fab calls a task once per -H host; the first call did them all
    _handled.add(name)
    known = {field.name for field in fields(Options)}
    said = {key: value for key, value in given.items() if key in known}
    for many in ("lost", "accept"):
        words = [str(word) for word in said.get(many, ())]
        said[many] = tuple(name for word in words for name in word.split(","))
    if given["ask_sudo_password"]:
        said["sudo_password"] = getpass.getpass("sudo password of the hosts: ")
    try:
        do(Options(hosts=_command_line_hosts(sys.argv[1:]), **said))
    except UsageError as error:
        raise Exit(str(error), error.exit_code) from None
    except RescueError as error:
        if os.environ.get("ETCD_RESCUE_DEBUG"):
            raise
        raise Exit(f"{error.kind}: {error}", error.exit_code) from None


@_described()
def survey(
    c: Any, cluster: str = "", output: str = "table", ask_sudo_password: bool = False
) -> None:
    """Show what is on every host; changes nothing."""
    _run("survey", tasks.task_survey, locals())


@_described(iterable=["lost"])
def diagnose(
    c: Any,
    lost: list[str],
    cluster: str = "",
    output: str = "table",
    ask_sudo_password: bool = False,
) -> None:
    """Say what state the cluster and each member is in, and what fits; changes nothing."""
    _run("diagnose", tasks.task_diagnose, locals())


@_described(iterable=["lost", "accept"], optional=["host"], positional=["host"])
def plan(
    c: Any,
    lost: list[str],
    accept: list[str],
    host: str | None = None,
    cluster: str = "",
    output: str = "table",
    in_manifest: bool = False,
    ask_sudo_password: bool = False,
) -> None:
    """Show the plan that a rescue would carry out; changes nothing."""
    _run("plan", lambda o: tasks.task_plan(o, host or ""), locals())


@_described(iterable=["lost"], positional=["host"])
def rescue_node(
    c: Any,
    host: str,
    lost: list[str],
    cluster: str = "",
    dry_run: bool = False,
    yes: bool = False,
    output: str = "table",
    ask_sudo_password: bool = False,
) -> None:
    """Bring HOST's etcd member back to health, or refuse and say what would."""
    _run("rescue-node", lambda o: tasks.task_rescue_node(o, host), locals())


@_described(iterable=["lost", "accept"])
def rescue_quorum(
    c: Any,
    lost: list[str],
    accept: list[str],
    cluster: str = "",
    dry_run: bool = False,
    yes: bool = False,
    output: str = "table",
    in_manifest: bool = False,
    ask_sudo_password: bool = False,
) -> None:
    """Bring a cluster that lost its quorum back from its best survivor, and rejoin the others."""
    _run("rescue-quorum", tasks.task_rescue_quorum, locals())


@_described(positional=["name"])
def remove_member(
    c: Any,
    name: str,
    cluster: str = "",
    dry_run: bool = False,
    yes: bool = False,
    output: str = "table",
    ask_sudo_password: bool = False,
) -> None:
    """Remove the member NAME, whose host is gone for good; the cluster stays smaller."""
    _run("remove-member", lambda o: tasks.task_remove_member(o, name), locals())


@_described(iterable=["drop"], optional=["plan"], positional=["plan"])
def resume(
    c: Any,
    drop: list[str],
    plan: str | None = None,
    cluster: str = "",
    dry_run: bool = False,
    output: str = "table",
    ask_sudo_password: bool = False,
) -> None:
    """Go on with an unfinished plan, from what the hosts and their journals say."""
    _run("resume", lambda o: tasks.task_resume(o, plan or "", tuple(drop)), locals())


@_described(optional=["plan"], positional=["plan"])
def rollback(
    c: Any,
    plan: str | None = None,
    cluster: str = "",
    yes: bool = False,
    output: str = "table",
    ask_sudo_password: bool = False,
) -> None:
    """Take an unfinished plan back, up to its point of no return."""
    _run("rollback", lambda o: tasks.task_rollback(o, plan or ""), locals())


@_described(optional=["plan"], positional=["plan"])
def journal(
    c: Any,
    plan: str | None = None,
    cluster: str = "",
    output: str = "table",
    ask_sudo_password: bool = False,
) -> None:
    """List the plans in all hosts' journals, or show what was done by one."""
    _run("journal", lambda o: tasks.task_journal(o, plan or ""), locals())
