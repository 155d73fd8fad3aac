"""The wire format: what is read, and the words for what is not a message."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.etcd import protobuf
from tests.unit.survey.make_wal import text, varint


@given(st.integers(0, (1 << 64) - 1))
def test_varint_round_trip(value: int) -> None:
    assert protobuf.varint(varint(value) + b"x", 0) == (value, len(varint(value)))


def test_fields_of_every_kind() -> None:
    data = b"\x08\x96\x01" + text(2, b"abc") + b"\x1d\1\0\0\0" + b"\x21" + bytes(7) + b"\1"
    group = b"\x2b\x08\x01\x33\x08\x02\x34\x2c"  # a group with a group in it
    assert list(protobuf.fields(data + group + b"\x30\x05")) == [
        (1, 0, 150),
        (2, 2, b"abc"),
        (3, 5, 1),
        (4, 1, 1 << 56),
        (6, 0, 5),
    ]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x08", "unexpected EOF"),
        (b"\x12\x05abc", "unexpected EOF"),
        (b"\x0d\1\2", "unexpected EOF"),
        (b"\x13\x08\x01", "unexpected EOF"),
        (b"\x08" + b"\xff" * 11, "proto: integer overflow"),
        (b"\x00\x01", "proto: illegal tag 0 (wire type 0)"),
        (b"\x0f", "proto: illegal wireType 7"),
        (b"\x0c", "proto: wiretype end group for non-group"),
        (b"\x12" + varint(1 << 63), "proto: negative length found during unmarshaling"),
        (b"\x0a\x00", "proto: wrong wireType = 2 for field 1"),
    ],
)
def test_malformed(data: bytes, reason: str) -> None:
    with pytest.raises(protobuf.Malformed) as error:
        protobuf.message(data, {1: protobuf.VARINT})
    assert error.value.reason == reason
    assert error.value.cut_short == (reason == "unexpected EOF")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    with contextlib.suppress(protobuf.Malformed):
        protobuf.message(data, {1: protobuf.VARINT, 2: protobuf.BYTES})
