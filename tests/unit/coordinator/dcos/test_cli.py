"""The `dcos` command as a child process: what its failures mean, its silence, its secrets."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest

from agent.errors import CommandFailed, RescueError, Unreachable, UsageError
from coordinator.dcos.cli import Dcos
from coordinator.dcos.look import _ask_all, _option, ask
from coordinator.dcos.snapshot import _Decoder
from tests.unit.coordinator.dcos.builders import run


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name, which each test writes."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path / "dcos"


def dcos(script: Path, text: str) -> Dcos:
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)
    return Dcos.find("kubernetes")


@pytest.mark.parametrize(
    ("text", "kind", "next_"),
    [
        ("echo 'Error: authentication failed, please run `dcos auth login`' >&2; exit 1",
         Unreachable, "dcos auth login"),
        ("echo 'Got 401 Unauthorized response from https://x'; exit 1", Unreachable,
         "dcos auth login"),
        ("echo 'Did you provide the correct service name? Currently using x'; exit 1", UsageError,
         "dcos package list"),
        ("echo \"'kubernetes' is not a dcos command.\" >&2; exit 1", UsageError,
         "dcos package install kubernetes --cli"),
        ("echo 'Error: no cluster is attached' >&2; exit 1", UsageError, "dcos cluster attach"),
        ("echo 'read tcp: connection reset by peer' >&2; exit 1", Unreachable, "dcos node"),
        ("echo something else >&2; exit 3", CommandFailed, "fab dcos-diagnose"),
        ("kill -9 $$", CommandFailed, "fab dcos-diagnose"),
    ],
)  # fmt: skip
def test_what_a_failure_means(script: Path, text: str, kind: type[RescueError], next_: str) -> None:
    with pytest.raises(kind) as caught:
        dcos(script, text).kubernetes("pod", "status", "--json")
    assert next_ in caught.value.next


def test_what_a_task_prints_is_in_no_error(script: Path) -> None:
    command = dcos(script, "echo key-material; echo 'unexpected EOF' >&2; exit 1")
    with pytest.raises(Unreachable) as caught:
        command.run("task", "exec", "x", "base64", "f")
    assert "key-material" not in str(caught.value)


def test_secrets_are_in_no_error(script: Path) -> None:
    command = dcos(script, 'echo "bad: $*" >&2; exit 1')
    hidden = Dcos(command.program, "kubernetes", ("hunter2",))
    with pytest.raises(CommandFailed) as caught:
        hidden.kubernetes("backup", "--aws-secret-access-key=hunter2")
    assert "hunter2" not in str(caught.value)


def test_silence_ends_the_command_and_its_children(script: Path, tmp_path: Path) -> None:
    command = dcos(script, f"echo begun; sleep 60 & echo $! > {tmp_path}/child; wait")
    found: list[bytes] = []
    with pytest.raises(Unreachable, match="nothing came for"):
        command.stream(found.append, "task", "exec", timeout=30, idle=0.5)
    assert found == [b"begun\n"]
    child = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}/stat")
    deadline = time.monotonic() + 20  # it was killed; that it is gone takes a moment
    while child.exists() and " Z " not in child.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("text", ["echo '<html>'", "echo", 'echo \'{"a": 1, "a": 2}\''])
def test_what_is_no_json_is_refused(script: Path, text: str) -> None:
    with pytest.raises(UsageError):
        dcos(script, text).json("node", "--json")


@pytest.mark.parametrize("name", ["", "/dev/kubernetes", "-x", "a;b", "a" * 25, "é"])
def test_names_that_are_no_service(script: Path, name: str) -> None:
    with pytest.raises(UsageError):
        Dcos.find(name)


def test_pieces_of_any_length_come_together() -> None:
    for step in (1, 2, 3, 5, 100):
        found = io.BytesIO()
        decoder = _Decoder(found.write, 11)
        text = b"aGVsbG8gd2\n9ybGQ=\n"
        for start in range(0, len(text), step):
            decoder.take(text[start : start + step])
        decoder.end("x")
        assert found.getvalue() == b"hello world"
    decoder = _Decoder(len, 12)
    decoder.take(b"aGVsbG8gd29ybGQ=")
    with pytest.raises(RescueError, match="1 bytes of the snapshot are missing"):
        decoder.end("x")
    with pytest.raises(RescueError, match="not base64"):
        _Decoder(len, 12).take(b"<htm")


def test_the_option_on_an_open_cluster_is_unknown_and_no_error(script: Path) -> None:
    said = "Package configuration is not available for service kubernetes."
    more = "dcos kubernetes describe is only available for packages installed with Enterprise"
    assert _option(dcos(script, f"echo '{said}'; echo '{more} DC/OS 1.10 or newer.'")) is None
    known = dcos(script, """echo '{"kubernetes": {"high_availability": true}}'""")
    assert _option(known) is True
    with pytest.raises(UsageError):
        _option(dcos(script, "echo '<html>'"))


def test_a_member_answers_through_the_quorum_or_alone_or_not_at_all(script: Path) -> None:
    fields = 'echo "\\"Revision\\" : 7"; echo "\\"Count\\" : 3"'
    both = ask(dcos(script, fields), run("etcd-0"))
    assert both is not None
    assert both.linearizable
    alone = f'case "$*" in *consistency=s*) {fields};; *) echo timed out >&2; exit 1;; esac'
    one = ask(dcos(script, alone), run("etcd-0"))
    assert one is not None
    assert (one.linearizable, one.revision, one.keys) == (False, 7, 3)
    assert ask(dcos(script, "exit 1"), run("etcd-0")) is None
    assert ask(dcos(script, "exit 0"), run("etcd-0")) is None, "no etcdctl in the sandbox"


def test_an_election_is_no_lost_quorum(script: Path, tmp_path: Path) -> None:
    """Two of three members answer alone, until they have elected; one of three never elects."""
    runs = (run("etcd-0"), run("etcd-1"), run("etcd-2", "TASK_LOST"))
    fields = 'echo "\\"Revision\\" : 7"; echo "\\"Count\\" : 3"'
    text = f"""
case "$*" in
*consistency=s*) echo >> {tmp_path}/asked; {fields};;
*) [ "$(wc -l < {tmp_path}/asked)" -ge 6 ] || {{ echo no leader >&2; exit 1; }}; {fields};;
esac"""
    (tmp_path / "asked").touch()
    asked = _ask_all(dcos(script, text), runs)
    assert {pod: answer.linearizable for pod, answer in asked.items()} == {
        "etcd-0": True, "etcd-1": True,
    }  # fmt: skip

    (tmp_path / "asked").write_text("")
    asked = _ask_all(
        dcos(script, text), (run("etcd-0"), *(run(r.name[:6], "TASK_LOST") for r in runs[1:]))
    )
    assert [answer.linearizable for answer in asked.values()] == [False]
    assert (tmp_path / "asked").read_text().count("\n") == 1
