"""Stages that several recipes share: bring a host back as a learner, and tidy the manifests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agent.errors import Refused
from agent.model.plan import Step
from agent.recipes.builder import PlanBuilder
from agent.recipes.cluster import Cluster, can_restart_one, initial_cluster, sources


def why_not_rejoin(cluster: Cluster, host: str) -> str:
    """Why a host cannot become a member again, in words; empty where it can.

    A host without a survey is asked when it is back: its fence and its preparation look then.
    """
    try:
        urls = cluster.peer_urls(host)
        is_defined = cluster.survey(host) is None or cluster.definition(host) is not None
    except Refused as refused:
        return refused.seen
    if not is_defined:
        return "there is no etcd definition on it, in place or parked"
    return "" if urls else "its peer URL is not known"


def incoming(cluster: Cluster, hosts: Sequence[str]) -> int:
    """Bytes of the database that a new member fetches: the largest that these hosts tell of."""
    sizes = [0]
    for survey in (cluster.survey(host) for host in hosts):
        if survey and survey.online:
            sizes.append(survey.online.db_size)
        if survey and survey.offline and survey.offline.db:
            sizes.append(survey.offline.db.size)
    return max(sizes)


def rejoin(
    builder: PlanBuilder, cluster: Cluster, host: str, members: Sequence[str], acting: str
) -> None:
    """Add the stage that makes a fenced or broken host a member again, with a new identity.

    members: hosts that serve by then, without `host`, the acting one first. acting: the one asked
    to add it. Hosts that join before it may have been put off, so the membership it joins is read
    when it joins; only whom to ask stands here.
    """
    steps = [
        *_cleared(builder, cluster, host, members),
        *_joined(builder, cluster, host, members, acting),
        *_started(builder, cluster, host, acting),
    ]
    builder.stage(f"Rejoin {host}", steps, waits_for=[host])


def _cleared(
    builder: PlanBuilder, cluster: Cluster, host: str, members: Sequence[str]
) -> Iterator[Step]:
    """Its old etcd cannot run, and its old data is out of the way."""
    reason = f"{cluster.name(host)} waits to rejoin as a new member"
    why = "no etcd may run here before it has a new identity"
    yield builder.step(host, "fence", why, reason=reason)
    if cluster.survey(host) is None:
        why = "it was off when the plan was made: looked at before its old data leaves its place"
        size = incoming(cluster, members)
        yield builder.step(host, "preflight", why, copies=False, incoming=size)
    why = "its old data carries the old identity; kept in quarantine"
    yield builder.step(host, "relocate_data", why)


def _joined(
    builder: PlanBuilder, cluster: Cluster, host: str, members: Sequence[str], acting: str
) -> Iterator[Step]:
    """It has a new identity, and all data, before anything starts its definition."""
    urls, name = cluster.peer_urls(host), cluster.name(host)
    why = "a learner has no vote: the quorum cannot suffer"
    yield builder.step(acting, "member_add_learner", why, name=name, peer_urls=urls)
    why = "it catches up by itself, so no back-off is in the way"
    yield builder.step(host, "prejoin", why, sources=sources(cluster, members))
    why = "with an identity in its data the --initial-* flags are void"
    yield builder.step(host, "install_data", why)


def _started(builder: PlanBuilder, cluster: Cluster, host: str, acting: str) -> Iterator[Step]:
    """Its unchanged definition runs it, and then it votes."""
    urls, name = cluster.peer_urls(host), cluster.name(host)
    if cluster.is_crash_looping(host):
        why = "its back-off would delay the start by up to 5 min"
        yield builder.step(host, "restart_kubelet", why)
    yield builder.step(host, "unpark_definition", "unchanged, so it is started at once")
    why = "promoted before it runs, it would cost the quorum"
    yield builder.step(host, "wait_serving", why, learner=True)
    yield builder.step(acting, "member_promote", "it is in step", name=name, peer_urls=urls)
    yield builder.step(host, "wait_serving", "a voter that serves is the proof")
    yield builder.step(host, "lift_fence", "it is a member again")


def tidy_manifests(
    builder: PlanBuilder, cluster: Cluster, voters: Sequence[str], serving: Sequence[str]
) -> None:
    """Add one stage per host whose --initial-cluster would be wrong for a later empty start.

    voters: hosts of all voters at the end, in the flag's order; serving: those that serve by then.
    A changed manifest restarts its pod, so: one host at a time, last of all, with every member
    there, and only where the others hold the quorum meanwhile (the step looks again, and else
    leaves it).
    """
    named = all(cluster.known_name(host) for host in voters)
    if not named:
        return
    may_restart = can_restart_one(len(serving), len(voters))
    wanted = initial_cluster(cluster, voters)
    for host in serving:
        is_known = host not in cluster.serving() or cluster.verdict(host).definition == "in-place"
        if cluster.restarts_when_changed(host) and not may_restart:
            continue
        if not is_known or not cluster.needs_initial_cluster(host, wanted):
            continue
        steps = [
            builder.step(
                host, "set_initial_cluster",
                "an empty member started with the old value would found a cluster of its own",
                members=wanted, state="existing",
            ),
            builder.step(host, "wait_serving", "the next host only after this one serves"),
        ]  # fmt: skip
        builder.stage(f"Bring {host}'s --initial-cluster up to date", steps, waits_for=serving)
