"""The snapshot stream against servers that misbehave: an error with words, never a short file."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.etcd.errors import EtcdError
from agent.etcd.transport import RealFiles
from agent.snapshot.grpc_stream import iter_snapshot
from tests.unit.etcd_lab import silent_port
from tests.unit.survey.make_wal import numbers


def frame(kind: int, flags: int, payload: bytes, stream: int = 1) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags])
    return head + stream.to_bytes(4, "big") + payload


def message(blob: bytes, left: int) -> bytes:
    body = b"\x10" + numbers_tail(left) + b"\x1a" + numbers_tail(len(blob)) + blob
    return b"\0" + len(body).to_bytes(4, "big") + body


def numbers_tail(value: int) -> bytes:
    """A varint alone."""
    return numbers(value)[1:]


SETTINGS = frame(4, 0, b"", 0)
GOOD_END = frame(1, 5, b"\0\x0bgrpc-status\x010")


@contextmanager
def server(answer: bytes) -> Iterator[str]:
    """One connection that gets `answer`, and is then closed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _address = listener.accept()
            with connection:
                connection.recv(4096)
                try:
                    connection.sendall(answer)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(4096):
                        pass
                except OSError:
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(5)


def read(answer: bytes) -> bytes:
    with server(answer) as url:
        return b"".join(blob for blob, _left in iter_snapshot(url, RealFiles(), 5.0))


def test_messages_in_any_number_of_frames() -> None:
    data = os.urandom(100_000)
    plain = message(data[:70_000], 30_000) + message(data[70_000:], 0)
    for size in (999, 16_384):
        frames = b"".join(frame(0, 0, plain[at : at + size]) for at in range(0, len(plain), size))
        padded = frame(0, 8, b"\x03" + b"\0\0\0")
        assert read(SETTINGS + frames + padded + GOOD_END) == data


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", "the connection ended"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak HTTP/2"),
        (SETTINGS + frame(0, 0, bytes(16_385)), "a frame of 16385 bytes"),
        (SETTINGS + GOOD_END, "still to come"),
        (SETTINGS + frame(0, 0, message(b"x" * 9, 5)) + GOOD_END, "5 bytes still to come"),
        (SETTINGS + frame(0, 0, message(b"x" * 9, 5)), "the connection ended"),
        (SETTINGS + frame(3, 0, b"\0\0\0\x08"), "reset"),
        (SETTINGS + frame(7, 0, bytes(8), 0), "going away"),
        (SETTINGS + frame(1, 5, b"\0\x0bgrpc-status\x017"), "permission denied"),
        (SETTINGS + frame(1, 5, b"\0\x0bgrpc-status\x0214"), "unavailable"),
        (SETTINGS + frame(0, 0, b"\x01\0\0\0\x01x"), "compressed"),
        (SETTINGS + frame(0, 0, b"\0\xff\xff\xff\xff"), "a message of"),
        (SETTINGS + frame(0, 0, b"\0\0\0\0\x02\x1a\x7f"), "not a SnapshotResponse"),
    ],
)
def test_a_stream_that_does_not_end_well_is_an_error(answer: bytes, told: str) -> None:
    with pytest.raises(EtcdError, match=told):
        read(answer)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=400), st.integers(0, 400))
def test_garbage_is_an_error(garbage: bytes, at: int) -> None:
    good = SETTINGS + frame(0, 0, message(b"x" * 300, 0)) + GOOD_END
    spoiled = good[:at] + garbage
    try:
        found = read(spoiled)
    except EtcdError:
        return
    assert len(found) <= 300 + len(garbage)


def test_a_member_that_never_answers() -> None:
    with silent_port() as port, pytest.raises(EtcdError, match="nothing came"):
        list(iter_snapshot(f"http://127.0.0.1:{port}", RealFiles(), 0.3))


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(EtcdError, match="refused"):
        list(iter_snapshot(f"http://127.0.0.1:{port}", RealFiles(), 2.0))
