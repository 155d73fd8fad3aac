"""What oc and kubectl print where the API did not do it, and what it is taken for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.kube.said import read_said

SERVER = "Error from server"
URL = "https://localhost:6443/api?timeout=10s"

TABLE = [
    ("missing", f'{SERVER} (NotFound): secrets "etcd-peer-a" not found'),
    ("missing", f"{SERVER} (NotFound): the server could not find the requested resource"),
    ("exists", f'{SERVER} (AlreadyExists): machines.machine.openshift.io "a" already exists'),
    ("conflict", f'{SERVER} (Conflict): Operation cannot be fulfilled on secrets "a": Precondition '
     "failed: UID in precondition: x, UID in object meta: y"),
    ("passing", f'{SERVER} (Conflict): Operation cannot be fulfilled on etcds "cluster": the '
     "object has been modified; please apply your changes to the latest version and try again"),
    ("passing", f"{SERVER} (TooManyRequests): the server has received too many requests"),
    ("passing", f"{SERVER} (ServiceUnavailable): the server is currently unable to handle the "
     "request"),
    ("passing", f"{SERVER} (Timeout): the server was unable to return a response in the time"),
    ("passing", f"{SERVER} (InternalError): Internal error occurred: etcdserver: leader changed"),
    ("passing", f"{SERVER}: etcdserver: request timed out"),
    ("passing", f"{SERVER}: rpc error: code = Unknown desc = context deadline exceeded"),
    ("passing", f'{SERVER} (InternalError): Internal error occurred: failed calling webhook "a": '
     "connection refused"),
    ("denied", f'{SERVER} (InternalError): an error on the server ("") has prevented the request'),
    ("denied", f'{SERVER} (Forbidden): secrets is forbidden: User "a" cannot delete'),
    ("denied", f'{SERVER} (BadRequest): admission webhook "a" denied the request: frozen'),
    ("denied", f'{SERVER}: admission webhook "a" denied the request: etcdless'),
    ("denied", f'{SERVER} (Invalid): Machine "a" is invalid: spec: Required value'),
    ("denied", "error: You must be logged in to the server (Unauthorized)"),
    ("silent", 'error: the server doesn\'t have a resource type "etcds"'),
    ("denied", "error: unknown flag: --raw"),
    ("denied", "Unable to connect to the server: x509: certificate has expired or is not yet "
     "valid"),
    ("denied", ""),
    ("silent", "The connection to the server localhost:6443 was refused - did you specify the "
     "right host or port?"),
    ("silent", f'Unable to connect to the server: Get "{URL}": net/http: request canceled while '
     "waiting for connection (Client.Timeout exceeded while awaiting headers)"),
    ("silent", "Unable to connect to the server: dial tcp: lookup api-int: no such host"),
    ("silent", f'error: Get "{URL}": EOF'),
    ("silent", "error: read tcp 127.0.0.1:1->127.0.0.1:6443: read: connection reset by peer"),
    ("silent", "context deadline exceeded"),
    ("silent", "`kubectl get --raw /api` did not end within 30 s"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text"), TABLE)
def test_what_is_said_is_judged(kind: str, text: str) -> None:
    assert read_said(text).kind == kind


@given(st.text())
def test_anything_is_judged_and_told_in_bounds(text: str) -> None:
    said = read_said(text)
    assert said.kind in {"missing", "exists", "conflict", "denied", "passing", "silent"}
    assert 0 < len(said.told) <= 1000
