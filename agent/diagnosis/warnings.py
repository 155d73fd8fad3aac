"""What an operator should know whatever the verdict: versions, alarms, leftovers, thin margins."""

from __future__ import annotations

import re
from collections.abc import Sequence

from agent.diagnosis import signs
from agent.diagnosis.matching import cloned
from agent.diagnosis.quorum import tolerance
from agent.diagnosis.state import alarms
from agent.diagnosis.witness import Witness, differing, surveys
from agent.model.facts import EtcdConfig, Observation, Survey
from agent.model.verdict import MemberState, MemberVerdict

_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")


def warnings(
    observations: Sequence[Observation], members: Sequence[MemberVerdict], witness: Witness
) -> tuple[str, ...]:
    """All warnings, in a fixed order."""
    found = differing(observations, witness) + cloned(observations)
    for host, survey in surveys(observations):
        found += [f"{host}: {text}" for text in _of_host(survey)]
    found += _open_plans(observations)
    found += _stale_flags(observations, witness)
    full = alarms(observations, witness, "NOSPACE")
    if full:
        found.append(
            f"alarm NOSPACE on {', '.join(full)}: writes are refused until space is made and the "
            "alarm is taken back: fab clear-alarm"
        )
    return tuple(found + _margins(members) + _strangers(members, witness))


def _of_host(survey: Survey) -> list[str]:
    found = []
    version = data_bug_version(survey)
    if version:
        found.append(
            f"etcd {version} may corrupt data (3.5.0 to 3.5.2 lose consistency after a crash): "
            "upgrade to 3.5.26 or later"
        )
    found += [
        f"etcd {defect.version}: {defect.summary} (fixed in {defect.fixed}): {defect.meaning}"
        for defect in survey.defects
        if defect.key != "data-inconsistency"  # told above
    ]
    if survey.config is not None and survey.config.force_new_cluster:
        found.append(
            f"force-new-cluster is set in {survey.config.definition}: the next start drops all "
            "other members; take it out"
        )
    if survey.fence is not None and signs.runs(survey):
        found.append(f"etcd runs although plan {survey.fence.plan[:12]} fenced this host")
    found += [f"{stray.path} in the watched directory: {stray.problem}" for stray in survey.strays]
    found += [
        f"certificate {certificate.path}: {problem}"
        for certificate in survey.certificates
        for problem in certificate.problems
    ]
    if survey.disk is not None and survey.disk.read_only:
        found.append(f"{survey.disk.data_real} is mounted read-only")
    return found


def data_bug_version(survey: Survey) -> str:
    """The etcd version of a host if it is one with the data inconsistency bug, or nothing."""
    told = [survey.online.version] if signs.answers(survey) and survey.online else []
    if survey.config is not None:
        told.append(survey.config.image.rpartition(":")[2])
    if not any(told):
        told = [binary.version for binary in survey.binaries]
    for text in told:
        match = _VERSION.search(text)
        if match:
            version = tuple(int(part) for part in match.groups())
            return match.group(0) if (3, 5, 0) <= version <= (3, 5, 2) else ""
    return ""


def _open_plans(observations: Sequence[Observation]) -> list[str]:
    plans: dict[tuple[str, str], list[str]] = {}
    for host, survey in surveys(observations):
        for journal in survey.journals:
            if journal.state in ("open", "damaged"):
                plans.setdefault((journal.plan, journal.recipe), []).append(host)
    return [
        f"plan {plan[:12]} ({recipe}) is not finished on {', '.join(hosts)}: fab resume"
        for (plan, recipe), hosts in sorted(plans.items())
    ]


def _stale_flags(observations: Sequence[Observation], witness: Witness) -> list[str]:
    """Hosts whose --initial-cluster is not the membership: an empty start would go wrong there."""
    now = {(m.name, url) for m in witness.members if not m.is_learner for url in m.peer_urls}
    wrong = [
        host
        for host, survey in surveys(observations)
        if survey.config is not None and now and _is_stale(survey.config, now)
    ]
    if not wrong:
        return []
    return [
        f"initial-cluster in the definition on {', '.join(wrong)} is not the membership of now: "
        "harmless with data, wrong for a start with an empty data directory"
    ]


def _is_stale(config: EtcdConfig, now: set[tuple[str, str]]) -> bool:
    return bool(config.initial_cluster) and set(config.initial_cluster) != now


def _margins(members: Sequence[MemberVerdict]) -> list[str]:
    voters = [m for m in members if m.id and m.voter]
    found = []
    if len(voters) > 1 and len(voters) % 2 == 0:
        found.append(
            f"{len(voters)} voters: an even number tolerates no more failures than one voter less"
        )
    serving = sum(m.serves for m in voters)
    spare = tolerance(len(voters)) - (len(voters) - serving)
    if serving and spare <= 0:
        found.append(
            f"failure tolerance 0: {serving} of {len(voters)} voters serve; one more failure stops "
            "the cluster"
        )
    if len(voters) == 1 and len(members) == 1:
        found.append("one member, and nothing names another: if there are others, give -H OTHER")
    return found


def _strangers(members: Sequence[MemberVerdict], witness: Witness) -> list[str]:
    found = []
    for member in members:
        if member.id or not witness.members:
            continue
        if member.runs and member.state is not MemberState.UNREACHABLE:
            found.append(f"{member.host}: an etcd runs there that is no member")
        elif member.state is MemberState.UNREACHABLE:
            found.append(f"{member.host}: no member, and not reachable")
    return found
