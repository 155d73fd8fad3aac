"""Sets a damaged journal aside, so that the host can be worked with again. Nothing is deleted."""

from __future__ import annotations

from contextlib import suppress

from agent.actions.base import Context
from agent.actions.data import DataArgs, data_places
from agent.errors import Damaged, Refused, RescueError, UsageError
from agent.host import Host
from agent.platforms import detect
from agent.records.journal import JOURNAL_DIR, Journal
from agent.records.locks import only_agent, release_lock


def set_aside(host: Host, plan_id: str) -> str:
    """Rename the damaged journal of a plan, and give its lock back; the file's new name.

    What the plan did stays as it is: a new diagnosis judges by the host alone. Raises UsageError
    where no journal or more than one begins with `plan_id`, Refused where it can be read.
    """
    with only_agent(host):
        path = _the_one(host, plan_id)
        plan = path.rpartition("/")[2].removesuffix(".jsonl")
        with suppress(Damaged):
            journal = Journal.open(host, plan)
            raise Refused(
                f"{path} is whole: plan {plan[:12]} is {journal.state}",
                "only a journal that cannot be read is set aside; from this one it can be gone on",
                f"fab resume {plan[:12]}   (or: fab rollback {plan[:12]})",
            )
        number = sum(n.startswith(f"{plan}.damaged-") for n in host.listdir(JOURNAL_DIR)) + 1
        aside = f"{JOURNAL_DIR}/{plan}.damaged-{number}"
        host.rename_new(path, aside)
        release_lock(host, plan)
    return aside


def what_next(host: Host, aside: str) -> str:
    """The commands that lead on from a journal set aside.

    Where the plan had moved etcd's data away and nothing is in its place, no diagnosis has anything
    to judge by: the data comes back first. Where there is data, it is that which counts.
    """
    plan = aside.rpartition("/")[2][:12]
    ctx = Context(host, detect(host), plan, "", lambda text: None)
    with suppress(RescueError, OSError):
        where = data_places(ctx, DataArgs())
        kept = [n for n in host.listdir(where.quarantine) if n.endswith("-member")]
        if kept and not host.exists(where.member):
            place = f"data_dir={where.data_dir} quarantine={where.quarantine}/{kept[0]}"
            return f"rescue-agent bring-back-data {place}; then: fab diagnose"
    return "fab diagnose"


def _the_one(host: Host, plan_id: str) -> str:
    there = [n for n in host.listdir(JOURNAL_DIR) if n.endswith(".jsonl")]
    found = [n for n in there if n.startswith(plan_id)]
    if not plan_id or len(found) != 1:
        raise UsageError(
            f"{len(found)} journals on {host.hostname()} match plan {plan_id or '(none)'}",
            f"known here: {', '.join(n[:12] for n in there) or 'none'}",
            "rescue-agent journal",
        )
    return f"{JOURNAL_DIR}/{found[0]}"
