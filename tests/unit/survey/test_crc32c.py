"""Every means gives the same checksums, in one piece or in many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.survey import crc32c

ENGINES = sorted(crc32c.engines().items())


@pytest.mark.parametrize(("name", "engine"), ENGINES)
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),  # RFC 3720, B.4
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_known_vectors(name: str, engine: crc32c.Engine, data: bytes, expected: int) -> None:
    assert engine(0, data) == expected


@given(
    start=st.integers(0, 0xFFFFFFFF),
    data=st.binary(max_size=3000),
    cut=st.integers(0, 3000),
)
def test_engines_agree_and_chain(start: int, data: bytes, cut: int) -> None:
    whole = crc32c.update_python(start, data)
    for _, engine in ENGINES:
        assert engine(start, data) == whole
        assert engine(engine(start, data[:cut]), memoryview(data)[cut:]) == whole
        assert engine(start, bytearray(data)) == whole
    assert crc32c.update(start, data) == whole


def test_fastest_means_is_chosen() -> None:
    assert crc32c.engine_name() == next(iter(crc32c.engines()))
