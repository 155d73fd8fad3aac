"""What oc and kubectl say where the API did not do what was asked, and what it means."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SERVER = re.compile(r"Error from server(?: \((?P<reason>\w+)\))?: (?P<told>.*)", re.DOTALL)
_PASSING_REASONS = frozenset(
    {"TooManyRequests", "ServiceUnavailable", "ServerTimeout", "Timeout", "GatewayTimeout"}
)
"""Of metav1.StatusReason: those that say themselves that the same request may work later."""

_PASSING_TEXTS = (
    "etcdserver:", "failed calling webhook", "leader changed", "no leader", "timed out",
    "context deadline exceeded", "connection refused", "apiserver not ready", "not yet ready",
    "storage is (re)initializing", "the object has been modified",
)  # fmt: skip
"""Of an InternalError or a Conflict that passes: etcd's, a webhook that is down, a write race."""

_SILENT_TEXTS = (
    "Unable to connect to the server", "The connection to the server", "connection refused",
    "connection reset", "context deadline exceeded", "Client.Timeout", "i/o timeout", "EOF",
    "TLS handshake timeout", "no such host", "no route to host", "network is unreachable",
    "client rate limiter", "http2:", "server closed", "did not end within", "broken pipe",
    "doesn't have a resource type",
)  # fmt: skip
"""Of client-go and net/http where no answer came, or only half of one."""

_UNTRUSTED_TEXTS = ("x509:", "certificate signed by unknown", "certificate has expired")


@dataclass(frozen=True)
class Said:
    """Why a request did not work.

    kind: "missing" (there is no such object), "exists", "conflict" (a precondition did not hold),
    "denied" (the API, RBAC or a webhook will not have it), "passing" (it may work later), "silent"
    (no answer came, or half of one; whether it was carried out is not known).
    """

    kind: str
    told: str


def read_said(stderr: str) -> Said:
    """Judge what a client printed. What is not known is "denied": it is not tried again."""
    text = " ".join(stderr.split())[-1000:] or "nothing"
    found = _SERVER.search(text)
    if found:
        return Said(_kind_of(found["reason"] or "", found["told"]), text)
    if any(part in text for part in _UNTRUSTED_TEXTS):
        return Said("denied", text)
    return Said("silent" if any(part in text for part in _SILENT_TEXTS) else "denied", text)


def is_about_credentials(told: str) -> bool:
    """Whether the API, or we, did not believe the other side to be who it says."""
    return "(Unauthorized)" in told or any(part in told for part in _UNTRUSTED_TEXTS)


def _kind_of(reason: str, told: str) -> str:
    passing = reason in _PASSING_REASONS or (
        reason in ("InternalError", "Conflict", "") and any(t in told for t in _PASSING_TEXTS)
    )
    if passing and "Precondition failed" not in told:
        return "passing"
    kinds = {"NotFound": "missing", "AlreadyExists": "exists", "Conflict": "conflict"}
    return kinds.get(reason, "denied")
