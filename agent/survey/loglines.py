"""One log line of etcd or the kubelet, whatever wrapped it: time, level, message."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Optional

from agent.survey.redact import shown_line
from agent.survey.timestamps import parse_time

MAX_LINE = 16 * 1024
_FIELDS = (
    "alarm", "path", "remote-peer-id", "remote-member-id", "local-member-version",
    "current-server-version", "target-version", "determined-cluster-version", "took",
    "expected-duration", "clock-drift",
)  # fmt: skip
_CRI = re.compile(r"\s*(\d{4}-\d\d-\d\dT\S+) (?:stdout|stderr) ([FP])(?: (.*))?$", re.DOTALL)
_COMPOSE = re.compile(r"[\w.-]+\s+\| (.*)$", re.DOTALL)
_KERNEL = re.compile(r"\[ *\d+\.\d+\] [\w.@-]+\[\d+\]: (.*)$", re.DOTALL)
_JOURNAL = re.compile(
    r"(?:(\d{4}-\d\d-\d\dT\S+)|\S{1,12} {1,2}\d{1,2} \d\d:\d\d:\d\d) \S+ [\w.@-]+\[\d+\]: (.*)$",
    re.DOTALL,
)
_CAPNSLOG = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) ([A-Z]) \| (.*)$", re.DOTALL)
_GO_LOG = re.compile(r"(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) (.*)$", re.DOTALL)
_GRPC = re.compile(r"(INFO|WARNING|ERROR|FATAL): (\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) (.*)$", re.DOTALL)
_KLOG = re.compile(r"([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ ([\w.-]+:\d+)\] (.*)$", re.DOTALL)
_CONSOLE = re.compile(r"(\d{4}-\d\d-\d\dT\S+)\t([A-Za-z]+)\t(?:\S+:\d+\t)?(.*)$", re.DOTALL)
_CUT_FIELD = re.compile(r'"(level|ts|msg|error)":"((?:[^"\\]|\\.)*)')
_LETTERS = {
    "T": "debug", "D": "debug", "N": "info", "I": "info", "W": "warn", "E": "error",
    "C": "fatal", "F": "fatal",
}  # fmt: skip
_WORDS = {"warning": "warn", "dpanic": "panic"}


@dataclass(frozen=True)
class LogLine:
    """One message. time: 0.0 where the line tells none. level: zap's words, empty if unknown."""

    time: float
    level: str
    message: str
    origin: str = "etcd"


def normalise(raw: str, origin: str = "etcd") -> LogLine:
    """Read one line: prefixes of CRI, docker, compose, journald and the kernel are taken off.

    Known: zap's JSON (also cut off) and console format (etcd 3.4 and later), capnslog (2.2 to
    3.4), Go's log (2.1), gRPC's and the kubelet's own. Anything else is a message as it stands.
    Values of environment variables are left out.
    """
    text = raw.rstrip("\r\n")[:MAX_LINE]
    text, outer = _unwrap(text)
    line = _read(text)
    message = " ".join(shown_line(line.message).split())
    return LogLine(line.time or outer, line.level, message, origin)


def join_cri(lines: Iterable[str]) -> Iterator[str]:
    """Join the pieces of a long line that a CRI runtime split (`P` parts, then `F`).

    Source: kubernetes design-proposals/node/kubelet-cri-logging.md.
    """
    held: list[str] = []
    stamp = ""
    for raw in lines:
        found = _CRI.match(raw)
        if not found:
            yield raw
            continue
        stamp, flag, content = found.group(1), found.group(2), found.group(3) or ""
        held.append(content)
        if flag == "F":
            yield f"{stamp} stderr F {''.join(held)}"
            held = []
    if held:
        yield f"{stamp} stderr F {''.join(held)}"


def in_order(lines: Iterable[LogLine]) -> list[LogLine]:
    """Lines of several origins by time; one without a time stays behind the line before it."""
    last = 0.0
    keyed = []
    for line in lines:
        last = line.time or last
        keyed.append((last, line))
    return [line for _, line in sorted(keyed, key=lambda pair: pair[0])]


def _unwrap(text: str) -> tuple[str, float]:
    """(the line itself, the time its wrapping gives)."""
    time = 0.0
    found = _CRI.match(text)
    if found:
        time, text = parse_time(found.group(1)), found.group(3) or ""
    elif text.startswith('{"log":'):
        record = _json(text)
        if record is not None and isinstance(record.get("log"), str):
            time, text = parse_time(str(record.get("time", ""))), record["log"].rstrip("\n")
    for pattern in (_COMPOSE, _KERNEL):
        found = pattern.match(text)
        if found:
            text = found.group(1)
    found = _JOURNAL.match(text)
    if found:
        time, text = parse_time(found.group(1)) or time, found.group(2)
    return text, time


def _read(text: str) -> LogLine:
    if text.startswith("{"):
        record = _json(text)
        if record is None or not isinstance(record.get("msg"), str):
            record = dict(_CUT_FIELD.findall(text))
        if "msg" in record:
            return _zap(record)
    for pattern, order in (
        (_CAPNSLOG, (1, 2, 3)), (_GRPC, (2, 1, 3)), (_CONSOLE, (1, 2, 3)), (_GO_LOG, (1, 0, 2)),
        (_KLOG, (0, 1, 3)),
    ):  # fmt: skip
        found = pattern.match(text)
        if found:
            time, level, message = (found.group(n) if n else "" for n in order)
            return LogLine(parse_time(time), _level(level), message)
    level = "panic" if text.startswith("panic: ") else ""
    return LogLine(0.0, level, text)


def _zap(record: dict[str, Any]) -> LogLine:
    message = str(record["msg"])
    error = record.get("error")
    if error:
        message += f": {error}"
    extra = [f"{key}={record[key]}" for key in _FIELDS if record.get(key)]
    if extra:
        message += f" ({', '.join(extra)})"
    stamp = record.get("ts")
    time = parse_time(stamp) if isinstance(stamp, (str, int, float)) else 0.0
    return LogLine(time, _level(str(record.get("level", ""))), message)


def _level(word: str) -> str:
    if len(word) == 1:
        return _LETTERS.get(word, "")
    return _WORDS.get(word.lower(), word.lower())


def _json(text: str) -> Optional[dict[str, Any]]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
