"""Certificates of etcd that will not do are made anew, with the CA of the cluster.

etcd reads its certificates and keys from the disk with every handshake, but the CA file only when
it starts (etcd client/pkg/transport, TLSInfo). So a member that runs goes on as it is, with the new
ones; it is restarted only for a new CA, or where it does not run for want of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.diagnosis.certificates import LEAVES, renewable, renewal
from agent.errors import Refused
from agent.model.facts import Certificate
from agent.model.plan import Plan, Promise, Step
from agent.model.verdict import (
    CertificateVerdict,
    ClusterState,
    MemberState,
    MemberVerdict,
)
from agent.recipes.builder import PlanBuilder
from agent.recipes.cluster import Cluster, Definition
from agent.recipes.restart_member import start

Chosen = Sequence[tuple[MemberVerdict, CertificateVerdict]]

_DOWN = (MemberState.CRASH_LOOPING, MemberState.STOPPED)


def renew_certificates(
    cluster: Cluster, hosts: Sequence[str], created: float, everything: bool = False
) -> Plan:
    """Plan new certificates for these hosts; without a quorum for all that are down for theirs.

    everything: all leaves, also those that will do. Raises Refused where they cannot be made, or
    where nothing is to be made, or where that gives no quorum.
    """
    verdicts = [cluster.verdict(host) for host in hosts]
    if not _serves(cluster):
        verdicts = _together(cluster, verdicts)
    chosen = [(v, _required(cluster, v, everything)) for v in verdicts]
    names = " and ".join(v.host for v, _ in chosen)
    summary = f"new certificates for {names}: {chosen[0][1].why}"
    builder = PlanBuilder("renew-certificates", summary, cluster.addresses)
    for verdict, found in chosen:
        builder.stage(
            f"Bring the CA of etcd to {verdict.host}",
            bring_authority(builder, cluster, verdict.host, found),
        )
    issued = [s for v, found in chosen for s in issue(builder, v.host, found)]
    builder.stage(f"Make certificates anew on {names}", issued, parallel=len(chosen) > 1)
    members = [v for v, _ in chosen if _comes(v)]
    if _serves(cluster):
        _one_by_one(builder, cluster, chosen)
    else:
        _all_at_once(builder, cluster, chosen)
    voters = sorted({*cluster.serving(), *(v.host for v in members)})
    promise = Promise(tuple(voters), cluster.diagnosis.cluster_id, cluster.revision(voters))
    return builder.build(created, promise)


def _one_by_one(builder: PlanBuilder, cluster: Cluster, chosen: Chosen) -> None:
    """The quorum holds, and goes on holding: the next host only after this one serves."""
    for verdict, found in chosen:
        if _comes(verdict):
            steps = _start(builder, cluster, verdict, found)
            title = f"Start etcd on {verdict.host}" if steps else f"See that {verdict.host} serves"
            builder.stage(title, [*steps, _proof(builder, verdict.host)])


def _all_at_once(builder: PlanBuilder, cluster: Cluster, chosen: Chosen) -> None:
    """There is no quorum: one alone would wait for the others in vain."""
    starts = [s for v, found in chosen for s in _start(builder, cluster, v, found)]
    parallel = len({s.host for s in starts}) > 1
    builder.stage("Start etcd with them", starts, parallel=parallel)
    waits = [_proof(builder, v.host) for v, _ in chosen if _comes(v)]
    builder.stage("See that they serve", waits, parallel=len(waits) > 1)


def _proof(builder: PlanBuilder, host: str) -> Step:
    return builder.step(host, "wait_serving", "a member that serves is the proof")


def bring_authority(
    builder: PlanBuilder, cluster: Cluster, host: str, found: CertificateVerdict
) -> list[Step]:
    """Steps that bring the CA from the host that lends it; none where it is here."""
    if not found.lender:
        return []
    fingerprint = _lent(cluster, found)
    return [
        builder.step(
            found.lender, "check_authority", f"{host} has no CA to issue with; this one is lent",
            fingerprint=fingerprint,
        ),
        builder.step(
            host, "install_authority", "through this machine's memory, over verified SSH only",
            source=found.lender, fingerprint=fingerprint,
        ),
    ]  # fmt: skip


def _lent(cluster: Cluster, found: CertificateVerdict) -> str:
    """Fingerprint of the CA that is lent."""
    there = _certificates(cluster, found.lender)
    return next((c.fingerprint for c in there if c.key == "present"), "")


def _certificates(cluster: Cluster, host: str) -> tuple[Certificate, ...]:
    survey = cluster.survey(host)
    return survey.certificates if survey else ()


def issue(builder: PlanBuilder, host: str, found: CertificateVerdict) -> list[Step]:
    """The step that issues what a host needs; none where only its CA was missing."""
    if not found.roles:
        return []
    return [builder.step(host, "issue_certificates", found.why, roles=found.roles)]


def _serves(cluster: Cluster) -> bool:
    return cluster.diagnosis.state in (ClusterState.HEALTHY, ClusterState.DEGRADED)


def _together(cluster: Cluster, verdicts: Sequence[MemberVerdict]) -> list[MemberVerdict]:
    """All voters that wait for certificates: one alone would wait for the others in vain."""
    diagnosis = cluster.diagnosis
    everyone = renewable(diagnosis)
    for verdict in verdicts:
        if verdict not in everyone and not (verdict.certificates and verdict.certificates.refusal):
            raise Refused(
                f"{verdict.host}: {verdict.why}; {diagnosis.why}",
                "something beside its certificates keeps it from serving",
                "fab diagnose",
            )
    running = {m.host for m in cluster.voters() if m.runs} | {m.host for m in everyone}
    if len(running) < diagnosis.quorum:
        raise Refused(
            f"with new certificates {len(running)} of {diagnosis.voters} voters would run; "
            f"{diagnosis.quorum} are needed",
            "they would wait for a quorum that does not come",
            "fab diagnose",
        )
    return [*everyone, *(v for v in verdicts if v not in everyone)]


def _required(cluster: Cluster, verdict: MemberVerdict, everything: bool) -> CertificateVerdict:
    """What to make on a host. Raises Refused where it cannot be made, or nothing is to be."""
    found = verdict.certificates
    survey = cluster.survey(verdict.host)
    if survey is None:
        raise Refused(
            f"{verdict.host}: {verdict.why}",
            "certificates are made on the host itself",
            f"make it reachable, then: fab renew-certificates {verdict.host}",
        )
    if everything:
        there = {c.role for c in survey.certificates}
        roles = tuple(role for role in LEAVES if role in there)
        why = found.why if found else "asked for"
        found = renewal(survey, verdict.host, cluster.observations, roles, why)
    if found is None or not (found.roles or found.lender):
        raise Refused(
            f"{verdict.host}: no certificate of etcd that would have to be made anew",
            "none was found that is missing, has ended, or will not do",
            f"to make them anew all the same: fab renew-certificates {verdict.host}",
        )
    if found.refusal is not None:
        raise Refused(found.refusal.seen, found.refusal.why, found.refusal.next)
    return found


def _start(
    builder: PlanBuilder, cluster: Cluster, verdict: MemberVerdict, found: CertificateVerdict
) -> list[Step]:
    """Start what does not run; restart what runs with an old CA; leave everything else alone."""
    definition = cluster.definition(verdict.host)
    if definition is None or not _comes(verdict):
        return []
    if verdict.state in _DOWN:
        return start(builder, cluster, verdict.host, definition)
    if verdict.runs and _gets_another_ca(cluster, verdict.host, found):
        _require_quorum_without(cluster, verdict)
        return _restart(builder, verdict.host, definition)
    return []


def _comes(verdict: MemberVerdict) -> bool:
    """True if it serves with new certificates; one to be replaced gets them all the same."""
    is_startable = verdict.state in _DOWN and verdict.usable and verdict.definition != "missing"
    return bool(verdict.id) and verdict.voter and (verdict.runs or is_startable)


def _gets_another_ca(cluster: Cluster, host: str, found: CertificateVerdict) -> bool:
    """True if the CA that is brought is another than the one that etcd there was started with."""
    own = [c.fingerprint for c in _certificates(cluster, host) if c.role == "ca"]
    return bool(found.lender) and _lent(cluster, found) not in own


def _require_quorum_without(cluster: Cluster, verdict: MemberVerdict) -> None:
    diagnosis = cluster.diagnosis
    if verdict.serves and diagnosis.serving - 1 < diagnosis.quorum and diagnosis.voters > 1:
        raise Refused(
            f"{verdict.host}: a new CA needs a restart of etcd, and then {diagnosis.serving - 1} "
            f"of {diagnosis.voters} voters would serve",
            "the restart would cost the cluster its quorum",
            "bring another member back first: fab diagnose",
        )


def _restart(builder: PlanBuilder, host: str, definition: Definition) -> list[Step]:
    file = {"path": definition.path, "sha256": definition.sha256}
    why = "etcd reads its CA file only when it starts"
    return [
        builder.step(host, "park_definition", why, **file),
        builder.step(host, "stop_etcd", "the new one must find nothing of the old"),
        builder.step(host, "unpark_definition", "unchanged, so it is started at once",
                     **file),
    ]  # fmt: skip
