"""Which certificates of a host will not do, and whether they can be made anew, and with whose CA.

Only what the files say counts here: a log line tells which handshake failed, not which of the two
sides was wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Optional

from agent.diagnosis import clocks
from agent.model.facts import Certificate, Observation, Survey
from agent.model.verdict import (
    CertificateVerdict,
    ClusterState,
    Diagnosis,
    MemberVerdict,
    Refusal,
)

RENEW = "renew-certificates"

LEAVES = ("server", "peer", "client", "apiserver-client")
"""Roles that are issued anew; the phases of kubeadm that make them are etcd-server, etcd-peer,
etcd-healthcheck-client and apiserver-etcd-client."""

_AHEAD = "not valid before"
_WITHOUT_CA = "cannot be verified: CA file"
_ELSEWHERE = "; its key belongs to "
_BY_HAND = "docs/certificates.md says how to go on by hand"


def is_bad(certificate: Certificate) -> bool:
    """True if it will not do now; one that merely ends soon still does."""
    return any(not problem.startswith("warning: ") for problem in certificate.problems)


def with_certificates(
    members: Sequence[MemberVerdict], observations: Sequence[Observation]
) -> tuple[MemberVerdict, ...]:
    """The same verdicts, each with what is wrong with the certificates of its host."""
    found = {o.host: o.survey for o in observations if o.survey is not None}
    return tuple(
        replace(m, certificates=judge(found[m.host], m.host, observations))
        if m.host in found
        else m
        for m in members
    )


def judge(
    survey: Survey, host: str, observations: Sequence[Observation]
) -> Optional[CertificateVerdict]:
    """What is wrong with a host's certificates; None where all will do."""
    bad_leaves = [c for c in survey.certificates if c.role in LEAVES and is_bad(c)]
    # Nothing can be said of them without the CA; they are judged again once it is back.
    leaves = [c for c in bad_leaves if not _first(c).startswith(_WITHOUT_CA)]
    authority = _authority(survey)
    if not leaves and not (authority is not None and authority.problems == ("missing",)):
        return None
    bad = leaves[0] if leaves else authority
    assert bad is not None  # noqa: S101
    why = f"{bad.path}: {_first(bad)}"
    return renewal(survey, host, observations, tuple(c.role for c in leaves), why)


def renewal(
    survey: Survey,
    host: str,
    observations: Sequence[Observation],
    roles: tuple[str, ...],
    why: str,
) -> CertificateVerdict:
    """Whether these certificates of a host can be issued, and by whose CA; else the refusal."""
    plain = CertificateVerdict(roles, why)
    authority = _authority(survey)
    if authority is None:
        return _refused(
            plain, host, "the CA that they come from is at no place that kubeadm, kubespray or the "
            "usual guides put it",
            f"make the file anew as it was made, then: fab diagnose ({_BY_HAND})",
        )  # fmt: skip
    if _ELSEWHERE in why:
        return _refused(
            plain, host, "the definition names a file that is not there, beside a key whose "
            "certificate has another name: the path is wrong, not the certificate",
            f"put the right path into {survey.config.definition if survey.config else ''}, then: "
            f"fab rescue-node {host}",
        )  # fmt: skip
    ahead = [c for c in survey.certificates if any(p.startswith(_AHEAD) for p in c.problems)]
    skew = clocks.beyond(observations, host)
    if skew or ahead:
        seen = skew or f"{ahead[0].path}: {_first(ahead[0])}"
        return _refused(
            replace(plain, why=seen if skew else plain.why), host,
            "certificates are judged, and made, by that clock",
            f"set the clock of {host} (chronyc tracking, timedatectl), then: fab rescue-node "
            f"{host}",
        )  # fmt: skip
    return _with_authority(plain, survey, host, authority, observations)


def _with_authority(
    plain: CertificateVerdict,
    survey: Survey,
    host: str,
    authority: Certificate,
    observations: Sequence[Observation],
) -> CertificateVerdict:
    """Say which host's CA issues: its own, where that is the one of the others; else another's."""
    others = [(h, a) for h, a in _usable(observations) if h != host]
    common = _common(observations)
    is_own = not common or authority.fingerprint == common
    if authority.key == "present" and is_own and not is_bad(authority):
        return plain
    lenders = [h for h, a in others if not common or a.fingerprint == common]
    if lenders:
        return replace(plain, lender=lenders[0])
    if any("expired" in problem for problem in authority.problems):
        return _refused(
            plain, host, f"the CA itself has ended: {authority.path}: {_first(authority)}",
            f"a new CA has to go to every host and client at once: {_BY_HAND}",
        )  # fmt: skip
    return _refused(
        plain, host, f"no host that could be surveyed has the key of the CA {authority.path}",
        f"put ca.crt and ca.key of etcd back on one host, from a backup, then: fab rescue-node "
        f"{host}",
    )  # fmt: skip


def _refused(plain: CertificateVerdict, host: str, why: str, next: str) -> CertificateVerdict:
    refusal = Refusal(RENEW, f"{host}: {plain.why}", why, next)
    return replace(plain, refusal=refusal)


def _authority(survey: Survey) -> Optional[Certificate]:
    """The CA of etcd on a host whose kind of installation is known, a missing one too."""
    return next((c for c in survey.certificates if c.role == "ca" and c.key), None)


def _usable(observations: Sequence[Observation]) -> list[tuple[str, Certificate]]:
    """(host, CA) of every host that can issue, sorted by host."""
    found = []
    for observation in sorted(observations, key=lambda o: o.host):
        authority = _authority(observation.survey) if observation.survey else None
        if authority is None or authority.key != "present" or is_bad(authority):
            continue
        if not clocks.beyond(observations, observation.host):
            found.append((observation.host, authority))
    return found


def _common(observations: Sequence[Observation]) -> str:
    """Fingerprint of the CA that most hosts trust; empty where two are trusted by as many."""
    counts: dict[str, int] = {}
    for observation in observations:
        authority = _authority(observation.survey) if observation.survey else None
        if authority is not None and authority.fingerprint:
            counts[authority.fingerprint] = counts.get(authority.fingerprint, 0) + 1
    most = max(counts.values(), default=0)
    best = [fingerprint for fingerprint, count in counts.items() if count == most]
    return best[0] if len(best) == 1 else ""


def _first(certificate: Certificate) -> str:
    hard = [p for p in certificate.problems if not p.startswith("warning: ")]
    return (hard or list(certificate.problems) or ["to be made anew"])[0]


def wait_for_certificates(diagnosis: Diagnosis) -> tuple[MemberVerdict, ...]:
    """Voters that only wait for new certificates, where these give the quorum back; else none."""
    if diagnosis.state not in (ClusterState.QUORUM_LOST, ClusterState.UNKNOWN):
        return ()
    found = renewable(diagnosis)
    running = {m.host for m in diagnosis.members if m.id and m.voter and m.runs}
    if len(running | {m.host for m in found}) < diagnosis.quorum:
        return ()
    return found


def renewable(diagnosis: Diagnosis) -> tuple[MemberVerdict, ...]:
    """Voters that only need new certificates, and can have them."""
    return tuple(m for m in diagnosis.members if _is_renewable(m))


def _is_renewable(member: MemberVerdict) -> bool:
    found = member.certificates
    if found is None or found.refusal is not None or not (member.id and member.voter):
        return False
    if member.cause is not None and member.cause.kind != "certificate":
        return False
    is_defined = member.definition in ("in-place", "parked")
    return (member.runs or member.usable) and is_defined and not member.open_plan
