"""Stages that several recipes share: bring a host back as a learner, and tidy the manifests."""

from __future__ import annotations

from collections.abc import Sequence

from agent.errors import Refused
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
    urls, name = cluster.peer_urls(host), cluster.name(host)
    step = builder.step
    steps = [
        step(
            host,
            "fence",
            "no etcd may run here before it has a new identity",
            reason=f"{name} waits to rejoin as a new member",
        ),
    ]
    if cluster.survey(host) is None:
        why = "it was off when the plan was made: looked at before its old data leaves its place"
        size = incoming(cluster, members)
        steps.append(step(host, "preflight", why, copies=False, incoming=size))
    steps += [
        step(host, "relocate_data", "its old data carries the old identity; kept in quarantine"),
        step(
            acting, "member_add_learner", "a learner has no vote: the quorum cannot suffer",
            name=name, peer_urls=urls,
        ),
        step(
            host, "prejoin", "it catches up by itself, so no back-off is in the way",
            sources=sources(cluster, members),
        ),
        step(host, "install_data", "with an identity in its data the --initial-* flags are void"),
    ]  # fmt: skip
    if cluster.is_crash_looping(host):
        steps.append(
            step(host, "restart_kubelet", "its back-off would delay the start by up to 5 min")
        )
    steps += [
        step(host, "unpark_definition", "unchanged, so it is started at once"),
        step(host, "wait_serving", "promoted before it runs, it would cost the quorum",
             learner=True),
        step(acting, "member_promote", "it is in step", name=name, peer_urls=urls),
        step(host, "wait_serving", "a voter that serves is the proof"),
        step(host, "lift_fence", "it is a member again"),
    ]  # fmt: skip
    builder.stage(f"Rejoin {host}", steps, waits_for=[host])


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
