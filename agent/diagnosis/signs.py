"""Signs: what one host's survey shows by itself, as predicates and picks."""

from __future__ import annotations

from typing import Optional
from urllib.parse import urlsplit

from agent.model.facts import Cause, Container, Damage, Observation, Survey

ETCD_PORTS = (2379, 2380)

# What keeps etcd from running while its data is fine: replacing the member would change nothing.
FIXABLE = frozenset(
    {"config", "certificate", "disk", "permission", "resource", "network", "clock", "image"}
)

ATTEMPT_SECONDS = 5.0
"""An etcd that cannot start has ended by then, on a slow disk too."""

_LOOKED = "the files on the host"

# The most telling kind first; kinds that are not named here come last.
_TELLING = ("data", "removed", "certificate", "config", "permission", "disk", "resource", "clock")


def runs(survey: Survey) -> bool:
    """An etcd of the node's own (no scratch etcd) runs now.

    Where a script starts it (OpenShift 4), a container that runs may only wait: for ports to become
    free, for the operator to add its member. There the process alone counts.
    """
    if any(not process.scratch for process in survey.processes) or answers(survey):
        return True
    config = survey.config or survey.parked_config
    if config is not None and config.scripted:
        return False
    runtime = survey.runtime
    return runtime is not None and any(c.state == "running" for c in runtime.containers)


def answers(survey: Survey) -> bool:
    """True if etcd answers its status."""
    return survey.online is not None and survey.online.answers


def serves(survey: Survey) -> bool:
    """True if etcd answered a read through the quorum."""
    return survey.online is not None and survey.online.answers and survey.online.linearizable


def newest(survey: Survey) -> Optional[Container]:
    """The etcd container that was made last."""
    containers = survey.runtime.containers if survey.runtime else ()
    return max(containers, key=lambda c: (c.created, c.attempt, c.id), default=None)


def started(survey: Survey) -> float:
    """When the etcd that runs now was started; 0 where none does or nobody knows."""
    times = [process.started for process in survey.processes if not process.scratch]
    if not times and survey.runtime:
        times = [c.created for c in survey.runtime.containers if c.state == "running"]
    return max(times, default=0.0)


def causes(survey: Survey) -> tuple[Cause, ...]:
    """Causes that still count, the most telling first.

    "No quorum" is no cause of its own. What was logged before the running etcd started is past.
    """
    since = started(survey) if runs(survey) else 0.0
    fresh = [
        cause for cause in survey.causes if cause.kind != "quorum" and not (0 < cause.time < since)
    ]
    if survey.unit is not None and survey.unit.active == "inactive":
        # Ended in good order: what it said of peers and streams on its way out keeps nothing down.
        fresh = [cause for cause in fresh if cause.kind in ("data", "removed")]
    own = (*_kubelet_cause(survey), *_certificate_causes(survey))
    return tuple(sorted((*fresh, *own), key=_telling))


def _telling(cause: Cause) -> tuple[int, bool, float, str, str]:
    rank = _TELLING.index(cause.kind) if cause.kind in _TELLING else len(_TELLING)
    return rank, cause.source != _LOOKED, -cause.time, cause.key, cause.evidence


def _certificate_causes(survey: Survey) -> tuple[Cause, ...]:
    """Certificates that will not do, as the files say: surer than the refusals that a log tells."""
    if serves(survey):
        return ()
    asked_with = survey.config.client_tls.cert if survey.config else ""
    return tuple(
        Cause(
            key="certificate-bad",
            kind="certificate",
            summary=f"{certificate.path}: {problem}",
            remedy=f"make {certificate.path} anew: fab rescue-node HOST does it where the CA's key "
            "is on a host (kubeadm init phase certs; docs/certificates.md)",
            evidence=f"{certificate.path}: {problem}",
            source=_LOOKED,
        )
        for certificate in survey.certificates
        for problem in certificate.problems
        if (certificate.role in ("server", "peer") or certificate.path == asked_with)
        and not problem.startswith("warning: ")
    )


def _kubelet_cause(survey: Survey) -> tuple[Cause, ...]:
    """A kubelet that is down runs nothing: as good a cause as any line of etcd's own log."""
    kubelet = survey.kubelet
    if survey.config is None or kubelet is None or runs(survey):
        return ()
    if kubelet.active not in ("inactive", "failed"):
        return ()
    unit = kubelet.name or "kubelet.service"
    return (
        Cause(
            key="kubelet-down",
            kind="config",
            summary=f"{unit} is {kubelet.active}, so no static pod is started",
            remedy=f"on {survey.hostname or 'the host'}: systemctl start {unit}",
            evidence=f"{unit}: {kubelet.active}",
            source="systemd",
        ),
    )


def _is_retried(survey: Survey) -> bool:
    """True if systemd restarts etcd's unit by itself, or has given up doing so.

    An inactive one was stopped by somebody, however often it had been restarted before.
    """
    unit = survey.unit
    if unit is None or unit.active == "inactive":
        return False
    return unit.restarts > 0 or unit.active == "failed"


def is_looping(survey: Survey) -> bool:
    """True if etcd is started again and again: its definition is in place and it keeps ending.

    The moment between two attempts, or the short life of one, must not change the answer.
    """
    if survey.config is None or answers(survey) or _kubelet_cause(survey):
        return False
    last = newest(survey)
    has_cause = bool(causes(survey))
    if survey.unit is not None:
        if runs(survey):
            return _is_retried(survey) and any(c.kind != "network" for c in causes(survey))
        return _is_retried(survey) and (has_cause or not survey.causes)
    if last is None:
        return has_cause and not runs(survey)
    restarted = last.attempt >= 1 or "backoff" in last.reason.lower().replace("-", "")
    if last.state == "running":  # peers that cannot be dialled end no etcd
        return restarted and any(cause.kind != "network" for cause in causes(survey))
    return restarted and (has_cause or not survey.causes)


def is_attempting(survey: Survey) -> bool:
    """True if an etcd that keeps ending was caught in the first seconds of one more attempt.

    Its log says nothing yet of how this one will end, so it looks like one that only waits.
    """
    age = survey.time - started(survey)
    if answers(survey) or not runs(survey) or not started(survey) or age > ATTEMPT_SECONDS:
        return False
    last = newest(survey)
    restarted = _is_retried(survey) if survey.unit is not None else bool(last and last.attempt)
    return restarted and any(cause.kind not in ("quorum", "network") for cause in survey.causes)


def is_waiting(survey: Survey) -> bool:
    """True if etcd runs, or its probe restarts it, and only the missing quorum ails it."""
    if runs(survey):
        return True
    if survey.config is None or (newest(survey) is None and not _is_retried(survey)):
        return False
    return bool(survey.causes) and not causes(survey)


def own_id(survey: Survey) -> str:
    """The member ID that this host goes by: of the running etcd, else of its write-ahead log."""
    if answers(survey) and survey.online and survey.online.member_id:
        return survey.online.member_id
    wal = survey.offline.wal if survey.offline else None
    return wal.member_id if wal else ""


def own_cluster(survey: Survey) -> str:
    """The cluster ID of the running etcd, else of the write-ahead log."""
    if answers(survey) and survey.online and survey.online.cluster_id:
        return survey.online.cluster_id
    wal = survey.offline.wal if survey.offline else None
    return wal.cluster_id if wal else ""


def damage(survey: Survey) -> Optional[Damage]:
    """The first place where the data directory is damaged (a torn tail is harmless)."""
    offline = survey.offline
    if offline is None:
        return None
    found = [*offline.damage]
    found += [part.damage for part in (offline.wal, offline.db) if part and part.damage]
    return found[0] if found else None


def is_intact(survey: Survey) -> bool:
    """Write-ahead log and database were both read, without damage, and fit together.

    A database that is ahead of its log cannot come from one run of etcd: entries that etcd appends
    up to that index would be skipped as already applied. A running etcd moves between two reads.
    """
    offline = survey.offline
    if offline is None or not offline.has_data or offline.wal is None or offline.db is None:
        return False
    if damage(survey) is not None:
        return False
    return runs(survey) or not is_mixed(survey)


def is_mixed(survey: Survey) -> bool:
    """The database has applied more than the write-ahead log holds."""
    offline = survey.offline
    if offline is None or offline.wal is None or offline.db is None:
        return False
    return offline.db.consistent_index > offline.wal.last_index


def is_wiped(survey: Survey) -> bool:
    """The data directory was looked at, and holds no member."""
    return survey.offline is not None and not survey.offline.has_data


def is_proved_stopped(survey: Survey) -> bool:
    """No etcd runs and none can be started by the node itself.

    "No running container" proves nothing: a crash-looping pod has none between two attempts. So:
    no process, no ready sandbox, nothing on etcd's ports, and the definition out of the watched
    directory (or a fence on the host), with no stray file there that could hold another one.
    """
    if survey.processes or runs(survey) or set(survey.ports) & set(ETCD_PORTS) or survey.strays:
        return False
    if survey.runtime is not None and not survey.runtime.answers:
        return False
    if survey.runtime is not None and survey.runtime.sandboxes_ready:
        return False
    if is_unit_unread(survey):
        return False
    return survey.config is None or survey.fence is not None


def is_unit_unread(survey: Survey) -> bool:
    """True if there is a unit that starts something, and what cannot be read from it."""
    unit = survey.unit
    if unit is None or survey.config is not None or survey.parked:
        return False
    return unit.active not in ("", "not-found") and unit.enabled != "masked"


def definition(survey: Survey) -> str:
    """in-place, parked or missing: where the thing is that makes etcd run."""
    if survey.config is not None:
        return "in-place"
    return "parked" if survey.parked else "missing"


def seen_alive(observation: Observation) -> str:
    """What shows that etcd lives on a host without a survey, in words; empty for nothing."""
    seen = []
    for sighting in sorted(observation.sightings, key=lambda s: (s.seen_from, s.address)):
        where = f"from {sighting.seen_from}" if sighting.seen_from else "from outside"
        ports = [str(port) for port in ETCD_PORTS if port in sighting.open_ports]
        if sighting.linearizable:
            seen.append(f"it answers linearizable reads {where}")
        elif ports:
            seen.append(f"its port {' and '.join(ports)} answers {where}")
    return "; ".join(seen)


def seen_dead(observation: Observation) -> str:
    """Which etcd ports of the host were tried from where and did not answer; may be empty."""
    seen = []
    for sighting in sorted(observation.sightings, key=lambda s: (s.seen_from, s.address)):
        ports = [str(port) for port in ETCD_PORTS if port in sighting.closed_ports]
        if ports:
            where = sighting.seen_from or "outside"
            seen.append(f"port {' and '.join(ports)} closed from {where}")
    return "; ".join(seen)


def url_host(url: str) -> str:
    """The host of a URL, without port and brackets; empty where it is none."""
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


def addresses(observation: Observation) -> frozenset[str]:
    """Every address and name that the host goes by, loopback left out."""
    found = {observation.address, observation.host}
    found |= {sighting.address for sighting in observation.sightings}
    survey = observation.survey
    if survey is not None:
        found |= {survey.hostname, *survey.addresses}
        if survey.config is not None:
            found |= {url_host(url) for url in survey.config.advertise_peer_urls}
    plain = {address.lower().strip("[]") for address in found if address}
    return frozenset(a for a in plain if not a.startswith("127.") and a not in ("::1", "localhost"))
