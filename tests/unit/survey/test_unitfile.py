"""The text of units, read as systemd reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.survey.unitfile import parse_unit, specifiers, words


def only(text: str) -> list[str]:
    (setting,) = parse_unit(text)
    return [word.text for word in words(setting)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ExecStart=/a b  c\n", ["/a", "b", "c"]),
        ("ExecStart = /a b\r\n", ["/a", "b"]),
        ("ExecStart=/a \\\n  b \\\n# a comment\n  c\n", ["/a", "b", "c"]),
        ("ExecStart=/a \\\r\n--b=c \\\r\n--d\r\n", ["/a", "--b=c", "--d"]),
        ("ExecStart=/a 'b c' \"d e\" f'g h'i\n", ["/a", "b c", "d e", "fg hi"]),
        ('ExecStart=/a "b\\"c" \\x41 \\101 \\s \\q\n', ["/a", 'b"c', "A", "A", " ", "\\q"]),
        ("ExecStart=/a \\\n\n--b\n", ["/a"]),
        ("\ufeffExecStart=/a\n", ["/a"]),
        ("ExecStart=/a \\\\\n", ["/a", "\\"]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert only(text) == expected


def test_sections_and_places() -> None:
    text = "[Unit]\nA=1\n\n[Service]\n; no\nExecStart=/etcd \\\n  --name x\nbroken\nB=\n"
    settings = parse_unit(text)
    assert [(s.section, s.key, s.line) for s in settings] == [
        ("Unit", "A", 2), ("Service", "ExecStart", 6), ("Service", "B", 9),
    ]  # fmt: skip
    found = words(settings[1])
    assert [text[w.start : w.end] for w in found] == ["/etcd", "--name", "x"]
    assert text[: settings[1].end].endswith("--name x")
    assert text[: settings[2].end].endswith("B=")


def test_a_word_over_two_lines_says_so() -> None:
    (setting,) = parse_unit('ExecStart=/etcd "a \\\nb"\n')
    assert [w.is_one_line for w in words(setting)] == [True, False]
    assert words(setting)[1].text == "a  b"


def test_specifiers() -> None:
    told: list[str] = []
    assert specifiers("%n-%%-%q%", {"n": "etcd.service"}, told.append) == "etcd.service-%-%q%"
    assert told == ["%q", "%"]


@given(st.text(alphabet="AB=[]\\\"'#; \t\r\n%$x0", max_size=80))
def test_any_text_is_read(text: str) -> None:
    for setting in parse_unit(text):
        for word in words(setting):
            assert 0 <= word.start < word.end <= len(text)


@given(st.lists(st.sampled_from(["--a=b", "'--c d'", "--e", '"--f=g"', "x"]), min_size=1),
       st.data())  # fmt: skip
def test_a_changed_word_changes_nothing_else(written: list[str], data: st.DataObject) -> None:
    text = "[Service]\nExecStart=/etcd \\\n  " + " \\\n  ".join(written) + "\nX=y\n"
    before = words(parse_unit(text)[0])
    chosen = data.draw(st.integers(1, len(before) - 1))
    word = before[chosen]
    after = words(parse_unit(text[: word.start] + "--new=1" + text[word.end :])[0])
    expected = [w.text for w in before]
    expected[chosen] = "--new=1"
    assert [w.text for w in after] == expected
