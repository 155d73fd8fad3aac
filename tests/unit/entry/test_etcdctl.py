"""etcdctl's words, flags and output, as they go through."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from agent.entry.etcdctl import defaults, environment
from agent.entry.member_requests import MEMBER_REQUESTS
from agent.errors import CommandFailed, UsageError
from agent.host import Host
from agent.model.facts import EtcdConfig, TlsFiles

CONFIG = EtcdConfig(
    "/m.yaml", "", "m0", "/d", listen_client_urls=("https://127.0.0.1:2379",),
    client_tls=TlsFiles("/pki/c.crt", "/pki/c.key", "/pki/ca.crt"),
)  # fmt: skip


def test_flags_are_given_where_the_words_do_not() -> None:
    assert defaults(CONFIG, ["member", "list"]) == [
        "--endpoints=https://127.0.0.1:2379", "--cacert=/pki/ca.crt", "--cert=/pki/c.crt",
        "--key=/pki/c.key",
    ]  # fmt: skip
    given = defaults(CONFIG, ["get", "--endpoints=http://x:1", "--cacert", "/o.crt", "k"])
    assert given == ["--cert=/pki/c.crt", "--key=/pki/c.key"]


@pytest.mark.parametrize(
    ("version", "wanted"),
    [((3, 2), {"ETCDCTL_API": "3"}), ((3, 3), {"ETCDCTL_API": "3"}), ((3, 4), {}), ((3, 6), {})],
)
def test_the_api_is_named_only_where_it_must_be(
    version: tuple[int, int], wanted: dict[str, str]
) -> None:
    assert environment(version) == wanted


def stream(*words: str, until: int = -1) -> tuple[int, bytes, bytes]:
    said = {"out": b"", "err": b""}

    def out(name: str, data: bytes) -> None:
        said[name] += data

    code = Host("/").stream([sys.executable, "-c", *words], out, until=until)
    return code, said["out"], said["err"]


def test_bytes_and_the_exit_code_go_through() -> None:
    program = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 4000); sys.exit(7)"
    assert stream(program) == (7, bytes(range(256)) * 4000, b"")
    assert stream("import sys; sys.stderr.write('no'); print(sys.argv[1])", "$(id) ;'x") == (
        0, b"$(id) ;'x\n", b"no",
    )  # fmt: skip
    assert stream("import os; os.kill(os.getpid(), 15)")[0] == -15
    assert stream("import sys; print(repr(sys.stdin.read()))")[1] == b"''\n"


def test_it_ends_with_whoever_asked() -> None:
    """A watch without end must not outlive the connection that it was asked over."""
    ours, theirs = os.pipe()
    timer = threading.Timer(0.3, os.close, [theirs])
    timer.start()
    try:
        assert stream("import time; time.sleep(600)", until=ours)[0] == -15
    finally:
        os.close(ours)


def test_a_missing_program_is_said() -> None:
    with pytest.raises(CommandFailed, match="no such command"):
        Host("/").stream(["/no/etcdctl"], lambda _name, _data: None)


@pytest.mark.parametrize("words", ["member list", [1], ["a\0b"]])
def test_words_that_are_none_are_refused(words: object) -> None:
    for verb in ("etcdctl", "run_join"):
        with pytest.raises(UsageError):
            MEMBER_REQUESTS[verb](Host("/"), {"args": words, "command": words}, lambda _text: None)
