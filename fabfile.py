"""etcd-rescue: the operator's tasks. `fab --list` names them, `fab --help TASK` explains one."""

from __future__ import annotations

from coordinator.command import CHANGING, LOOKING, command
from coordinator.tasks import look, plan_files, rescue, unfinished
from coordinator.tasks.common import Options


@command(*LOOKING)
def survey(options: Options) -> None:
    """Show what is on every host; changes nothing."""
    look.survey(options)


@command("lost", *LOOKING)
def diagnose(options: Options) -> None:
    """Say what state the cluster and each member is in, and what fits; changes nothing."""
    look.diagnose(options)


@command(
    "lost", "accept", "in_manifest", *LOOKING,
    host="the node to rescue", save="write the plan to this file, to be signed and applied",
)  # fmt: skip
def plan(options: Options, host: str | None = None, save: str = "") -> None:
    """Show the plan that a rescue would carry out; changes nothing."""
    rescue.plan(options, host or "", save)


@command(*CHANGING, file="a plan written by `fab plan --save`; its signature is FILE.sig")
def apply(options: Options, file: str) -> None:
    """Carry out the plan in FILE, if it fits what the hosts are like now."""
    plan_files.apply(options, file)


@command("lost", *CHANGING, host="the node to rescue")
def rescue_node(options: Options, host: str) -> None:
    """Bring HOST's etcd member back to health, or refuse and say what would."""
    rescue.rescue_node(options, host)


@command("lost", "accept", "in_manifest", *CHANGING)
def rescue_quorum(options: Options) -> None:
    """Bring a cluster that lost its quorum back from its best survivor, and rejoin the others."""
    rescue.rescue_quorum(options)


@command(*CHANGING, name="the member or host")
def remove_member(options: Options, name: str) -> None:
    """Remove the member NAME, whose host is gone for good; the cluster stays smaller."""
    rescue.remove_member(options, name)


@command(
    "dry_run", *LOOKING, repeated=("drop",),
    plan="the plan's ID or its beginning", drop="a host to give up for good (repeat for each)",
)  # fmt: skip
def resume(options: Options, drop: tuple[str, ...], plan: str | None = None) -> None:
    """Go on with an unfinished plan, from what the hosts and their journals say."""
    unfinished.resume(options, plan or "", drop)


@command("yes", *LOOKING, plan="the plan's ID or its beginning")
def rollback(options: Options, plan: str | None = None) -> None:
    """Take an unfinished plan back, up to its point of no return."""
    unfinished.rollback(options, plan or "")


@command(*LOOKING, plan="the plan's ID or its beginning")
def journal(options: Options, plan: str | None = None) -> None:
    """List the plans in all hosts' journals, or show what was done by one."""
    look.journal(options, plan or "")
