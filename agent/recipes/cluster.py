"""What recipes need to know of a cluster: who serves, who is where, what the surveys said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Optional
from urllib.parse import urlsplit

from agent.diagnosis.advice import declares
from agent.diagnosis.matching import distinct
from agent.diagnosis.quorum import quorum
from agent.diagnosis.witness import choose
from agent.errors import Refused
from agent.model.facts import EtcdConfig, Member, Observation, Parked, Survey
from agent.model.verdict import Diagnosis, MemberState, MemberVerdict

PEER_PORT = 2380
CLIENT_PORT = 2379


@dataclass(frozen=True)
class Definition:
    """The file that makes etcd run. path: its place in the watched directory, parked or not."""

    path: str
    sha256: str
    is_parked: bool


@dataclass(frozen=True)
class Cluster:
    """A diagnosis together with the observations it was made from."""

    diagnosis: Diagnosis
    observations: tuple[Observation, ...]

    @property
    def addresses(self) -> dict[str, str]:
        """Host name → address, of all hosts observed."""
        return {o.host: o.address for o in self.observations}

    def survey(self, host: str) -> Optional[Survey]:
        """The survey of a host, or None."""
        return self._surveys.get(host)

    @cached_property
    def _surveys(self) -> dict[str, Survey]:
        kept, _said = distinct(self.observations)
        return {o.host: o.survey for o in kept if o.survey is not None}

    def config(self, host: str) -> Optional[EtcdConfig]:
        """Etcd's configuration on a host, by its definition in place or else parked, or None."""
        survey = self.survey(host)
        return (survey.config or survey.parked_config) if survey else None

    def definition(self, host: str) -> Optional[Definition]:
        """Where the definition of etcd is on a surveyed host; None where there is none.

        Raises Refused where several different ones are parked and none is in place.
        """
        survey = self.survey(host)
        if survey is None:
            return None
        if survey.config is not None:
            return Definition(survey.config.definition, survey.config.sha256, is_parked=False)
        known = [parked for parked in survey.parked if parked.original and parked.sha256]
        if len({(parked.original, parked.sha256) for parked in known}) > 1:
            raise _ambiguous(host, known)
        return Definition(known[-1].original, known[-1].sha256, is_parked=True) if known else None

    def verdict(self, name: str) -> MemberVerdict:
        """The verdict on a host, by its name, its member's name or ID. Raises Refused for none."""
        members = self.diagnosis.members
        found = self.diagnosis.member(name)
        found = found or next((m for m in members if declares((name,), m)), None)
        if found is None:
            known = ", ".join(m.host for m in members) or "none"
            raise Refused(
                f"no host or member {name!r} in this cluster",
                f"known: {known}",
                "fab survey",
            )
        return found

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """The membership that the diagnosis judged by."""
        return choose(distinct(self.observations)[0]).members

    def member_of(self, host: str) -> Optional[Member]:
        """The member that lives on a host, by the diagnosis' match, or None."""
        verdict = self.diagnosis.member(host)
        if verdict is None or not verdict.id:
            return None
        return next((m for m in self.members if m.id == verdict.id), None)

    def peer_urls(self, host: str) -> tuple[str, ...]:
        """Peer URLs a host's member has or would have. Raises Refused where nothing says them."""
        config, verdict = self.config(host), self.diagnosis.member(host)
        urls = (config.advertise_peer_urls if config else ()) or (
            verdict.peer_urls if verdict else ()
        )
        if not urls:
            raise Refused(
                f"{host}: neither a definition nor the member list says its peer URL",
                "it cannot be added to a cluster without one",
                f"put etcd's definition back on {host}, then run this again",
            )
        return urls

    def all_peer_urls(self, host: str) -> tuple[str, ...]:
        """Peer URLs of the member list and of the definition: all that it may answer on."""
        config, verdict = self.config(host), self.diagnosis.member(host)
        told = [*(verdict.peer_urls if verdict else ())]
        told += config.advertise_peer_urls if config else ()
        return tuple(dict.fromkeys(told))

    def client_urls(self, host: str) -> tuple[str, ...]:
        """Client URLs that other hosts reach a member by; empty where nothing says them."""
        config, member = self.config(host), self.member_of(host)
        return (config.advertise_client_urls if config else ()) or (
            member.client_urls if member else ()
        )

    def name(self, host: str) -> str:
        """The member name on a host: its definition's, else the member list's, else the host's."""
        return self.known_name(host) or host

    def known_name(self, host: str) -> str:
        """The member name that a definition or the member list says, or nothing."""
        config, verdict = self.config(host), self.diagnosis.member(host)
        return (config.name if config else "") or (verdict.name if verdict else "")

    def voters(self) -> list[MemberVerdict]:
        """Verdicts on all voters, ghosts too, in the order of the diagnosis."""
        return [m for m in self.diagnosis.members if m.id and m.voter]

    def serving(self) -> list[str]:
        """Surveyed hosts whose voter is healthy, the leader last: it is disturbed least.

        One that runs without a definition cannot be asked anything: nothing says where it listens.
        """
        healthy = [
            m.host
            for m in self.voters()
            if m.state is MemberState.HEALTHY and m.definition != "missing"
        ]
        leader = self.diagnosis.leader
        return sorted((h for h in healthy if self.survey(h)), key=lambda h: h == leader)

    def revision(self, hosts: Iterable[str]) -> int:
        """The largest revision that any of these hosts has: all of them must serve it later."""
        found = [self.diagnosis.member(host) for host in hosts]
        return max((m.revision for m in found if m), default=0)

    def needs_initial_cluster(self, host: str, wanted: str) -> bool:
        """True unless the definition is known to say the wanted members and `existing` already.

        A script finds its members by itself when it starts, and is never changed.
        """
        config = self.config(host)
        if config is None:
            return True
        if config.scripted:
            return False
        says = sorted(config.initial_cluster)
        return says != pairs(wanted) or config.initial_cluster_state != "existing"

    def is_crash_looping(self, host: str) -> bool:
        """True if the kubelet may hold a back-off for etcd on this host (or nothing is known)."""
        survey = self.survey(host)
        if survey is not None and survey.unit is not None:
            return False  # a unit's start limit is reset by whatever starts it
        if survey is None or survey.runtime is None or not survey.runtime.answers:
            return True
        running = any(c.state == "running" and c.attempt == 0 for c in survey.runtime.containers)
        return not running and bool(survey.runtime.containers)

    def restarts_when_changed(self, host: str) -> bool:
        """True unless a changed definition is known to restart nothing there.

        A unit's does not, nor that of a pod that reads its settings from other files (`files`).
        """
        survey, config = self.survey(host), self.config(host)
        return survey is None or (survey.unit is None and not (config and config.files))

    def is_fenced(self, host: str) -> bool:
        """True if a tombstone stands on a surveyed host."""
        survey = self.survey(host)
        return survey is not None and survey.fence is not None


def _ambiguous(host: str, known: Sequence[Parked]) -> Refused:
    places = ", ".join(parked.path for parked in known)
    return Refused(
        f"{host}: several different definitions of etcd are parked ({places})",
        "which one its etcd is meant to run with cannot be told",
        f"on {host}: move the others out of that directory, then: fab diagnose",
    )


def pairs(initial_cluster: str) -> list[tuple[str, str]]:
    """The name=URL pairs of an --initial-cluster value, sorted."""
    found = [tuple(pair.split("=", 1)) for pair in initial_cluster.split(",") if "=" in pair]
    return sorted((name, url) for name, url in found)


def initial_cluster(cluster: Cluster, hosts: Sequence[str]) -> str:
    """The --initial-cluster value for members on these hosts, in their order."""
    return ",".join(
        f"{cluster.name(host)}={url}" for host in hosts for url in cluster.peer_urls(host)
    )


def sources(cluster: Cluster, hosts: Sequence[str]) -> list[str]:
    """Client URLs of members whose progress a joining one is compared with, the first host first.

    Raises Refused where nothing says the client URL of the first one.
    """
    if not cluster.client_urls(hosts[0]):
        raise Refused(
            f"{hosts[0]}: neither its definition nor the member list says its client URL",
            "a joining member's progress is judged against it",
            f"set --advertise-client-urls in etcd's definition on {hosts[0]}, then: fab diagnose",
        )
    return [url for host in hosts for url in cluster.client_urls(host)]


def port_of(url: str, default: int) -> int:
    """The TCP port of a URL."""
    try:
        return urlsplit(url).port or default
    except ValueError:
        return default


def can_restart_one(serving: int, voters: int) -> bool:
    """True if one of the serving voters may restart with the others holding the quorum."""
    return voters >= 3 and serving - 1 >= quorum(voters)


def asks_peers_first(config: Optional[EtcdConfig]) -> bool:
    """Whether this etcd compares its data with each peer's before it answers anybody.

    A peer that listens and does not answer yet costs it the request's time-out, 7 s: members that
    are started together wait for each other (etcd server/embed/etcd.go: InitialCheck before
    servePeers). The flag is --experimental-initial-corrupt-check until 3.5; 3.6 has a feature gate.
    """
    flags = config.flags if config else {}
    given = flags.get("experimental-initial-corrupt-check", "")
    return given == "true" or "InitialCorruptCheck=true" in flags.get("feature-gates", "")
