"""The stick: a directory that goes from console to console, with every host's carried file on it.

Plans lie beside them (`plan-ID.json`, and `plan-ID.json.sig` where somebody signed it).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Optional

from agent.errors import Refused, UsageError
from agent.host import Host
from agent.model.facts import Survey
from agent.model.plan import Plan
from agent.model.signed import MAX_PLAN, Signed, plan_of_text, plan_text
from agent.records import carried
from agent.records.carried import Carried
from agent.records.journal import Journal, read_journals
from agent.records.locks import only_agent

_MAX_SIGNATURE = 64 * 1024
_MAX_FILES = 64


@dataclass(frozen=True)
class Stick:
    """What was carried here. directory: where this host's own file goes, empty for nowhere.

    others: the newest file of each other host. own: this host's, as it was when it left.
    """

    directory: str
    others: tuple[Carried, ...]
    own: Optional[Carried] = None


def read_stick(host: Host, places: Sequence[str]) -> Stick:
    """Read carried files, and directories of them. Raises UsageError, Damaged.

    The first directory is the one that this host's own file is written to.
    """
    files, directory = [], ""
    for place in places:
        if host.is_dir(place):
            directory = directory or place.rstrip("/") or "/"
            names = [n for n in host.listdir(place) if carried.is_carried_name(n)]
            if len(names) > _MAX_FILES:
                raise UsageError(f"{place}: {len(names)} carried files", "no cluster is that large")
            files += [carried.read_whole(host, f"{place.rstrip('/')}/{name}") for name in names]
        elif host.exists(place):
            files.append(carried.read_whole(host, place))
        else:
            raise UsageError(
                f"{place}: no such file or directory",
                "what was carried here is read from there",
                "mount the stick, and name the directory: --stick DIRECTORY",
            )
    mine = (host.machine_id(), host.hostname())
    latest = carried.newest(files)
    _require_one_name(latest)
    own = [f for f in latest if (f.survey.machine_id, f.survey.hostname) == mine]
    return Stick(directory, tuple(f for f in latest if f not in own), own[0] if own else None)


def _require_one_name(files: Sequence[Carried]) -> None:
    names = [file.host for file in files]
    twice = next((name for name in names if names.count(name) > 1), "")
    if twice:
        places = ", ".join(file.where for file in files if file.host == twice)
        raise UsageError(
            f"two machines say that they are {twice}: {places}",
            "which of them is meant is not clear",
            "keep the file of the one that is in the cluster",
        )


def write_own(host: Host, directory: str, survey: Survey) -> str:
    """Write this host's file; its path. Raises Refused where that fails.

    Each journal of a plan that is open notes first that it leaves the host: what others do from
    then on may stand on it.
    """
    path = f"{directory.rstrip('/')}/{carried.file_name(host.hostname())}"
    is_open = any(facts.state == "open" for facts in survey.journals)
    try:
        with only_agent(host) if is_open else nullcontext():
            for facts in survey.journals:
                if facts.state == "open":
                    Journal.open(host, facts.plan).append("carried", data={"to": path})
            host.write_atomic(path, carried.pack(host, survey))
    except OSError as error:
        raise Refused(
            f"{path}: cannot be written: {error.strerror or error}",
            "without it the other hosts do not learn what was done here",
            "mount the stick for writing, then: rescue-agent export DIRECTORY",
        ) from None
    return path


def was_carried(journal: Journal) -> bool:
    """Whether what the journal says may be known elsewhere, on a stick."""
    return any(record.kind == "carried" for record in journal.records)


# ---- plans ---------------------------------------------------------------------------------------


def plan_name(plan: Plan) -> str:
    """The name of a plan's file."""
    return f"plan-{plan.short_id}.json"


def save_plan(host: Host, plan: Plan, place: str) -> str:
    """Write a plan's file (0600) into a directory, or as a new file; its path. Raises Refused."""
    path = f"{place.rstrip('/')}/{plan_name(plan)}" if host.is_dir(place) else place
    if host.exists(path):
        raise Refused(f"{path} is there already", "no file is written over")
    try:
        host.write_atomic(path, plan_text(plan).encode())
    except OSError as error:
        raise Refused(
            f"{path}: {error.strerror or error}",
            "the plan is kept nowhere",
            "name a directory that can be written to: --save DIRECTORY",
        ) from None
    return path


def load_plan(host: Host, path: str) -> tuple[Plan, Optional[Signed]]:
    """A plan's file, and with it FILE.sig if there is one. Raises UsageError, Damaged."""
    text = host.read_text(path, 4 * MAX_PLAN)
    plan = plan_of_text(text, path)
    if not host.exists(f"{path}.sig"):
        return plan, None
    return plan, Signed(text, host.read_text(f"{path}.sig", _MAX_SIGNATURE))


def known_plans(host: Host, stick: Stick) -> dict[str, Plan]:
    """Every plan in the journals here and on the stick, and in plan files there: ID → plan."""
    found = {h.plan.id: h.plan for file in stick.others for h in file.histories}
    for facts in read_journals(host):
        if facts.state != "damaged":
            found[facts.plan] = Journal.open(host, facts.plan).plan
    names = host.listdir(stick.directory) if stick.directory else []
    for name in names:
        if name.startswith("plan-") and name.endswith(".json"):
            plan, _signed = load_plan(host, f"{stick.directory}/{name}")
            found[plan.id] = plan
    return found
