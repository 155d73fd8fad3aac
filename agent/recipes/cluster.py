"""What recipes need to know of a cluster: who serves, who is where, what the surveys said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional
from urllib.parse import urlsplit

from agent.errors import Refused
from agent.model.facts import EtcdConfig, Member, Observation, Survey
from agent.model.verdict import Diagnosis, MemberState, MemberVerdict

PEER_PORT = 2380
CLIENT_PORT = 2379


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
        return next((o.survey for o in self.observations if o.host == host), None)

    def config(self, host: str) -> Optional[EtcdConfig]:
        """Etcd's configuration on a host, or None."""
        survey = self.survey(host)
        return survey.config if survey else None

    def verdict(self, host: str) -> MemberVerdict:
        """The verdict on a host. Raises Refused for a host that was not looked at."""
        found = self.diagnosis.member(host)
        if found is None:
            known = ", ".join(m.host for m in self.diagnosis.members if m.host)
            raise Refused(f"no host {host!r} in this cluster", f"known: {known}", "fab survey")
        return found

    def reachable(self) -> list[str]:
        """Hosts with a survey, in the order observed."""
        return [o.host for o in self.observations if o.survey is not None]

    def members(self) -> tuple[Member, ...]:
        """The membership judged by: of a member with quorum, else of the best survivor."""
        surveys = [o.survey for o in self.observations if o.survey]
        for survey in surveys:
            if survey.online and survey.online.linearizable and survey.online.members:
                return survey.online.members
        target = self.survey(self.diagnosis.target)
        if target and target.offline and target.offline.db:
            return target.offline.db.members
        return ()

    def member_of(self, host: str) -> Optional[Member]:
        """The member that lives on a host, by the diagnosis' match, or None."""
        verdict = self.diagnosis.member(host)
        if verdict is None or not verdict.id:
            return None
        return next((m for m in self.members() if m.id == verdict.id), None)

    def peer_urls(self, host: str) -> tuple[str, ...]:
        """Peer URLs a host's member has or would have. Raises Refused where nothing says them."""
        config, member = self.config(host), self.member_of(host)
        if config and config.advertise_peer_urls:
            return config.advertise_peer_urls
        if member:
            return member.peer_urls
        raise Refused(
            f"{host}: neither a definition nor the member list says its peer URL",
            "it cannot be added to a cluster without one",
            f"put etcd's definition back on {host}, then run this again",
        )

    def name(self, host: str) -> str:
        """The member name on a host: its definition's, else the member list's, else the host's."""
        config, member = self.config(host), self.member_of(host)
        return (config.name if config else "") or (member.name if member else "") or host

    def serving(self) -> list[str]:
        """Hosts whose member is healthy, the leader last (so that it is disturbed least)."""
        healthy = [m.host for m in self.diagnosis.members if m.state is MemberState.HEALTHY]
        leader = self.diagnosis.leader
        return sorted((h for h in healthy if h), key=lambda h: h == leader)

    def needs_initial_cluster(self, host: str, wanted: str) -> bool:
        """True unless the definition is known to say the wanted members and `existing` already."""
        config = self.config(host)
        if config is None:
            return True
        says = sorted(config.initial_cluster)
        return says != pairs(wanted) or config.initial_cluster_state != "existing"

    def is_crash_looping(self, host: str) -> bool:
        """True if the kubelet may hold a back-off for etcd on this host (or nothing is known)."""
        survey = self.survey(host)
        if survey is None or survey.runtime is None or not survey.runtime.answers:
            return True
        running = any(c.state == "running" and c.attempt == 0 for c in survey.runtime.containers)
        return not running and bool(survey.runtime.containers)


def pairs(initial_cluster: str) -> list[tuple[str, str]]:
    """The name=URL pairs of an --initial-cluster value, sorted."""
    found = [tuple(pair.split("=", 1)) for pair in initial_cluster.split(",") if "=" in pair]
    return sorted((name, url) for name, url in found)


def initial_cluster(cluster: Cluster, hosts: Sequence[str]) -> str:
    """The --initial-cluster value for members on these hosts, in their order."""
    return ",".join(
        f"{cluster.name(host)}={url}" for host in hosts for url in cluster.peer_urls(host)
    )


def client_urls(cluster: Cluster, host: str) -> tuple[str, ...]:
    """Client URLs that other hosts reach a member by. Raises Refused where nothing says them."""
    config, member = cluster.config(host), cluster.member_of(host)
    urls = (config.advertise_client_urls if config else ()) or (
        member.client_urls if member else ()
    )
    if not urls:
        raise Refused(
            f"{host}: neither its definition nor the member list says its client URL",
            "a joining member's progress is judged against it",
            "fab survey",
        )
    return urls


def port_of(url: str, default: int) -> int:
    """The TCP port of a URL."""
    return urlsplit(url).port or default
