"""All hosts of a cluster: connected and surveyed in parallel, reattached after a drop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from agent.diagnosis.matching import distinct
from agent.diagnosis.witness import choose
from agent.errors import Locked, RescueError, Unreachable
from agent.model.codec import from_plain
from agent.model.facts import (
    DbFacts,
    Lock,
    Member,
    Observation,
    OfflineFacts,
    Sighting,
    Survey,
)
from agent.model.facts.openshift311 import BALANCER
from coordinator.agent_file import AgentFile
from coordinator.channel import Channel, fan_out
from coordinator.connection import Access, resolve
from coordinator.delivery import open_channel
from coordinator.hosts import HostSpec
from coordinator.inventory import hosts_from_members, probe_ports
from coordinator.second_look import ATTEMPT_LOOKS, ATTEMPT_PAUSE, attempting, doubtful
from coordinator.transfer import Way

_PORTS = (22, 2379, 2380)
_SURVEY_TIMEOUT = 20.0
_DEEP_TIMEOUT = 60.0
_REATTACH_SECONDS = 90.0
_RECENT_SECONDS = 15.0

Say = Callable[[str, str], None]
Surveyed = tuple[Survey, tuple[float, float]]


class Fleet:
    """Channels to the hosts of a cluster by name; opened when first needed."""

    def __init__(
        self, specs: Sequence[HostSpec], agent_file: AgentFile, access: Access, complete: bool
    ) -> None:
        """Take the hosts to begin with; unless `complete`, the others are found through them.

        errors: host → why it could not be surveyed.
        """
        self.specs = {spec.name: spec for spec in specs}
        self._agent, self._access, self._complete = agent_file, access, complete
        self._channels: dict[str, Channel] = {}
        self._guard = threading.Lock()
        self.errors: dict[str, RescueError] = {}
        self._failed: dict[str, float] = {}
        self._seen: tuple[Observation, ...] = ()
        self._beyond: dict[str, HostSpec] = {}
        self._plan_names: set[str] = set()
        self.kubeconfig = ""  # text of the operator's own, for hosts whose own will not do
        self.api_patience = 0  # seconds for one request to the Kubernetes API; 0: as many as usual

    def channel(self, host: str) -> Channel:
        """Give the open channel of a host, or open one. Raises what `open_channel` raises."""
        with self._guard:
            found = self._channels.get(host)
        if found is not None:
            return found
        try:
            spec = self.specs.get(host) or self._beyond[host]
            opened = open_channel(spec, self._agent, self._access)
        except Unreachable:
            self._failed[host] = time.monotonic()
            raise
        with self._guard:
            self._channels[host] = opened
        return opened

    def way(self, host: str) -> Way:
        """How large files get to a host, and from it."""
        return Way(self.specs[host], self._agent, self._access)

    def add(self, hosts: dict[str, str]) -> None:
        """Add hosts that a stored plan names (name → address) and no member list does any more.

        One that is known by another name gets the plan's: its steps are for that name.
        """
        self._plan_names |= set(hosts)
        model = next(iter(self.specs.values()))
        for name, address in hosts.items():
            if name in self.specs:
                continue
            other = next((h for h in self.specs if address in (h, self._address(h))), "")
            if other and other not in hosts:
                self.specs[name] = replace(self.specs.pop(other), name=name, address=address)
            elif not other:
                self.specs[name] = replace(model, name=name, address=address)

    def beside(self, spec: HostSpec) -> None:
        """Add a host that has steps and is no part of the cluster: a load balancer."""
        self.specs.setdefault(spec.name, spec)

    def address(self, host: str) -> str:
        """The address that a known host is reached by."""
        return self._address(host)

    def drop(self, host: str) -> None:
        """Forget a broken channel."""
        with self._guard:
            broken = self._channels.pop(host, None)
        if broken is not None:
            broken.close()

    def close(self) -> None:
        """Close all channels; agents finish the step they are in, and end."""
        fan_out(list(self._channels), self.drop)

    def is_up(self, host: str) -> bool:
        """Say whether the host can be worked with now; a channel that broke is opened anew."""
        with self._guard:
            is_new = host not in self._channels
        try:
            self.channel(host).call("lock", timeout=5)
            return True
        except Unreachable:
            self.drop(host)
            if is_new:
                return False
        except RescueError:
            return True
        try:
            self.channel(host)
        except Unreachable:
            return False
        return True

    def call(
        self,
        host: str,
        verb: str,
        args: dict[str, Any],
        timeout: float = 120.0,
        on_progress: Callable[[str], None] | None = None,
    ) -> Any:
        """Ask one agent; after a drop, reattach and ask again.

        Every verb is safe to repeat: the agent journals what it does, and looks before it acts. An
        agent whose line was cut may still be finishing its step: its lock is waited for.
        """
        deadline = time.monotonic() + _REATTACH_SECONDS
        while True:
            try:
                return self.channel(host).call(verb, args, timeout, on_progress)
            except (Unreachable, Locked) as error:
                is_busy = isinstance(error, Locked) and "another agent" in error.seen
                if (isinstance(error, Locked) and not is_busy) or time.monotonic() > deadline:
                    raise
                if on_progress:
                    on_progress(f"{error.seen}; trying again")
                if not is_busy:
                    self.drop(host)
                time.sleep(0.5)

    # ---- looking -----------------------------------------------------------------------------

    def observe(self) -> tuple[Observation, ...]:
        """Survey every host in parallel; one that cannot be reached is looked at from outside."""
        found = self._survey(self.specs)
        if not self._complete:
            new = self._discover(found, found)
            found.update(self._survey(new))
            found.update(self._survey(self._discover({host: found[host] for host in new}, found)))
        found.update(self._survey(doubtful(found), deep=True))
        for _ in range(ATTEMPT_LOOKS):
            again = attempting(found)
            if not again:
                break
            time.sleep(ATTEMPT_PAUSE)
            found.update(self._survey(again))
        missing = [o for o in found.values() if o.survey is None]
        if missing:
            seen = self._sight(missing, [h for h, o in found.items() if o.survey])
            for host, sightings in seen.items():
                found[host] = replace(found[host], sightings=tuple(sightings))
        self._forget_other_names(found)
        rows = [found[host] for host in self.specs if host in found]
        self._seen = tuple(o for o in rows if not (o.survey and o.survey.platform == BALANCER))
        return self._seen

    def _forget_other_names(self, found: Mapping[str, Observation]) -> None:
        """Call a machine that a plan names as the plan does, and not as a member list does too.

        A learner that never started has no name: it is found by its address alone.
        """
        named: dict[object, set[str]] = {}
        for host, observation in found.items():
            if observation.survey and observation.survey.machine_id:
                named.setdefault(machine_of(observation.survey), set()).add(host)
        for names in named.values():
            if names & self._plan_names:
                for host in names - self._plan_names:
                    self.specs.pop(host, None)

    def _survey(self, hosts: Iterable[str], deep: bool = False) -> dict[str, Observation]:
        answers = fan_out(hosts, lambda host: self._survey_one(host, deep))
        self.errors.update({h: a for h, a in answers.items() if isinstance(a, RescueError)})
        return {
            host: _unseen(host, self._address(host), answer)
            if isinstance(answer, RescueError)
            else Observation(host, self._address(host), survey=answer[0], clock=answer[1])
            for host, answer in answers.items()
        }

    def _survey_one(self, host: str, deep: bool) -> Surveyed:
        with self._guard:
            is_new = host not in self._channels
        try:
            return self._ask_survey(host, deep)
        except Unreachable:
            self.drop(host)  # an old line may be dead; a fresh one decides
            if is_new:
                raise
            return self._ask_survey(host, deep)

    def _ask_survey(self, host: str, deep: bool) -> Surveyed:
        """Give a host's survey, and between which bounds its clock is ahead of ours (seconds)."""
        channel = self.channel(host)
        began = time.time()
        plain = channel.call("survey", {"deep": deep}, _DEEP_TIMEOUT if deep else _SURVEY_TIMEOUT)
        ended = time.time()
        survey = from_plain(Survey, plain, f"survey of {host}")
        return survey, (survey.time - ended, survey.time - began)

    def _address(self, host: str) -> str:
        spec = self.specs[host]
        return spec.address or resolve(spec, self._access).hostname

    def _discover(
        self, found: dict[str, Observation], everyone: dict[str, Observation]
    ) -> list[str]:
        """Add the hosts that the surveyed ones' member lists name; give the new names."""
        new: list[str] = []
        for spec in self._strangers(found.values(), everyone.values()):
            self.specs[spec.name] = spec
            new.append(spec.name)
        return new

    def find(self, members: tuple[Member, ...]) -> list[str]:
        """Add the hosts that a list of members names, as a snapshot's does; give the new names.

        None where the inventory says that it is complete. The next `observe` surveys them.
        """
        known = next((o for o in self._seen if o.survey is not None), None)
        if self._complete or known is None or known.survey is None:
            return []
        said = DbFacts(0, 0, 0, 0, 0, 0, members=members)
        survey = replace(known.survey, online=None, offline=OfflineFacts("", True, db=said))
        new = []
        for spec in self._strangers([replace(known, survey=survey)], self._seen):
            self.specs[spec.name] = spec
            new.append(spec.name)
        return new

    def _strangers(
        self, told_by: Iterable[Observation], everyone: Iterable[Observation]
    ) -> Iterator[HostSpec]:
        """Hosts that member lists name and nobody knows yet; add each before asking for the next.

        An address that a surveyed host says it has is no new host, whatever that one is called.
        """
        here = {address for o in everyone if o.survey for address in o.survey.addresses}
        for observation in list(told_by):
            if observation.survey is None or observation.host not in self.specs:
                continue
            model = self.specs[observation.host]
            met = here | {self._address(h) for h in self.specs}
            for spec in hosts_from_members(observation.survey, model, self._access, met):
                known = {self._address(h) for h in self.specs} | set(self.specs)
                if not {spec.name, self._spec_address(spec)} & (known | here):
                    yield spec

    def _spec_address(self, spec: HostSpec) -> str:
        return spec.address or resolve(spec, self._access).hostname

    def _sight(
        self, missing: Sequence[Observation], witnesses: Sequence[str]
    ) -> dict[str, list[Sighting]]:
        """Look at unreachable hosts from here and from every host that can be reached."""
        views = {f"{o.host}|": ("", o) for o in missing}
        views |= {f"{o.host}|{w}": (w, o) for o in missing for w in witnesses}

        def look(key: str) -> Sighting:
            witness, target = views[key]
            if not witness:
                here: Sighting = probe_ports(target.address, _PORTS)
                return here
            asked = {"address": target.address, "ports": list(_PORTS)}
            plain = self.channel(witness).call("probe", asked, timeout=10)
            seen: Sighting = from_plain(Sighting, plain, f"sighting from {witness}")
            return replace(seen, seen_from=witness)

        result: dict[str, list[Sighting]] = {o.host: [] for o in missing}
        for key, sighting in fan_out(views, look).items():
            if isinstance(sighting, Sighting):
                result[key.partition("|")[0]].append(sighting)
        return result

    # ---- locks -------------------------------------------------------------------------------

    def to_lock(self, needed: Iterable[str]) -> list[str]:
        """Name every host that a plan's lock belongs on, in one order for every operator.

        The hosts needed, all others of the fleet, and members that the inventory leaves out: two
        runs that know different hosts of one cluster meet on one of them. Each machine is named
        once; in the order of the machines' own identity, so that of two runs that begin at the same
        moment the one that gets the first host gets them all.
        """
        if self._complete:
            self._look_beyond()
        machines: dict[tuple[str, ...], str] = {}
        for name in [*needed, *self.specs, *self._beyond]:
            if name in self.specs or name in self._beyond:
                machines.setdefault(self._machine(name), name)
        return [name for _machine, name in sorted(machines.items())]

    def _look_beyond(self) -> None:
        """Find members that an inventory does not name, by the best witness' list alone."""
        members = choose(distinct(self._seen)[0]).members
        urls = {url for member in members for url in member.peer_urls}
        addresses = {urlsplit(url).hostname for url in urls} | {m.name for m in members}
        for spec in self._strangers(self._seen, self._seen):
            if {spec.name, self._spec_address(spec)} & addresses:
                self._beyond[spec.name] = spec

    def _machine(self, name: str) -> tuple[str, ...]:
        """What makes a machine itself (see matching.distinct); of one not surveyed, its address."""
        survey = next((o.survey for o in self._seen if o.host == name and o.survey), None)
        if survey is None or not survey.machine_id:
            spec = self.specs.get(name) or self._beyond[name]
            return "~", self._spec_address(spec), name
        return machine_of(survey)

    def locks(self, hosts: Iterable[str]) -> dict[str, Lock | None]:
        """Give the lock of every host that answers; `errors` says why the others do not.

        One that could not be reached a moment ago is not waited for again: the outage is waiting.
        """
        since = time.monotonic() - _RECENT_SECONDS
        asked = [h for h in hosts if h not in self.errors or self._failed.get(h, 0.0) < since]
        answers = fan_out(asked, lambda host: self.channel(host).call("lock", timeout=10))
        self.errors.update({h: a for h, a in answers.items() if isinstance(a, RescueError)})
        return {
            host: from_plain(Lock, plain, f"lock of {host}") if plain else None
            for host, plain in answers.items()
            if not isinstance(plain, RescueError)
        }


def machine_of(survey: Survey) -> tuple[str, ...]:
    """What makes a machine itself: see matching.distinct, by which one is counted once."""
    return survey.machine_id, survey.hostname, survey.boot_id, *survey.addresses


def _unseen(host: str, address: str, error: RescueError) -> Observation:
    """A host without a survey: what was in the way, in one line, and what to do about it."""
    told = "; ".join(part for part in (error.seen, error.why) if part)
    told = " ".join(told.removeprefix(f"{host}: ").split())
    return Observation(host, address, error=told, next=" ".join(error.next.split()))
