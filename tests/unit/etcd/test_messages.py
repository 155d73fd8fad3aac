"""gRPC messages as JSON and back: exact for what etcd says, an error for what it would not say."""

from __future__ import annotations

import base64
import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.etcd.messages import CALLS, decode, encode
from agent.etcd.protobuf import Malformed

EACH = min(300, settings().max_examples)
"""Of each message, of which there are dozens."""

ALL = [
    (f"{method.name} {side}", getattr(method, side))
    for method in CALLS.values()
    for side in ("request", "response")
]
VALUES = {
    "uint": st.integers(1, (1 << 64) - 1).map(str),
    "int": st.integers(-(1 << 63), (1 << 63) - 1).filter(bool).map(str),
    "bool": st.just(True),
    "text": st.text(min_size=1),
    "bytes": st.binary(min_size=1).map(lambda data: base64.b64encode(data).decode()),
    "Action": st.just("DEACTIVATE"),
}


def flat(fields: dict[int, str]) -> st.SearchStrategy[dict[str, Any]]:
    """Bodies of all fields that are no message, in the table's order."""
    chosen: dict[str, st.SearchStrategy[Any]] = {}
    for field in fields.values():
        name, kind = field.split()
        if kind.lstrip("*") in VALUES:
            one = VALUES[kind.lstrip("*")]
            chosen[name] = st.lists(one, min_size=1, max_size=3) if "*" in kind else one
    return st.fixed_dictionaries({}, optional=chosen)


@pytest.mark.parametrize("fields", [fields for _, fields in ALL], ids=[name for name, _ in ALL])
@settings(max_examples=EACH)
@given(data=st.data())
def test_what_is_encoded_is_decoded(fields: dict[int, str], data: st.DataObject) -> None:
    body = data.draw(flat(fields))
    assert decode(fields, encode(fields, body)) == body


@pytest.mark.parametrize("path", CALLS)
@settings(max_examples=EACH)
@given(garbage=st.binary(max_size=200))
def test_garbage_is_no_answer(path: str, garbage: bytes) -> None:
    with contextlib.suppress(Malformed, UnicodeDecodeError):
        decode(CALLS[path].response, garbage)


def test_bytes_that_are_known() -> None:
    """MemberAddRequest{PeerURLs: ["http://a:1"], IsLearner: true}, as protoc writes it."""
    body = {"peerURLs": ["http://a:1"], "isLearner": True}
    assert encode(CALLS["cluster/member/add"].request, body) == b"\x0a\x0ahttp://a:1\x10\x01"
    answer = bytes.fromhex("0a04080118031204080a2801")
    assert decode(CALLS["cluster/member/promote"].response, answer) == {
        "header": {"cluster_id": "1", "revision": "3"},
        "members": [{"ID": "10", "isLearner": True}],
    }


def test_a_field_of_the_wrong_kind_is_an_error() -> None:
    with pytest.raises(Malformed, match="wrong wireType"):
        decode(CALLS["kv/range"].response, b"\x20\x01\x08\x01")


def test_an_unknown_field_is_passed_over() -> None:
    assert decode({1: "a int"}, b"\x08\x05\x98\x06\x01") == {"a": "5"}
