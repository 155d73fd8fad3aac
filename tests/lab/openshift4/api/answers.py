"""What the API says: failures as Status objects, lists, tables, discovery, OpenAPI."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from .kinds import KINDS, Kind, Object, at, kinds_of

_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]


class Failure(Exception):
    """A request that is answered by a Status."""

    def __init__(self, code: int, reason: str, message: str, retry_after: int = 0) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message
        self.retry_after = retry_after

    def status(self) -> Object:
        """The object that says it (meta/v1 Status)."""
        details = {"retryAfterSeconds": self.retry_after} if self.retry_after else {}
        return {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "details": details, "code": self.code,
        }  # fmt: skip


def not_found(kind: Kind, name: str) -> Failure:
    """404 in the API's words."""
    return Failure(HTTPStatus.NOT_FOUND, "NotFound", f'{kind.resource} "{name}" not found')


def conflict(kind: Kind, name: str, why: str) -> Failure:
    """409 in the API's words."""
    told = f'Operation cannot be fulfilled on {kind.resource} "{name}": {why}'
    return Failure(HTTPStatus.CONFLICT, "Conflict", told)


def exists(kind: Kind, name: str) -> Failure:
    """409 of a create."""
    told = f'{kind.resource} "{name}" already exists'
    return Failure(HTTPStatus.CONFLICT, "AlreadyExists", told)


def fault(kind: str, user: str, verb: str, resource: str, group: str, name: str) -> Failure:
    """What a fault says, in the words of the real thing."""
    what = f'{resource} "{name}"' if name else resource
    table = {
        "forbidden": (403, "Forbidden", f'{what} is forbidden: User "{user}" cannot {verb} '
                      f'resource "{resource}" in API group "{group}"'),
        "conflict": (409, "Conflict", f"Operation cannot be fulfilled on {what}: the object has "
                     "been modified; please apply your changes to the latest version and try "
                     "again"),
        "throttle": (429, "TooManyRequests", "the server has received too many requests and has "
                     "asked us to try again later"),
        "webhook": (400, "BadRequest", 'admission webhook "guard.lab.example" denied the request: '
                    "changes are frozen until Monday"),
        "webhook-down": (500, "InternalError", 'Internal error occurred: failed calling webhook '
                         '"guard.lab.example": Post "https://guard.lab.svc:443/validate?timeout=10s'
                         '": dial tcp 172.30.1.1:443: connect: connection refused'),
        "timeout": (500, "InternalError", "etcdserver: request timed out"),
        "unavailable": (503, "ServiceUnavailable", "the server is currently unable to handle the "
                        "request"),
        "unauthorized": (401, "Unauthorized", "Unauthorized"),
    }  # fmt: skip
    code, reason, message = table[kind]
    return Failure(code, reason, message, 1 if kind == "throttle" else 0)


def list_of(kind: Kind, items: list[Object], revision: int) -> Object:
    """A list of objects."""
    return {"kind": f"{kind.kind}List", "apiVersion": kind.api_version,
            "metadata": {"resourceVersion": str(revision)}, "items": items}  # fmt: skip


def table_of(kind: Kind, items: list[Object], revision: int) -> Object:
    """The same as a Table (meta/v1), as `kubectl get` asks for it."""
    names = ["Name", *(name for name, _value in kind.columns), "Created"]
    form = [{"name": n, "type": "string", "format": "name" if n == "Name" else "",
             "description": "", "priority": 0} for n in names]  # fmt: skip
    rows = [
        {"cells": [at(i, "metadata.name"), *(value(i) for _name, value in kind.columns),
                   at(i, "metadata.creationTimestamp")],
         "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                    "metadata": i["metadata"]}}
        for i in items
    ]  # fmt: skip
    return {"kind": "Table", "apiVersion": "meta.k8s.io/v1",
            "metadata": {"resourceVersion": str(revision)}, "columnDefinitions": form,
            "rows": rows}  # fmt: skip


# ---- discovery -----------------------------------------------------------------------------------

_AUTHORIZATION = "authorization.k8s.io"


def discovery(path: str) -> Object | None:
    """/api, /apis, and what lies right below them; None for another path."""
    parts = path.strip("/").split("/")
    if path == "/version":
        return {"major": "1", "minor": "20", "gitVersion": "v1.20.0+lab", "platform": "linux/amd64"}
    if parts == ["api"]:
        return {"kind": "APIVersions", "versions": ["v1"],
                "serverAddressByClientCIDRs": []}  # fmt: skip
    if parts == ["apis"]:
        groups = sorted({(k.group, k.version) for k in KINDS if k.group})
        listed = [*groups, (_AUTHORIZATION, "v1")]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": _groups(listed)}
    if len(parts) == 2 and parts[0] == "api":
        return _resources("", parts[1])
    if len(parts) == 3 and parts[0] == "apis":
        return _resources(parts[1], parts[2])
    return None


def _groups(listed: list[tuple[str, str]]) -> list[Object]:
    found = []
    for group in dict.fromkeys(group for group, _version in listed):
        versions = [{"groupVersion": f"{group}/{v}", "version": v} for g, v in listed if g == group]
        found.append({"name": group, "versions": versions, "preferredVersion": versions[0]})
    return found


def _resources(group: str, version: str) -> Object | None:
    kinds = kinds_of(group, version)
    rows: list[dict[str, Any]] = [
        {"name": k.plural, "singularName": k.kind.lower(), "namespaced": k.namespaced,
         "kind": k.kind, "verbs": _VERBS, "shortNames": list(k.short)}
        for k in kinds
    ]  # fmt: skip
    if group == _AUTHORIZATION:
        rows = [{"name": "selfsubjectaccessreviews", "singularName": "", "namespaced": False,
                 "kind": "SelfSubjectAccessReview", "verbs": ["create"]}]  # fmt: skip
    if not rows:
        return None
    name = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": rows}


def openapi() -> bytes:
    """The smallest OpenAPI v2 document that kubectl takes, as protobuf (gnostic's openapi.v2).

    swagger is field 1, info field 2 (title 1, version 2), paths field 8. Kinds that it does not
    describe are not validated, as is so of every custom resource without a schema.
    """

    def field(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2, len(data)]) + data

    info = field(1, b"lab") + field(2, b"v1")
    return field(1, b"2.0") + field(2, info) + field(8, b"")
