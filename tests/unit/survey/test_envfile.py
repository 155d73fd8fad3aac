"""Environment files, read as systemd reads them: expectations taken from systemd's own tests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.survey.envfile import is_plain, parse_env, quoted_like, values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=b\n", {"A": "b"}),
        ("A=b", {"A": "b"}),
        ("A=\n", {"A": ""}),
        ("  A = b \t\r\nB=c\r\n", {"A": "b", "B": "c"}),
        ("A=\"b c\"\nB='d e'\n", {"A": "b c", "B": "d e"}),
        ("A=\"b\"'c' d\n", {"A": "bcd"}),
        ('A=b"c"\n', {"A": 'b"c"'}),
        ("A=b # no comment\n", {"A": "b # no comment"}),
        ("# A=b\n; B=c\nC=d\n", {"C": "d"}),
        ("A=1\nA=2\n", {"A": "2"}),
        ("export A=b\n", {}),
        ("no assignment\nA=b\n", {"A": "b"}),
        ("A=b\\\nc\nB=d\n", {"A": "bc", "B": "d"}),
        ("A=b\\$c\n", {"A": "b$c"}),
        ('A="b\\"c\\d"\n', {"A": 'b"c\\d'}),
        ('A="b\nc"\nB=d\n', {"A": "b\nc", "B": "d"}),
        ("A='b\\'\n", {"A": "b\\"}),
        ('A="never ends', {"A": "never ends"}),
        ("A=b\u3000### c\n", {"A": "b\u3000### c"}),
        ("A=${B}\n", {"A": "${B}"}),
    ],
)
def test_what_systemd_takes(text: str, expected: dict[str, str]) -> None:
    assert values(parse_env(text)) == expected


def test_where_a_value_stands() -> None:
    text = "#c\n  ETCD_A='x y' \r\nETCD_B=1\r\n"
    first, second = parse_env(text)
    assert text[first.start : first.end] == "'x y'"
    assert (first.line, second.line) == (2, 3)
    assert text[second.start : second.end] == "1"
    assert text[second.line_start :].startswith("ETCD_B")


@pytest.mark.parametrize(
    "value", ["a=b,c=https://[::1]:2380", 'with "quotes"', "two words", "$x\\"]
)
@pytest.mark.parametrize("written", ["x", '"x"', "'x'"])
def test_a_value_written_like_another_reads_back(written: str, value: str) -> None:
    text = f"A={written}\n"
    (found,) = parse_env(text)
    assert is_plain(text, found)
    assert values(parse_env(f"A={quoted_like(text, found, value)}\n")) == {"A": value}


_LINE = st.sampled_from(
    ["A=b", "A='b c'", 'B="x"', "# c", "", "export D=e", "E=a b", "F=\\", "G='x", 'H="y', "I", "=z"]
)


@given(st.lists(_LINE, max_size=8), st.sampled_from(["\n", "\r\n"]), st.data())
def test_a_changed_value_changes_nothing_else(
    lines: list[str], end: str, data: st.DataObject
) -> None:
    text = end.join(lines)
    before = parse_env(text)
    plain = [a for a in before if a.is_valid and is_plain(text, a)]
    if not plain:
        return
    chosen = data.draw(st.sampled_from(plain))
    value = data.draw(st.sampled_from(["new", "a=b,c=d", "two words", "https://[::1]:2380"]))
    after = text[: chosen.start] + quoted_like(text, chosen, value) + text[chosen.end :]
    expected = [(a.name, value if a == chosen else a.value, a.line) for a in before]
    assert [(a.name, a.value, a.line) for a in parse_env(after)] == expected


@given(st.text(alphabet="AB=\\\"'# \t\r\n$é", max_size=60))
def test_any_text_is_read(text: str) -> None:
    for found in parse_env(text):
        assert 0 <= found.line_start <= found.start <= found.end <= len(text)
