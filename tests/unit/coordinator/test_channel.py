"""The session protocol from the coordinator's side, against a process that speaks it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import Refused, RescueError, Unreachable
from coordinator.agent_file import AgentFile
from coordinator.channel import Channel, Messages, fan_out, greeted
from coordinator.delivery import open_channel
from coordinator.hosts import HostSpec
from coordinator.streams import LineReader, ProcessStream
from tests.unit.coordinator.conftest import Sshd


@pytest.fixture(params=["local", "ssh"])
def channel(
    request: pytest.FixtureRequest, agent_file: AgentFile, sshd: Sshd, tmp_path: Path
) -> Iterator[Channel]:
    spec = HostSpec("m1", transport=request.param)
    with open_channel(spec, agent_file, sshd.access(), str(tmp_path)) as opened:
        yield opened


def test_answers_come_back_as_they_are(channel: Channel) -> None:
    for value in ({}, {"a": [1, None, "ü\n"]}, {"text": "x" * 300_000}):
        assert channel.call("echo", value) == value


def test_progress_comes_in_order_before_the_answer(channel: Channel) -> None:
    seen: list[str] = []
    assert channel.call("steps", {"count": 3}, on_progress=seen.append) == 3
    assert seen == ["step 0", "step 1", "step 2"]


def test_an_error_of_the_agent_is_raised_here(channel: Channel) -> None:
    with pytest.raises(Refused) as caught:
        channel.call("refuse")
    assert (caught.value.seen, caught.value.why, caught.value.next) == ("no", "because", "x")
    assert channel.call("echo", {}) == {}


def test_silence_ends_a_call_and_its_late_answer_is_dropped(channel: Channel) -> None:
    with pytest.raises(Unreachable, match=r"no word from the agent for 0\.1 s during `sleep`"):
        channel.call("sleep", {"seconds": 0.4}, timeout=0.1)
    assert channel.call("echo", {"a": 1}) == {"a": 1}


def test_progress_keeps_a_long_call_alive(channel: Channel) -> None:
    assert channel.call("steps", {"count": 8, "pause": 0.1}, timeout=0.5) == 8


def test_a_big_answer_is_taken_and_a_bigger_one_refused(channel: Channel) -> None:
    assert len(channel.call("bytes", {"count": 5_000_000})) == 5_000_000
    channel._messages._lines._max = 100_000
    with pytest.raises(Unreachable, match="a line of more than"):
        channel.call("flood")


def test_stderr_never_blocks_the_agent(channel: Channel) -> None:
    for _ in range(3):
        assert channel.call("stderr", {"count": 3_000_000}, timeout=30) == "said"


def test_lines_that_are_no_messages_are_passed_over(channel: Channel) -> None:
    assert channel.call("garbage") == "anyway"


def test_a_dead_agent_is_unreachable_with_its_last_words(channel: Channel) -> None:
    with pytest.raises(Unreachable) as caught:
        channel.call("die")
    assert "during `die`" in caught.value.seen
    assert "the last words" in caught.value.why
    with pytest.raises(Unreachable):
        channel.call("echo")


def test_a_closed_channel_says_so(channel: Channel) -> None:
    channel.close()
    channel.close()
    with pytest.raises(Unreachable, match="closed"):
        channel.call("echo")


def test_threads_take_turns(channel: Channel) -> None:
    answers = fan_out([str(n) for n in range(20)], lambda n: channel.call("echo", {"n": n}))
    assert answers == {str(n): {"n": str(n)} for n in range(20)}


def test_closing_ends_a_call_of_another_thread(channel: Channel) -> None:
    caught: list[BaseException] = []

    def call() -> None:
        try:
            channel.call("sleep", {"seconds": 3}, timeout=10)
        except RescueError as error:
            caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.2)
    channel.close()
    thread.join(timeout=5)
    assert not thread.is_alive()
    assert isinstance(caught[0], Unreachable)


def test_a_cut_connection_is_noticed_and_can_be_opened_anew(
    agent_file: AgentFile, sshd: Sshd, tmp_path: Path
) -> None:
    channel = open_channel(HostSpec("m1"), agent_file, sshd.access(), str(tmp_path))
    threading.Timer(0.2, channel._stream._channel.transport.sock.close).start()  # type: ignore[attr-defined]
    with pytest.raises(Unreachable, match="during `sleep`"):
        channel.call("sleep", {"seconds": 5}, timeout=10)
    channel.close()
    with open_channel(HostSpec("m1"), agent_file, sshd.access(), str(tmp_path)) as again:
        assert again.call("echo", {}) == {}


# ---- before hello --------------------------------------------------------------------------------


def greet(script: str, timeout: float = 5.0) -> Channel:
    stream = ProcessStream(["sh", "-c", script])
    try:
        return greeted("m1", stream, Messages(stream, "m1"), timeout=timeout)
    except RescueError:
        stream.close()
        raise


HELLO = """echo '{"hello": {"format": 1, "version": "1", "hostname": "h", "pid": 5}}'"""


@pytest.mark.parametrize(
    "banner",
    [
        "echo Welcome",
        "echo; echo '{\"a\": 1'",
        "echo '{}'",
        "echo '[1]'",
        "printf '\\377\\n'",
        "head -c 60000 /dev/zero; echo",
        "seq 9000",
    ],
)
def test_banners_are_passed_over(banner: str) -> None:
    with greet(f"{banner}; {HELLO}") as channel:
        assert channel.hello.pid == 5


def test_endless_garbage_is_an_error_that_shows_it() -> None:
    with pytest.raises(Unreachable, match="that are no agent's") as caught:
        greet("yes Welcome")
    assert "Welcome" in caught.value.why


def test_an_endless_line_is_an_error_and_not_kept() -> None:
    stream = ProcessStream(["cat", "/dev/zero"])
    reader = LineReader(stream, "m1", max_line=1_000_000)
    with pytest.raises(Unreachable, match="m1 sent a line of more than"):
        reader.line(10)
    assert reader._parts == []
    stream.close()


def test_no_hello_ends_at_the_deadline() -> None:
    started = time.monotonic()
    with pytest.raises(Unreachable, match="did not say hello"):
        greet("exec sleep 3", timeout=0.2)
    assert time.monotonic() - started < 3.5


def test_an_end_before_hello_shows_stderr() -> None:
    with pytest.raises(Unreachable) as caught:
        greet("echo 'ImportError: no yaml' >&2")
    assert "ImportError: no yaml" in caught.value.why


def test_another_format_is_refused() -> None:
    with pytest.raises(Refused, match="format 2"):
        greet("""echo '{"hello": {"format": 2}}'""")


def test_a_missing_command_is_unreachable() -> None:
    with pytest.raises(Unreachable, match="cannot start"):
        ProcessStream(["/no/such/command"])


# ---- many hosts ----------------------------------------------------------------------------------


def test_one_error_never_hides_the_others() -> None:
    def ask(name: str) -> str:
        if name == "bad":
            raise Unreachable("no answer")
        if name == "defect":
            raise KeyError("x")
        return name.upper()

    found = fan_out(["z", "bad", "a", "defect"], ask)
    assert list(found) == ["z", "bad", "a", "defect"]
    assert (found["z"], found["a"]) == ("Z", "A")
    assert isinstance(found["bad"], Unreachable)
    assert "internal error: KeyError" in str(found["defect"])
    assert fan_out([], ask) == {}


def test_hosts_are_asked_at_the_same_time() -> None:
    together = threading.Barrier(8, timeout=5)
    found = fan_out([str(n) for n in range(8)], lambda name: together.wait() >= 0)
    assert all(value is True for value in found.values())


class Endless:
    """A host that says one thing for ever."""

    def __init__(self, line: bytes, first: bytes = b"") -> None:
        self._line, self._first, self.given = line * 100, first, 0

    def read(self, timeout: float) -> bytes:
        data, self._first = self._first or self._line, b""
        self.given += len(data)
        return data

    def write(self, data: bytes, timeout: float) -> None:
        pass

    def errors(self) -> str:
        return ""

    def close(self) -> None:
        pass


HELLO_LINE = b'{"hello": {"format": 1, "version": "0", "hostname": "m0", "pid": 1}}\n'


@pytest.mark.reliability(
    "Hostile input",
    "a host says objects that nobody asked for, without end, before or after its hello: it is given"
    " up after 64 KiB of them",
)
@pytest.mark.parametrize(
    "line", [b"{}\n", b'{"id": 99, "ok": 1}\n', b'{"id": null}\n', b'{"id": 1}\n', b'{"id": "1"}\n']
)
def test_objects_without_end(line: bytes) -> None:
    before = Endless(line)
    with pytest.raises(Unreachable, match="no agent's"):
        greeted("m0", before, Messages(before, "m0"), timeout=3600)
    after = Endless(line, HELLO_LINE)
    channel = greeted("m0", after, Messages(after, "m0"), timeout=3600)
    with pytest.raises(Unreachable, match="no agent's"):
        channel.call("survey", timeout=3600)
    assert max(before.given, after.given) < 200_000
