"""Verify at a console: this host as the plan promised, and its keys against the others' keys."""

from __future__ import annotations

import time
from collections.abc import Collection

from agent.entry.planning import not_as_promised
from agent.errors import RescueError, StepFailed
from agent.host import Host
from agent.model.facts import Member, Survey
from agent.model.plan import Plan

_SETTLE_SECONDS = 30.0
_HASH_SECONDS = 10.0
_LAG_SECONDS = 5.0
"""How long a member that does not know our revision yet, or does not answer, is asked again."""


def require_kept(host: Host, plan: Plan, name: str, dropped: Collection[str] = ()) -> str:
    """Look until this host is as promised; what was seen, in words.

    dropped: hosts that were given up. The keys here are compared with those of every member that
    can be asked over the network; where one cannot, that is said. Raises StepFailed with what is
    not as promised after 30 s.
    """
    from agent.survey.take import take_survey

    start = time.monotonic()
    while True:
        survey = take_survey(host)
        broken = not_as_promised(plan, name, survey, dropped)
        same, unequal = ([], []) if broken else compare_keys(host, survey)
        passed = time.monotonic() - start
        is_sure = _others(survey) == len(same) or passed > _LAG_SECONDS
        if not broken and not unequal and is_sure:
            return _words(plan, name, survey, same)
        if passed > _SETTLE_SECONDS:
            raise StepFailed(
                f"not as promised: {'; '.join([*broken, *unequal])}",
                "every step was done, and yet the cluster is not as the plan says",
                "rescue-agent diagnose",
            )
        time.sleep(0.5)


def _others(survey: Survey) -> int:
    return len(survey.online.members) - 1 if survey.online else 0


def _words(plan: Plan, name: str, survey: Survey, same: list[str]) -> str:
    online = survey.online
    if name not in plan.promise.voters or online is None:
        return "it is no voter by this plan"
    members = [m for m in online.members if not m.is_learner]
    words = f"serves as one of {len(members)} voters, revision {online.revision}"
    others = _others(survey)
    if not others:
        return words
    if len(same) == others:
        return f"{words}; its keys are the same as on {', '.join(same)}"
    asked = f" (only on {', '.join(same)})" if same else ""
    return f"{words}; its keys were not compared with all others{asked}"


def compare_keys(host: Host, survey: Survey) -> tuple[list[str], list[str]]:
    """(members with the same keys at one revision; what speaks against it, of those that answer).

    Each is asked through its peer port with this member's certificates; one that cannot be reached
    from here is in neither list.
    """
    from agent.etcd.client import peer_hash_kv
    from agent.etcd.transport import real_files
    from agent.survey.online import local_peer_urls

    config, online = survey.config, survey.online
    if config is None or online is None or not online.linearizable:
        return [], []
    files, revision = real_files(host, config.peer_tls), online.revision
    try:
        own = peer_hash_kv(local_peer_urls(config)[0], files, revision, _HASH_SECONDS)
    except RescueError as error:
        return [], [f"this member told no hash: {error.seen}"]
    same, unequal = [], []
    for member in (m for m in online.members if m.id != online.member_id):
        try:
            its = peer_hash_kv(_url(member), files, revision, _HASH_SECONDS)
        except RescueError:
            continue
        if its.compact_revision != own.compact_revision:
            unequal.append(f"{member.name} has compacted what this one has not, or the reverse")
        elif its.hash != own.hash:
            unequal.append(f"the keys of {member.name} differ at revision {revision}")
        else:
            same.append(member.name)
    return same, unequal


def _url(member: Member) -> str:
    return member.peer_urls[0] if member.peer_urls else ""
