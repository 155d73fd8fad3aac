from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import UsageError
from agent.model.codec import canonical, digest, from_plain, parse_json, to_plain
from agent.model.facts import Lock
from agent.model.plan import FORMAT, Plan, Promise, Stage, Step, plan_from_plain, plan_to_plain


class Colour(Enum):
    """Written as its value."""

    RED = "red"


@dataclass(frozen=True)
class Inner:
    """A part."""

    urls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    """Every kind of field that facts and plans have."""

    name: str
    count: int = 0
    share: float = 0.0
    colour: Colour = Colour.RED
    inner: Optional[Inner] = None
    pairs: tuple[tuple[str, int], ...] = ()
    words: Optional[dict[str, str]] = None


FULL = Outer("a", 1, 0.5, Colour.RED, Inner(("x", "y")), (("p", 1),), {"k": "v"})


def test_what_was_written_is_read_back() -> None:
    assert from_plain(Outer, json.loads(json.dumps(to_plain(FULL)))) == FULL


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (None, "expected an object, found NoneType"),
        ([], "expected an object, found list"),
        ({}, "name"),
        ({"name": 1}, "name"),
        ({"name": "a", "count": "1"}, "count"),
        ({"name": "a", "count": 1.5}, "count"),
        ({"name": "a", "unknown": 1}, "unknown"),
        ({"name": "a", "colour": "blue"}, "blue"),
        ({"name": "a", "inner": {"urls": 3}}, "int"),
        ({"name": "a", "inner": {"urls": [], "x": 1}}, "x"),
        ({"name": "a", "inner": []}, "inner"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(data: Any, seen: str) -> None:
    with pytest.raises(UsageError, match=seen):
        from_plain(Outer, data, "thing")


def test_the_hash_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert canonical({"b": 1, "a": "é"}) == '{"a":"é","b":1}'.encode()


TEXT = st.text(st.characters(codec=None))  # lone surrogates too: names that are no UTF-8
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_canonical_text_says_the_value_and_is_a_fixed_point(value: Any) -> None:
    text = canonical(value)
    assert b"\n" not in text
    assert json.loads(text) == value
    assert canonical(json.loads(text)) == text


# ---- plans ---------------------------------------------------------------------------------------


@given(
    args=st.dictionaries(st.text(), JSON, max_size=3),
    hosts=st.lists(st.text(min_size=1), min_size=1, max_size=3, unique=True),
    created=st.floats(0, 4e9),
    texts=st.lists(st.text(), max_size=3),
)
def test_any_plan_travels_unchanged(
    args: dict[str, Any], hosts: list[str], created: float, texts: list[str]
) -> None:
    steps = tuple(Step(f"{i:02}", h, "fence", args, "why") for i, h in enumerate(hosts))
    stages = (Stage("one", steps, tuple(hosts), parallel=True), Stage("two", ()))
    plan = Plan(
        FORMAT, "test", "a test", created, dict.fromkeys(hosts, ""), stages,
        Promise(tuple(hosts)), tuple(texts),
    ).with_id()  # fmt: skip
    assert plan_from_plain(json.loads(canonical(plan_to_plain(plan)))) == plan
    assert plan.with_id() == plan
    assert [s.id for s in plan.steps()] == [s.id for s in steps]


def a_plan() -> Plan:
    stages = (Stage("one", (Step("01", "m0", "fence", {"reason": "x"}, "why"),)),)
    return Plan(FORMAT, "t", "s", 1.0, {"m0": ""}, stages, Promise(("m0",))).with_id()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("summary",), "another"),
        (("created",), 2.0),
        (("hosts",), {"m0": "10.0.0.9"}),
        (("stages", 0, "steps", 0, "host"), "m1"),
        (("stages", 0, "steps", 0, "args", "reason"), "y"),
        (("stages", 0, "steps", 0, "final"), True),
        (("promise", "voters"), ["m1"]),
        (("id",), "0" * 64),
        (("id",), ""),
    ],
)
def test_an_altered_plan_is_noticed(path: tuple[Any, ...], value: Any) -> None:
    plain = plan_to_plain(a_plan())
    place: Any = plain
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(UsageError, match="does not match its own hash"):
        plan_from_plain(plain)


def test_another_format_is_refused_as_such() -> None:
    with pytest.raises(UsageError, match="plan format 2"):
        plan_from_plain(plan_to_plain(replace(a_plan(), format=2).with_id()))


@pytest.mark.parametrize("data", [None, {}, [], "plan", {"stages": 1}])
def test_what_is_no_plan_is_a_usage_error(data: Any) -> None:
    with pytest.raises(UsageError, match="plan"):
        plan_from_plain(data)


# ---- JSON that anybody may have written ----------------------------------------------------------

HOSTILE = {
    "a key twice": (b'{"a": 1, "b": {"c": 1, "c": 2}}', "'c' is given twice"),
    "NaN": (b'{"a": NaN}', "NaN is no number"),
    "infinity": (b'{"a": -Infinity}', "-Infinity is no number"),
    "a float beyond all": (b'{"a": 1e999}', "inf is no number"),
    "65 bits": (b'{"a": 99999999999999999999}', "more than 64 bits"),
    "a megabyte of digits": (b'{"a": ' + b"9" * 1_000_000 + b"}", "more than 64 bits"),
    "deep lists": (b"[" * 1_000_000, "nested too deeply"),
    "deep objects": (b'{"a":' * 100_000, "nested too deeply"),
    "deep, but whole": (b"[" * 100 + b"]" * 100, "nested more than 64"),
    "a NUL byte": (b'{"a": "\0"}', "Invalid control character"),
    "no UTF-8": (b'{"a": "\xc3\x28"}', "not UTF-8 at offset 7"),
    "UTF-16": ("{}".encode("utf-16"), "not UTF-8 at offset 0"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "BOM"),
    "two values": (b"{} {}", "Extra data"),
    "nothing": (b"", "Expecting value"),
    "YAML": (b"a: !!python/name:os.system", "Expecting value"),
}


@pytest.mark.reliability(
    "Hostile input",
    "a plan, journal, lock or fence file holds keys twice, NaN, huge numbers, depth, NUL bytes or"
    " bytes that are no text: a clear error each, in bounded time",
)
@pytest.mark.parametrize("name", HOSTILE)
def test_json_that_is_refused(name: str) -> None:
    data, told = HOSTILE[name]
    with pytest.raises(UsageError) as caught:
        parse_json(data, "lock.json")
    assert caught.value.seen.startswith("lock.json: ")
    assert told in caught.value.seen
    assert len(caught.value.seen) < 600


@pytest.mark.parametrize("data", [b" {}\r\n", b'{"a": "\\u0000\\ud800"}', b"[1, -2.5, null, true]"])
def test_json_that_is_taken(data: bytes) -> None:
    assert parse_json(data, "x") == json.loads(data)


WRONG = [
    ({"plan": "p", "holder": "h", "token": True, "time": 1.0}, "token"),
    ({"plan": "p", "holder": "h", "token": 1.5, "time": 1.0}, "token"),
    ({"plan": "p", "holder": "h", "token": "1", "time": 1.0}, "token"),
    ({"plan": "p", "holder": "h", "token": 2**65, "time": 1.0}, "64 bits"),
    ({"plan": "p", "holder": "h", "token": 1, "time": float("nan")}, "nan"),
    ({"plan": "p", "holder": "h", "token": 1, "time": False}, "time"),
    ({"plan": ["p"], "holder": "h", "token": 1, "time": 1.0}, "plan"),
    ({"plan": "p", "holder": "h", "token": 1, "time": 1.0, "more": 1}, "more"),
    ({"plan": "p", "holder": "h", "token": 1}, "time"),
    ([], "an object"),
    (None, "an object"),
]


@pytest.mark.reliability(
    "Hostile input", "a lock has unknown keys, missing ones, or values of another type: refused"
)
@pytest.mark.parametrize(("data", "told"), WRONG)
def test_values_of_another_type(data: object, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        from_plain(Lock, data, "lock.json")
