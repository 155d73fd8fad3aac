"""A file of variables that a shell reads with `source`: its assignments, and where each one stands.

Only what the file can be known to mean is read: NAME=VALUE with a value that is plain, quoted, or
both, as OpenShift 3.11's /etc/etcd/etcd.conf is written (openshift-ansible release-3.11,
roles/etcd/templates/etcd.conf.j2). A command, or a value that a shell would work out, is told of.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.survey.envfile import Assignment

_PART = r"""(?:[^\s'"\\$`;&|<>()]|'[^'\n]*'|"(?:[^"\\$`\n]|\\["\\$`])*")"""
_SETTING = re.compile(
    rf"(?P<indent>[ \t]*)(?P<head>(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)=)"
    rf"(?P<value>{_PART}*)(?P<rest>[ \t\r]*|[ \t]+#[^\n]*)"
)
_NOTHING = re.compile(r"[ \t\r]*(?:#[^\n]*)?")
_TOKEN = re.compile(r"""'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]|\\.)*)"|(?P<bare>[^'"]+)""")


@dataclass(frozen=True)
class Sourced:
    """What a shell gets out of the file. unknown: lines (from 1) that may do anything."""

    assignments: tuple[Assignment, ...]
    unknown: tuple[int, ...] = ()


def parse_sourced(text: str) -> Sourced:
    """Every assignment in order; of one given twice the last counts.

    A carriage return at the end of a line is part of the value to a shell, and kept as such.
    """
    found: list[Assignment] = []
    unknown: list[int] = []
    place = 0
    for number, line in enumerate(text.split("\n"), 1):
        match = _SETTING.fullmatch(line)
        if match:
            found.append(_assignment(match, number, place))
        elif not _NOTHING.fullmatch(line):
            unknown.append(number)
        place += len(line) + 1
    return Sourced(tuple(found), tuple(unknown))


def _assignment(match: re.Match[str], number: int, place: int) -> Assignment:
    value = "".join(map(_token, _TOKEN.finditer(match["value"])))
    ending = "\r" if match["rest"].startswith("\r") else ""
    return Assignment(
        match["name"], value + ending, number, place,
        place + match.start("value"), place + match.end("value"), True,
    )  # fmt: skip


def _token(token: re.Match[str]) -> str:
    if token["single"] is not None:
        return token["single"]
    if token["double"] is not None:
        return re.sub(r'\\(["\\$`])', r"\1", token["double"])
    return token["bare"]
