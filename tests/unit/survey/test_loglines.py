"""Log lines in every wrapping and format."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.survey.loglines import join_cri, normalise
from agent.survey.timestamps import parse_time

NEW_YEAR = 1704067200.0  # 2024-01-01T00:00:00Z


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2024-01-01T00:00:00Z", NEW_YEAR),
        ("2024-01-01T00:00:00.250Z", NEW_YEAR + 0.25),
        ("2024-01-01T00:00:00.123456789Z", NEW_YEAR + 0.123456789),
        ("2024-01-01T03:00:00+03:00", NEW_YEAR),
        ("2024-01-01T03:00:00.000+0300", NEW_YEAR),
        ("2023-12-31T22:30:00-01:30", NEW_YEAR),
        ("2024-01-01 00:00:00.000000", NEW_YEAR),
        ("2024/01/01 00:00:00", NEW_YEAR),
        ("1704067200000000000", NEW_YEAR),
        (1704067200000000000, NEW_YEAR),
        (1704067200.5, NEW_YEAR + 0.5),
        ("0001-01-01T00:00:00Z", 0.0),
        ("2024-13-01T00:00:00Z", 0.0),
        ("yesterday", 0.0),
        ("", 0.0),
        (None, 0.0),
        (-1, 0.0),
    ],
)
def test_times(value: object, seconds: float) -> None:
    assert parse_time(value) == pytest.approx(seconds)  # type: ignore[arg-type]


ZAP = '{"level":"fatal","ts":"2024-01-01T00:00:00Z","caller":"a.go:1","msg":"discovery failed","error":"why"}'  # noqa: E501


@pytest.mark.parametrize(
    ("raw", "time", "level", "message"),
    [
        (ZAP, NEW_YEAR, "fatal", "discovery failed: why"),
        (f"2024-01-01T00:00:01.5Z stderr F {ZAP}", NEW_YEAR, "fatal", "discovery failed: why"),
        (f"etcd-1   | {ZAP}", NEW_YEAR, "fatal", "discovery failed: why"),
        (f"Jan 01 00:00:00 m0 etcd[12]: {ZAP}", NEW_YEAR, "fatal", "discovery failed: why"),
        (json.dumps({"log": ZAP + "\n", "stream": "stderr", "time": "2024-01-01T00:00:09Z"}),
         NEW_YEAR, "fatal", "discovery failed: why"),
        ('{"level":"warn","ts":1704067200.0,"msg":"slow fdatasync","took":"2s"}',
         NEW_YEAR, "warn", "slow fdatasync (took=2s)"),
        ('{"level":"warn","ts":"2024-01-01T00:00:00Z","caller":"a","msg":"cut off he',
         NEW_YEAR, "warn", "cut off he"),
        ('{"level":"info","msg":7}', 0.0, "", '{"level":"info","msg":7}'),
        ("2024-01-01 00:00:00.000000 C | etcdmain: no", NEW_YEAR, "fatal", "etcdmain: no"),
        ("[188.1] etcd[4]: 2024/01/01 00:00:00 raft: a", NEW_YEAR, "", "raft: a"),
        ("WARNING: 2024/01/01 00:00:00 [core] grpc: x", NEW_YEAR, "warn", "[core] grpc: x"),
        ("2024-01-01T00:00:00.000Z\tINFO\ta/b.go:1\thello\t{}", NEW_YEAR, "info", "hello {}"),
        ('2024-01-01T00:00:00+0000 m0 kubelet[9]: E0101 00:00:00.1 9 w.go:1] "Err" err="x"',
         NEW_YEAR, "error", '"Err" err="x"'),
        ("6月 08 11:09:36 m0 etcd[1]: request cluster ID mismatch", 0.0, "",
         "request cluster ID mismatch"),
        ("2024-01-01T00:00:00Z stdout F", NEW_YEAR, "", ""),
        ("panic: assertion failed: tx closed", 0.0, "panic", "panic: assertion failed: tx closed"),
        ("plain words\r", 0.0, "", "plain words"),
        ("", 0.0, "", ""),
    ],
)  # fmt: skip
def test_formats(raw: str, time: float, level: str, message: str) -> None:
    line = normalise(raw)
    assert (line.time, line.level, line.message) == (time, level, message)


def test_parts_are_joined() -> None:
    stamp = "2024-01-01T00:00:00Z stderr"
    half = len(ZAP) // 2
    lines = [f"{stamp} P {ZAP[:half]}", f"{stamp} F {ZAP[half:]}", "loose", f"{stamp} P cut"]
    joined = list(join_cri(lines))
    assert [normalise(raw).message for raw in joined] == ["discovery failed: why", "loose", "cut"]


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_line_is_read(text: str) -> None:
    assert "\n" not in normalise(text).message


@settings(deadline=None)
@given(st.text(alphabet='{}[]":,\\ 0129TZ-|PFIWE.etcdstderrmsglevel', max_size=120))
def test_any_line_like_a_log_is_read(text: str) -> None:
    assert len(normalise(f"2024-01-01T00:00:00Z stderr F {text}").message) <= len(text)
