from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.entry.session import Line, serve
from agent.model.plan import plan_to_plain
from agent.records.journal import Journal
from agent.records.locks import read_lock
from tests.unit.rooted import MANIFEST, Rooted, kubeadm_host, plan_of

PLAN = plan_of(("fence", {"reason": "a test"}))


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Rooted:
    return kubeadm_host(tmp_path_factory.mktemp("host"))


@contextmanager
def signals_kept() -> Iterator[None]:
    kept = {name: signal.getsignal(name) for name in (signal.SIGHUP, signal.SIGPIPE)}
    try:
        yield
    finally:
        for name, handler in kept.items():
            signal.signal(name, handler)


def talk(host: Rooted, *requests: bytes) -> tuple[int, list[dict[str, Any]]]:
    """Send lines, then end the input: the exit code, and what was answered after the hello."""
    out = io.BytesIO()
    with signals_kept():
        code = serve(host, io.BytesIO(b"".join(line + b"\n" for line in requests)), out)
    hello, *answers = [json.loads(line) for line in out.getvalue().splitlines()]
    assert set(hello["hello"]) == {"format", "version", "hostname", "pid"}
    return code, answers


def request(id: int, verb: str, **args: Any) -> bytes:
    return json.dumps({"id": id, "verb": verb, "args": args}).encode()


BAD = (
    # request → (id that is answered, what the error says)
    (b"", None, "not JSON"),
    (b"garbage", None, "not JSON"),
    (b"\xff\xfe\x00", None, "not JSON"),
    (b"[" * 200_000, None, "not JSON"),
    (b"[]", None, "not an object"),
    (b"7", None, "not an object"),
    (b'{"id": 7}', 7, "unknown verb None"),
    (b'{"id": 7, "verb": "reboot"}', 7, "unknown verb 'reboot'"),
    (b'{"id": 7, "verb": ["lock"]}', 7, "unknown verb ['lock']"),
    (b'{"id": 7, "verb": {}}', 7, "unknown verb {}"),
    (b'{"id": 7, "verb": "__init__"}', 7, "unknown verb"),
    (b'{"id": 7, "verb": "lock", "args": null}', 7, "`args` is not an object"),
    (b'{"id": 7, "verb": "lock", "args": []}', 7, "`args` is not an object"),
    (b'{"id": 7, "verb": "begin"}', 7, "plan: expected an object"),
    (b'{"id": 7, "verb": "begin", "args": {"plan": {"id": 1}}}', 7, "plan: "),
    (b'{"id": 7, "verb": "step", "args": {"plan": 3}}', 7, "argument 'plan'"),
    (b'{"id": 7, "verb": "step", "args": {"plan": "x", "token": true}}', 7, "argument 'token'"),
    (b'{"id": 7, "verb": "step", "args": {"plan": "x", "token": 1}}', 7, "does not hold the lock"),
    (b'{"id": 7, "verb": "step", "args": {"secrets": {"a": 1}}}', 7, "argument 'secrets'"),
    (b'{"id": 7, "verb": "step", "args": {"api_patience": true}}', 7, "argument 'api_patience'"),
    (b'{"id": 7, "verb": "step", "args": {"api_patience": 3601}}', 7, "argument 'api_patience'"),
    (b'{"id": 7, "verb": "end", "args": {"kind": "lost"}}', 7, "does not end as 'lost'"),
    (b'{"id": 7, "verb": "journal", "args": {"plan": "../x"}}', 7, "match plan ../x"),
    (b'{"id": 7, "verb": "plan", "args": {"plan": ""}}', 7, "argument 'plan'"),
    (b'{"id": 7, "verb": "probe", "args": {"ports": "22"}}', 7, "argument 'ports'"),
)


@pytest.mark.parametrize(("line", "id", "seen"), BAD)
def test_bad_requests_are_answered_and_the_session_goes_on(
    host: Rooted, line: bytes, id: int | None, seen: str
) -> None:
    code, (bad, good) = talk(host, line, request(8, "lock"))
    assert code == 0
    assert bad["id"] == id
    assert seen in bad["error"]["seen"]
    assert "internal error" not in bad["error"]["seen"]
    assert good == {"id": 8, "ok": None}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=60).filter(lambda line: b"\n" not in line), max_size=4))
def test_no_bytes_end_the_session(host: Rooted, lines: list[bytes]) -> None:
    code, answers = talk(host, *lines, request(8, "lock"))
    assert code == 0
    assert len(answers) == len(lines) + 1
    assert answers[-1] == {"id": 8, "ok": None}


def test_a_line_without_end_is_not_kept_in_memory(
    host: Rooted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.entry.session._MAX_LINE", 1000)
    code, (answer,) = talk(host, b"x" * 1001, request(8, "lock"))
    assert code == 2
    assert "larger than" in answer["error"]["seen"]


def test_names_that_are_no_text_reach_the_other_end() -> None:
    out = io.BytesIO()
    Line(out).send({"ok": "/etc/\udcff é"})
    assert json.loads(out.getvalue()) == {"ok": "/etc/\udcff é"}


# ---- a whole plan, over the wire -----------------------------------------------------------------


def test_a_plan_from_begin_to_end(tmp_path: Path) -> None:
    host = kubeadm_host(tmp_path)
    order = {"plan": PLAN.id, "token": 1}
    code, answers = talk(
        host,
        request(1, "begin", plan=plan_to_plain(PLAN), holder="ops", token=1),
        request(2, "step", step="01", **order),
        request(3, "end", kind="rolled-back", **order),
        request(4, "undo", step="01", **order),
        request(5, "end", kind="rolled-back", **order),
        request(6, "step", step="01", **order),
        request(7, "plan", plan=PLAN.short_id),
        request(8, "begin", plan=plan_to_plain(PLAN), holder="ops", token=1),
    )
    last = {a["id"]: a for a in answers if "progress" not in a}
    assert code == 0
    assert last[1]["ok"] == {"state": "open", "done": [], "begun": [], "new": True}
    assert last[2]["ok"]["outcome"] == "done"
    assert "was begun and not undone" in last[3]["error"]["seen"]
    assert last[4]["ok"]["outcome"] == "undone"
    assert last[5] == {"id": 5, "ok": None}
    assert last[6]["error"]["kind"] == "locked"
    assert last[7]["ok"] == plan_to_plain(PLAN)
    assert "holds token 1" in last[8]["error"]["seen"]
    assert (tmp_path / MANIFEST[1:]).exists()


def test_a_plan_that_is_refused_leaves_no_journal(tmp_path: Path) -> None:
    host = kubeadm_host(tmp_path)
    other = plan_of(("copy_data", {}))
    _code, answers = talk(
        host,
        request(1, "begin", plan=plan_to_plain(PLAN), holder="ops", token=1),
        request(2, "begin", plan=plan_to_plain(other), holder="ops", token=2),
        request(3, "journal"),
    )
    assert answers[1]["error"]["kind"] == "locked"
    assert [facts["plan"] for facts in answers[2]["ok"]] == [PLAN.id]


def test_an_altered_plan_is_refused(tmp_path: Path) -> None:
    host = kubeadm_host(tmp_path)
    altered = plan_to_plain(PLAN)
    altered["stages"][0]["steps"][0]["args"]["reason"] = "another"
    _code, (answer,) = talk(host, request(1, "begin", plan=altered, holder="x", token=1))
    assert "does not match its own hash" in answer["error"]["seen"]
    assert read_lock(host) is None


# ---- a real process, whose line drops ------------------------------------------------------------

AGENT = """
import sys
from agent.entry.session import main_session
from tests.unit.rooted import Rooted
sys.exit(main_session(Rooted(sys.argv[1])))
"""


def agent(root: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", AGENT, str(root)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.parametrize("how", ["end of input", "SIGHUP", "nobody reads"])
def test_a_dropped_line_ends_no_step_in_the_middle(tmp_path: Path, how: str) -> None:
    host = kubeadm_host(tmp_path)
    process = agent(tmp_path)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    begin = request(1, "begin", plan=plan_to_plain(PLAN), holder="ops", token=1)
    step = request(2, "step", plan=PLAN.id, step="01", token=1)
    process.stdin.write(begin + b"\n" + step + b"\n")
    process.stdin.flush()
    process.stdout.readline()  # begun; the step is under way
    if how == "nobody reads":
        process.stdout.close()
    if how == "SIGHUP":
        time.sleep(0.05)
        os.kill(process.pid, signal.SIGHUP)
    process.stdin.close()
    assert process.wait(30) >= 0
    assert Journal.open(host, PLAN.id).done_steps() == ["01"]
    process.stdout.close()


def test_a_second_agent_is_told_of_the_first(tmp_path: Path) -> None:
    host = kubeadm_host(tmp_path)
    slow = plan_of(("stop_etcd", {"deadline": 60.0, "hold": 30.0}))
    (tmp_path / MANIFEST[1:]).rename(tmp_path / "etc/parked.yaml")
    process = agent(tmp_path)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    begin = request(1, "begin", plan=plan_to_plain(slow), holder="ops", token=1)
    step = request(2, "step", plan=slow.id, step="01", token=1)
    process.stdin.write(begin + b"\n" + step + b"\n")
    process.stdin.flush()
    process.stdout.readline()
    try:
        deadline = time.monotonic() + 10
        while Journal.open(host, slow.id).last("01") is None and time.monotonic() < deadline:
            time.sleep(0.01)
        _code, (refused,) = talk(host, step)
        assert refused["error"]["kind"] == "locked"
        assert f"another agent (pid {process.pid})" in refused["error"]["seen"]
    finally:
        process.kill()
        process.communicate()
    _code, answers = talk(host, request(3, "step", plan=slow.id, step="02", token=1))
    assert "no step '02'" in answers[0]["error"]["seen"]  # the dead one's lock is free
