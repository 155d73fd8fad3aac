"""What every task starts from: the operator's words, and hosts that were looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from agent.diagnosis.cluster import diagnose
from agent.errors import Refused, RescueError, Unreachable, UsageError
from agent.model.catalog.openshift4_machine import MAX_API_PATIENCE
from agent.model.facts import Observation
from agent.model.signed import Policy
from agent.model.verdict import Diagnosis
from agent.recipes.choosing import refused as refused
from agent.recipes.cluster import Cluster
from agent.records.carried import Carried
from coordinator import report
from coordinator.agent_file import build_agent
from coordinator.carried_store import stored
from coordinator.console import Progress
from coordinator.fleet import Fleet
from coordinator.inventory import Inventory, gather
from coordinator.inventory import via as through
from coordinator.kubeconfig import read_kubeconfig


@dataclass(frozen=True)
class Options:
    """What the operator said: hosts, consent, and how to answer."""

    hosts: tuple[str, ...] = ()
    cluster: str = ""
    lost: tuple[str, ...] = ()
    accept: tuple[str, ...] = ()
    dry_run: bool = False
    yes: bool = False
    output: str = "table"
    in_manifest: bool = False
    unattended: bool = False
    ssh_config: str = ""
    sudo_password: str = ""
    hosts_from: str = ""
    ssh_password: str = ""
    jump_password: str = ""
    kubeconfig: str = ""
    api_patience: str = ""
    via: str = ""
    image: str = ""


@dataclass(frozen=True)
class Looked:
    """A fleet that was surveyed, and the verdict on it.

    carried: files of consoles that were imported (carried_store.py); only what looks believes them.
    """

    fleet: Fleet
    observations: tuple[Observation, ...]
    diagnosis: Diagnosis
    progress: Progress
    policy: Policy = field(default_factory=Policy)
    inventory: Inventory = field(default_factory=Inventory)
    carried: tuple[Carried, ...] = ()

    @property
    def cluster(self) -> Cluster:
        """Diagnosis and observations as the recipes take them."""
        return Cluster(self.diagnosis, self.observations)


@contextmanager
def looking(options: Options, host: str = "", blind: bool = False) -> Iterator[Looked]:
    """Connect to all hosts, survey and diagnose them; connections are closed at the end.

    Raises why, where not one host could be surveyed; with `blind`, only after the body.
    """
    if options.output not in report.FORMATS:
        raise UsageError(
            f"no output format {options.output!r}", f"known: {', '.join(report.FORMATS)}"
        )
    progress = Progress()
    inventory = gather(options.cluster, options.hosts, host, options.ssh_config, options.hosts_from)
    inventory = through(inventory, options.via, options.image)
    access = replace(
        inventory.access,
        password=options.ssh_password,
        jump_password=options.jump_password,
        sudo_password=options.sudo_password,
    )
    fleet = Fleet(inventory.hosts, build_agent(), access, inventory.complete)
    fleet.kubeconfig = read_kubeconfig(options.kubeconfig) if options.kubeconfig else ""
    fleet.api_patience = _patience(options.api_patience)
    try:
        observations = fleet.observe()
        surveyed = sum(o.survey is not None for o in observations)
        progress.say(f"surveyed {surveyed} of {len(observations)} hosts")
        if not surveyed and not blind:
            raise _nothing_seen(fleet)
        diagnosis = diagnose(observations, options.lost)
        files = tuple(stored(options.cluster))
        yield Looked(fleet, observations, diagnosis, progress, inventory.policy, inventory, files)
        if not surveyed:
            raise _nothing_seen(fleet)
    finally:
        fleet.close()


def _patience(told: str) -> int:
    """Seconds; 0 for as many as usual. Raises UsageError for what is none, or out of bounds."""
    if not told:
        return 0
    if told.isascii() and told.isdigit() and 0 < int(told[:9]) <= MAX_API_PATIENCE:
        return int(told)
    raise UsageError(
        f"--api-patience {told}",
        f"a request that the API does not do is tried again for 1 to {MAX_API_PATIENCE} seconds",
        "fab resume   (goes on whenever the API is back)",
    )


def _nothing_seen(fleet: Fleet) -> RescueError:
    """Why no host could be surveyed: the error of the only one, else all of them in one."""
    errors = list(fleet.errors.values())
    if len(errors) == 1:
        return errors[0]
    told = "; ".join(error.seen for error in errors)
    kind = Refused if all(isinstance(error, Refused) for error in errors) else Unreachable
    return kind(
        f"none of {len(errors)} hosts could be surveyed: {told}",
        errors[0].why,
        errors[0].next,
    )
