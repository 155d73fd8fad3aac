"""An EnvironmentFile= of systemd: its assignments, and where in the text each value stands.

As systemd reads it (src/basic/env-file.c, parse_env_file_internal), not as a shell would: no
`export`, no `$VARIABLE`, and a comment behind a value is part of the value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_WHITESPACE = " \t\n\r"
_NEWLINE = "\n\r"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NEEDS_ESCAPE = '"\\`$'


@dataclass(frozen=True)
class Assignment:
    """NAME=value. start, end: the value as written; line_start: of the line, from its first blank.

    line counts from 1. is_valid: systemd takes it; it drops `export NAME=…`.
    """

    name: str
    value: str
    line: int
    line_start: int
    start: int
    end: int
    is_valid: bool


def parse_env(text: str) -> tuple[Assignment, ...]:
    """Every assignment in order; of one given twice, the last counts."""
    return tuple(_Reader(text).read())


def values(assignments: tuple[Assignment, ...]) -> dict[str, str]:
    """What systemd would put into the environment."""
    return {a.name: a.value for a in assignments if a.is_valid}


def is_plain(text: str, assignment: Assignment) -> bool:
    """True if the value stands on one line, in no quotes or in one pair around all of it."""
    return (
        quoted_like(text, assignment, assignment.value) == text[assignment.start : assignment.end]
    )


def quoted_like(text: str, assignment: Assignment, value: str) -> str:
    """`value` written in the quotes that the present one has."""
    written = text[assignment.start : assignment.end]
    if written[:1] == "'" and "'" not in value:
        return f"'{value}'"
    if written[:1] in ('"', "'") or value != value.strip(_WHITESPACE) or value[:1] in ("'", '"'):
        escaped = re.sub(r'(["\\`$])', r"\\\1", value)
        return f'"{escaped}"'
    return value.replace("\\", "\\\\")


class _Reader:
    """The state machine, one line at a time where it can be."""

    def __init__(self, text: str) -> None:
        self.text, self.place = text, 0

    def read(self) -> list[Assignment]:
        found = []
        text = self.text
        while self.place < len(text):
            self._skip(_WHITESPACE)
            if self.place >= len(text):
                break
            if text[self.place] in "#;":
                self._comment()
                continue
            key_start = self.place
            while self.place < len(text) and text[self.place] not in "=" + _NEWLINE:
                self.place += 1
            if self.place >= len(text) or text[self.place] in _NEWLINE:
                continue  # no `=`: systemd reads on
            name = text[key_start : self.place].rstrip(_WHITESPACE)
            self.place += 1
            found.append(self._value(name, key_start))
        return found

    def _skip(self, characters: str) -> None:
        while self.place < len(self.text) and self.text[self.place] in characters:
            self.place += 1

    def _comment(self) -> None:
        """To the end of its line; before version 254 a backslash there carried it on."""
        while self.place < len(self.text) and self.text[self.place] not in _NEWLINE:
            self.place += 1

    def _value(self, name: str, key_start: int) -> Assignment:
        text = self.text
        self._skip(" \t")
        start, end = self.place, self.place
        value = ""
        while self.place < len(text) and text[self.place] not in _NEWLINE:
            here = text[self.place]
            if here in " \t":
                self._skip(" \t")
            elif here in "'\"":
                value += self._quoted(here)
                end = self.place
            else:
                value += self._bare()
                end = self.place
                break
        end = start + len(text[start:end].rstrip(_WHITESPACE))
        line_start = max(text.rfind("\n", 0, key_start), text.rfind("\r", 0, key_start)) + 1
        line = text.count("\n", 0, key_start) + 1
        return Assignment(
            name, value, line, line_start, start, end,
            bool(_NAME.fullmatch(name)) and _is_text(value),
        )  # fmt: skip

    def _quoted(self, quote: str) -> str:
        """The inside of quotes, which may go over several lines."""
        text, value = self.text, ""
        self.place += 1
        while self.place < len(text) and text[self.place] != quote:
            here = text[self.place]
            if quote == '"' and here == "\\" and self.place + 1 < len(text):
                self.place += 1
                here = text[self.place]
                if here in _NEEDS_ESCAPE:
                    value += here
                elif here != "\n":
                    value += "\\" + here
            else:
                value += here
            self.place += 1
        self.place = min(self.place + 1, len(text))
        return value

    def _bare(self) -> str:
        """To the end of the line; quotes mean nothing here, a backslash takes the next as it is."""
        text, value, kept = self.text, "", 0
        while self.place < len(text) and text[self.place] not in _NEWLINE:
            here = text[self.place]
            if here == "\\":
                self.place += 1
                if self.place < len(text) and text[self.place] not in _NEWLINE:
                    value += text[self.place]
                kept = len(value)
            else:
                value += here
            self.place = min(self.place + 1, len(text))
        return value[:kept] + value[kept:].rstrip(" \t")


def _is_text(value: str) -> bool:
    """As env_value_is_valid: UTF-8, and no control characters but tab and newline."""
    return not any((ord(c) < 32 and c not in "\t\n") or 0xDC80 <= ord(c) <= 0xDCFF for c in value)
