"""The text of a systemd unit or drop-in: its settings, and where each word of them stands.

Syntax: systemd.syntax(7); src/shared/conf-parser.c (config_parse), src/basic/extract-word.c.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_BLANK = " \t\n\r"
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
           "\\": "\\", '"': '"', "'": "'", "s": " "}  # fmt: skip
_NUMBER = re.compile(r"x[0-9a-fA-F]{2}|[0-7]{3}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}")
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_SPECIFIER = re.compile(r"%(.?)", re.DOTALL)


@dataclass(frozen=True)
class Setting:
    """One `Key=value` line. places: for each character of value its offset in the file's text.

    line counts from 1; of a value over several lines it is the first.
    """

    section: str
    key: str
    value: str
    places: tuple[int, ...]
    line: int
    end: int


@dataclass(frozen=True)
class Word:
    """A word of a value, quotes and escapes resolved. start, end: offsets in the file's text.

    is_one_line: it is not broken by a backslash at the end of a line.
    """

    text: str
    start: int
    end: int
    is_one_line: bool


def parse_unit(text: str) -> tuple[Setting, ...]:
    """All settings in order; lines that systemd ignores are left out."""
    found = []
    section = ""
    for value, places, line in _logical_lines(text):
        stripped = value.strip(_BLANK)
        if stripped.startswith("[") and stripped.endswith("]"):
            section = stripped[1:-1]
            continue
        key, equals, _ = value.partition("=")
        if not equals:
            continue
        start = len(key) + 1
        while start < len(value) and value[start] in _BLANK:
            start += 1
        end = len(value)
        while end > start and value[end - 1] in _BLANK:
            end -= 1
        after = (places[start - 1] if start else 0) + 1
        found.append(
            Setting(section, key.strip(_BLANK), value[start:end], tuple(places[start:end]), line,
                    places[end - 1] + 1 if end > start else after)
        )  # fmt: skip
    return tuple(found)


def _logical_lines(text: str) -> Iterator[tuple[str, list[int], int]]:
    """(text, offset of each character, number) of lines, those that end in a backslash joined.

    Comments are left out, inside a continued line too.
    """
    held: list[str] = []
    places: list[int] = []
    first = 0
    offset = 0
    for number, raw in enumerate(_LINE.findall(text), 1):
        line = raw.rstrip("\r\n")
        here, offset = offset, offset + len(raw)
        skipped = 1 if number == 1 and line.startswith("\ufeff") else 0
        line = line[skipped:]
        if line.lstrip(_BLANK).startswith(("#", ";")):
            continue
        first = first or number
        held += line
        places += range(here + skipped, here + skipped + len(line))
        if _is_continued(held):
            held[-1] = " "
            continue
        yield "".join(held), places, first
        held, places, first = [], [], 0
    if held:
        yield "".join(held), places, first


def _is_continued(characters: list[str]) -> bool:
    count = 0
    while count < len(characters) and characters[-1 - count] == "\\":
        count += 1
    return count % 2 == 1


def words(setting: Setting) -> tuple[Word, ...]:
    """The words of a value: split at blanks, quotes anywhere, C escapes, unknown ones kept."""
    value, place = setting.value, 0
    found: list[Word] = []
    while True:
        while place < len(value) and value[place] in _BLANK:
            place += 1
        if place >= len(value):
            return tuple(found)
        start = place
        text, place = _word(value, place)
        first, last = setting.places[start], setting.places[place - 1] + 1
        found.append(Word(text, first, last, last - first == place - start))


def _word(value: str, place: int) -> tuple[str, int]:
    text, quote = "", ""
    while place < len(value):
        here = value[place]
        if not quote and here in _BLANK:
            break
        if here == "\\":
            more, place = _escape(value, place + 1)
            text += more
            continue
        if quote:
            text, quote = (text, "") if here == quote else (text + here, quote)
        elif here in "'\"":
            quote = here
        else:
            text += here
        place += 1
    return text, place


def _escape(value: str, place: int) -> tuple[str, int]:
    """(character, next place) of what follows a backslash."""
    number = _NUMBER.match(value, place)
    if number:
        digits = number.group()
        code = int(digits, 8) if digits[0].isdigit() else int(digits[1:], 16)
        # Neither NUL nor half a character is one (cunescape_one); systemd drops such a line.
        is_character = 0 < code < 0xD800 or 0xE000 <= code < 0x110000
        return chr(code) if is_character else "\\" + number.group(), number.end()
    follows = value[place : place + 1]
    return _SIMPLE.get(follows, "\\" + follows), min(place + 1, len(value))


def specifiers(text: str, known: dict[str, str], unknown: Callable[[str], None]) -> str:
    """Replace %n and the like; one that is not known stays, and is told."""

    def value(match: re.Match[str]) -> str:
        letter = match.group(1)
        if letter == "%":
            return "%"
        if letter not in known:
            unknown(match.group())
            return match.group()
        return known[letter]

    return _SPECIFIER.sub(value, text)
